# SPDX-License-Identifier: Apache-2.0
"""Ends a run whose representation has collapsed."""

from keras_ssl.callbacks.representation_monitor import RepresentationMonitor


class StopOnCollapse(RepresentationMonitor):
    """A `RepresentationMonitor` that also ends training at its first warning.

    What it warns of does not mend itself, and hours of a large machine are worth a look first. The
    last weights stay; `warned` says which sign it was.

    Args:
        *args: as `RepresentationMonitor`.
        **kwargs: as `RepresentationMonitor`.

    Attributes:
        stopped_step: number of updates at which it stopped, or `None`.

    Raises:
        ValueError: as `RepresentationMonitor`.

    Example:
        ```python
        model.fit(images, epochs=100, callbacks=[StopOnCollapse(images[:256])])
        ```
    """

    def on_train_begin(self, logs: dict | None = None) -> None:
        """Takes the first measurement; warnings of an earlier run do not count."""
        self.stopped_step: int | None = None
        self._before = len(self.warned)
        super().on_train_begin(logs)

    def _check(self, step: int) -> None:
        super()._check(step)
        if len(self.warned) > self._before and self.stopped_step is None:
            self.stopped_step = self.warned[-1][0]
            self.model.stop_training = True
