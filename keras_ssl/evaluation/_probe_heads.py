# SPDX-License-Identifier: Apache-2.0
"""Linear classifiers of many settings in one layer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops


@keras.saving.register_keras_serializable(package="keras_ssl")
class ProbeHeads(keras.layers.Layer):
    """Linear classifiers that start at zero, each with a rate and a weight decay of its own.

    A step of SGD of rate r on w is one of rate 1 on u where w is u times the root of r, momentum
    included, so that any plain optimizer trains all of them at once.

    Args:
        classes: number of classes.
        rates: learning rate of each.
        decays: weight decay of each, inside the loss.
        **kwargs: `name` and other arguments of `keras.layers.Layer`; float32 unless given.

    Call: `layer(x)` with features `(B, D)` gives logits `(B, heads, classes)`.
    """

    def __init__(
        self, classes: int, rates: Sequence[float], decays: Sequence[float], **kwargs: Any
    ):
        kwargs.setdefault("dtype", "float32")
        super().__init__(**kwargs)
        self.classes, self.rates, self.decays = int(classes), list(rates), list(decays)

    def build(self, input_shape: Any) -> None:
        """Makes weights for features `(B, D)`."""
        heads = len(self.rates)
        self.kernel = self.add_weight(
            shape=(heads, input_shape[-1], self.classes), initializer="zeros", name="kernel"
        )
        self.bias = self.add_weight(shape=(heads, self.classes), initializer="zeros", name="bias")

    def weights_of(self) -> tuple[Any, Any]:
        """Kernels `(heads, D, classes)` and offsets `(heads, classes)` as they act."""
        roots = ops.sqrt(ops.convert_to_tensor(self.rates, dtype="float32"))
        return self.kernel * roots[:, None, None], self.bias * roots[:, None]

    def call(self, inputs: Any, training: bool = False) -> Any:
        """Logits `(B, heads, classes)`."""
        kernel, bias = self.weights_of()
        if training and any(self.decays):
            squares = ops.sum(ops.square(kernel), axis=(1, 2))
            decays = ops.convert_to_tensor(self.decays, dtype="float32")
            self.add_loss(0.5 * ops.sum(decays * squares))
        return ops.einsum("bd,hdc->bhc", inputs, kernel) + bias

    def compute_output_shape(self, input_shape: Any) -> Any:
        """`(B, heads, classes)`."""
        return (input_shape[0], len(self.rates), self.classes)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        own = {"classes": self.classes, "rates": self.rates, "decays": self.decays}
        return {**super().get_config(), **own}


def summed_crossentropy(labels: Any, logits: Any) -> Any:
    """Cross-entropy of samples, summed over heads: none of them sees another.

    Args:
        labels: `(B, 1)` or `(B,)` class indices.
        logits: `(B, heads, classes)`.

    Returns:
        `(B,)`.
    """
    labels = ops.cast(ops.reshape(labels, (-1, 1, 1)), "int32")
    logs = ops.log_softmax(logits, axis=-1)
    wanted = ops.broadcast_to(labels, (*ops.shape(logits)[:2], 1))
    return -ops.sum(ops.take_along_axis(logs, wanted, axis=-1), axis=(1, 2))
