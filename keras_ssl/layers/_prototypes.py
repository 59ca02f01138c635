# SPDX-License-Identifier: Apache-2.0
"""Prototypes: unit vectors that others are compared with."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from keras_ssl.core import distribution
from keras_ssl.losses._math import normalize

# Rounding leaves the square of a length this close to 1.
_UNIT = 1e-6


@keras.saving.register_keras_serializable(package="keras_ssl")
class Prototypes(keras.layers.Layer):
    """Cosine similarities of vectors with learned unit vectors: a linear layer without bias.

    The optimizer moves prototypes off the unit sphere and `normalize_prototypes` brings them
    back; no gradient passes through that.

    Args:
        count: number of prototypes.
        normalize: whether inputs are scaled to unit length first; False where they are already.
        seed: of the first prototypes, which are spread evenly; `None` draws it.
        **kwargs: `name`, `dtype`, `trainable` of `keras.layers.Layer`; float32 unless given.

    Call: `prototypes(x)` with `x` `(..., D)` gives float32 scores `(..., count)` in -1..1.

    Raises:
        ValueError: for a count below 1, or inputs of no fixed width.

    Source: Caron et al., 2020, section 3.1; https://arxiv.org/abs/2006.09882.

    Example:

    >>> prototypes = Prototypes(10, seed=0)
    >>> prototypes(keras.ops.ones((4, 16))).shape
    (4, 10)
    """

    def __init__(self, count: int, normalize: bool = True, seed: int | None = None, **kwargs: Any):
        # Scores are divided by small temperatures, which half precision does not survive.
        kwargs.setdefault("dtype", "float32")
        super().__init__(**kwargs)
        if not isinstance(count, int) or count < 1:
            raise ValueError(f"Prototypes needs a count of at least 1; received {count!r}.")
        self.count, self.normalize, self.seed = count, normalize, seed

    def build(self, input_shape: Any) -> None:
        """Makes the prototypes `(D, count)` for inputs `(..., D)`."""
        width = input_shape[-1]
        if width is None:
            raise ValueError(f"{self.name} takes vectors of a fixed width; received {input_shape}.")
        # Normal numbers, scaled to unit length, prefer no direction.
        normal = keras.initializers.RandomNormal(stddev=1.0, seed=self.seed)
        self.vectors = self.add_weight(
            shape=(width, self.count),
            initializer=lambda shape, dtype: normalize(normal(shape, "float32"), axis=0),
            name="vectors",
        )

    def normalize_prototypes(self) -> None:
        """Scales every prototype to unit length, in place; one that has it keeps its bits."""
        vectors = ops.convert_to_tensor(self.vectors)
        square = ops.sum(ops.square(vectors), axis=0, keepdims=True)
        unit = ops.where(ops.abs(square - 1.0) <= _UNIT, vectors, normalize(vectors, axis=0))
        distribution.assign_all([self.vectors], [unit], equal=True)

    def call(self, inputs: Any) -> Any:
        """Scores `(..., count)` of vectors `(..., D)`."""
        vectors = normalize(inputs) if self.normalize else ops.cast(inputs, "float32")
        return ops.matmul(vectors, ops.cast(self.vectors, "float32"))

    def compute_output_shape(self, input_shape: Any) -> Any:
        """`(..., count)`."""
        return (*input_shape[:-1], self.count)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        own = {"count": self.count, "normalize": self.normalize, "seed": self.seed}
        return {**super().get_config(), **own}
