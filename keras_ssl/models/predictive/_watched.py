# SPDX-License-Identifier: Apache-2.0
"""Objectives that nothing but a slow teacher keeps from collapse are watched."""

from __future__ import annotations

from typing import Any

import keras

from keras_ssl.core import batches


class Watched:
    """An `SSLModel` whose `fit` watches the representation of some of its data.

    A class sets `watch`, the number of samples, 0 for none; they are watched unless `fit` is given
    a `callbacks.RepresentationMonitor` or cannot read its data twice.
    """

    watch: int = 0

    def fit(self, x: Any = None, *args: Any, **kwargs: Any):
        """Trains and watches for a collapse; arguments as `SSLModel.fit`."""
        callbacks = list(kwargs.pop("callbacks", None) or [])
        watching: Any = super()
        return watching.fit(x, *args, callbacks=callbacks + self._monitor(x, callbacks), **kwargs)

    def watched(self, samples: Any) -> Any:
        """What of some samples, as `fit` gets them, the model is called on."""
        return samples

    def _monitor(self, x: Any, given: list) -> list:
        """What watches some of the data, where nobody does."""
        # Not at the top: what watches models does not belong to them.
        from keras_ssl.callbacks import RepresentationMonitor

        if not self.watch or any(isinstance(one, RepresentationMonitor) for one in given):
            return []
        samples = batches.some_rows_or_none(x, self.watch)
        rows = 0 if samples is None else len(keras.tree.flatten(samples)[0])
        return [RepresentationMonitor(self.watched(samples))] if rows > 1 else []
