# SPDX-License-Identifier: Apache-2.0
"""The running mean of a teacher's logits."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from keras_ssl.core import distribution


@keras.saving.register_keras_serializable(package="keras_ssl")
class Center(keras.layers.Layer):
    """Keeps a running mean over batches of all replicas, saved with the model, without gradient.

    What is observed moves the centre only when `move` is called: a step then uses the centre of
    the steps before, and the micro-batches of an accumulated gradient count as one batch.

    Args:
        width: features of a vector.
        momentum: share of the old centre at each move.
        **kwargs: `name` and `dtype` of `keras.layers.Layer`; the centre is float32.

    Call: `center(x)` gives `x - center.value`, float32.

    Raises:
        ValueError: for a momentum outside [0, 1] or a width below 1.

    Source: DINO, Caron et al. 2021, equation 4.

    Example:

    ```python
    targets = losses.centered_softmax(logits, center.value, temperature=0.04)
    center.observe(logits)
    center.move()
    ```
    """

    def __init__(self, width: int, momentum: float = 0.9, **kwargs: Any):
        super().__init__(**{"dtype": "float32", **kwargs})
        if width < 1 or not 0.0 <= momentum <= 1.0:
            raise ValueError(
                f"Center needs a width of at least 1 and a momentum in [0, 1]; received {width} "
                f"and {momentum}."
            )
        self.width, self.momentum = int(width), float(momentum)
        state = {"dtype": "float32", "initializer": "zeros", "trainable": False}
        self.value = self.add_weight(shape=(self.width,), name="center", **state)
        self.total = self.add_weight(shape=(self.width,), name="observed", **state)
        self.batches = self.add_weight(shape=(), name="batches", **state)
        self.built = True

    def observe(self, x: Any) -> None:
        """Adds the mean of a batch to what the next `move` takes up.

        Args:
            x: `(…, width)` of this replica; the same number of rows on every replica.
        """
        mean = ops.mean(ops.reshape(ops.cast(x, "float32"), (-1, self.width)), axis=0)
        total = self.total + distribution.all_reduce_mean(ops.stop_gradient(mean))
        assign = distribution.assign_all
        assign([self.total, self.batches], [total, self.batches + 1.0], equal=True)

    def move(self, stepped: Any = True) -> None:
        """Moves the centre to what was observed since the last move.

        Args:
            stepped: boolean; where False nothing moves and observations are kept.
        """
        mean = self.total / ops.maximum(self.batches, 1.0)
        seen = ops.logical_and(stepped, self.batches > 0.0)
        moved = self.momentum * self.value + (1.0 - self.momentum) * mean
        new = [
            ops.where(seen, moved, self.value),
            ops.where(seen, ops.zeros_like(self.total), self.total),
            ops.where(seen, ops.zeros_like(self.batches), self.batches),
        ]
        distribution.assign_all([self.value, self.total, self.batches], new, equal=True)

    def call(self, inputs: Any) -> Any:
        """The centred vectors, float32."""
        return ops.cast(inputs, "float32") - self.value

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {**super().get_config(), "width": self.width, "momentum": self.momentum}
