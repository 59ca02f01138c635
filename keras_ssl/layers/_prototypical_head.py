# SPDX-License-Identifier: Apache-2.0
"""A classifier of token maps by the best match of each class's own prototypes."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from keras_ssl.core.keras_private import LossesOfReplica
from keras_ssl.losses.asymmetric import prototype_orthogonality

# Released code's: two channels of this are put behind features and prototypes, and it is added to
# lengths; the scale keeps cosines below 1.
_EPSILON, _CONSTANT_CHANNELS, _SCALE = 1e-4, 2, 1.01


@keras.saving.register_keras_serializable(package="keras_ssl")
class PrototypicalHead(LossesOfReplica, keras.layers.Layer):
    """Logits of classes, each from how well its prototypes match the best token of a map.

    A class has several prototypes; each is compared with every token by cosine, the best place
    counts, and weights of 0 and above sum a class's matches up. On frozen tokens it is the
    prototypical probe, which finds what a mean over tokens blurs, and `matches` says where.

    Args:
        classes: number of classes.
        prototypes: number of prototypes of a class, J.
        orthogonality: weight of `losses.prototype_orthogonality`, added to the loss in training.
        bias: start of a class's offset, or `None` without it. Below 0 a class is absent until its
            prototypes match; the -2 is our reading.
        seed: integer for the initial prototypes, or `None`.
        **kwargs: `name`, `dtype` and other arguments of `keras.layers.Layer`; float32 unless given.

    Call: `layer(tokens)` with tokens `(B, N, D)` or a map `(B, …, D)` gives `(B, classes)`.

    Raises:
        ValueError: for numbers below 1, a weight below 0, or inputs without places.

    Source: Can Masked Autoencoders Also Listen to Birds?, 2025, section 4, and released code
    (https://github.com/DBD-research-group/Bird-MAE), which has 20 prototypes, a rate for them of
    its own (0.04) and `losses.asymmetric_loss`.

    Example:
        >>> PrototypicalHead(10)(keras.ops.ones((4, 64, 192))).shape
        (4, 10)
    """

    def __init__(
        self,
        classes: int,
        prototypes: int = 20,
        orthogonality: float = 1.0,
        bias: float | None = -2.0,
        seed: int | None = None,
        **kwargs: Any,
    ):
        # Differences of small cosines do not survive half precision.
        kwargs.setdefault("dtype", "float32")
        super().__init__(**kwargs)
        if min(classes, prototypes) < 1 or orthogonality < 0:
            raise ValueError(
                "PrototypicalHead needs classes and prototypes of at least 1 and an orthogonality "
                f"from 0; received {classes}, {prototypes} and {orthogonality}."
            )
        self.classes, self.prototypes = int(classes), int(prototypes)
        self.orthogonality, self.start, self.seed = float(orthogonality), bias, seed

    def build(self, input_shape: Any) -> None:
        """Makes prototypes for tokens `(B, …, D)`."""
        if len(input_shape) < 3:
            raise ValueError(
                f"{self.name} takes tokens (B, N, D) or a map (B, …, D); received "
                f"{tuple(input_shape)}. Take tokens=True of an encoder."
            )
        start = keras.initializers.RandomUniform(0.0, 1.0, seed=self.seed)
        size = (self.classes, self.prototypes)
        self.kernel = self.add_weight(
            shape=(*size, input_shape[-1]), initializer=start, name="prototypes"
        )
        self.weight = self.add_weight(shape=size, initializer="ones", name="weight")
        self.bias = None
        if self.start is not None:
            offset = keras.initializers.Constant(self.start)
            self.bias = self.add_weight(shape=(self.classes,), initializer=offset, name="bias")

    def matches(self, inputs: Any) -> Any:
        """How well every prototype matches every token, from 0 to 1: `(B, N, classes, J)`."""
        width = inputs.shape[-1]
        tokens = _lengthened(ops.reshape(inputs, (ops.shape(inputs)[0], -1, width)))
        kernel = _lengthened(ops.reshape(ops.convert_to_tensor(self.kernel), (-1, width)), _EPSILON)
        cosines = ops.matmul(tokens, ops.transpose(kernel)) / _SCALE
        shape = (-1, ops.shape(tokens)[1], self.classes, self.prototypes)
        return ops.reshape(ops.relu(cosines), shape)

    def scores(self, inputs: Any) -> Any:
        """The best match of every prototype: `(B, classes, J)`."""
        return ops.max(self.matches(inputs), axis=1)

    def call(self, inputs: Any, training: bool = False) -> Any:
        """Logits `(B, classes)`."""
        if training and self.orthogonality:
            self.add_loss(self.orthogonality * prototype_orthogonality(self.kernel))
        logits = ops.sum(ops.relu(self.weight) * self.scores(inputs), axis=-1)
        return logits if self.bias is None else logits + self.bias

    def compute_output_shape(self, input_shape: Any) -> Any:
        """`(B, classes)`."""
        return (input_shape[0], self.classes)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        names = ("classes", "prototypes", "orthogonality", "seed")
        own = {name: getattr(self, name) for name in names}
        return {**super().get_config(), **own, "bias": self.start}


def _lengthened(x: Any, more: float = 0.0) -> Any:
    """Vectors of nearly unit length, with the constant channels."""
    constant = ops.full((*ops.shape(x)[:-1], _CONSTANT_CHANNELS), _EPSILON, dtype=x.dtype)
    x = ops.concatenate([x, constant], axis=-1)
    return x / (ops.sqrt(ops.sum(ops.square(x), axis=-1, keepdims=True) + _EPSILON) + more)
