# SPDX-License-Identifier: Apache-2.0
"""Labels that a sample has by itself: where a token is, how an image is turned."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from keras_ssl.core import distribution
from keras_ssl.targets._target import PatchTarget, Target, sizes_of

TURNS = 4


@keras.saving.register_keras_serializable(package="keras_ssl")
class PositionTarget(PatchTarget):
    """The index of every token: a model that sees no positions says where each patch belongs.

    The model must not learn places in another way: no positions, no overlapping patches, no padded
    convolutions. There are as many classes as tokens.

    Args:
        patch: sizes `(p1, …, pd)` of a patch.
        **kwargs: `name` and other arguments of `keras.layers.Layer`.

    Call: `(B, N1, …, Nd, C)` → int32 `(B, L)`, 0..L-1 in row-major order.

    Source: Position Prediction as an Effective Pretraining Strategy (MP3), 2022.

    Example:
        >>> PositionTarget((4,))(keras.ops.ones((1, 16, 1)))
        [[0, 1, 2, 3]]
    """

    categorical = True

    def __init__(self, patch: Sequence[int], **kwargs: Any):
        super().__init__(patch, **kwargs)
        self.built = True

    def call(self, inputs: Any) -> Any:
        """The indices."""
        self.grid(inputs.shape)
        rows, *sides, _ = sizes_of(inputs)
        count = math.prod(side // step for side, step in zip(sides, self.patch, strict=True))
        return ops.broadcast_to(ops.arange(count, dtype="int32")[None], (rows, count))

    def values(self, channels: int) -> int:
        """An index is one number."""
        return 1

    def compute_output_shape(self, input_shape: Any) -> Any:
        """`(B, L)`."""
        return super().compute_output_shape(input_shape)[:2]

    def head_width(self, input_shape: Sequence) -> int:
        """The number of tokens."""
        return self.compute_output_shape(tuple(input_shape))[1]


@keras.saving.register_keras_serializable(package="keras_ssl")
class RotationTarget(Target):
    """Turns every image by a random multiple of 90 degrees, which is its label.

    Videos and volumes are turned in the plane of their last two axes.

    Args:
        **kwargs: `name` and other arguments of `keras.layers.Layer`.

    Call: `target(images, seed=...)` with images `(B, …, N, N, C)` and an int32 `(2,)` seed, alike
    on all replicas, gives the turned images, `(B, …, N, N, C)` of the same dtype (half precision
    becomes float32), and int32 labels `(B,)`: the number of quarter turns, 0 to 3,
    counter-clockwise.

    Raises:
        ValueError: at the first call, for images that are not square.

    Source: Unsupervised Representation Learning by Predicting Image Rotations, 2018; SiT, 2021.

    Example:
        >>> seed = distribution.fixed_seed(0)
        >>> images, labels = RotationTarget()(keras.ops.ones((8, 32, 32, 3)), seed=seed)
        >>> labels.shape
        (8,)
    """

    categorical = True
    classes = TURNS

    def __init__(self, **kwargs: Any):
        super().__init__(**kwargs)
        self.built = True

    def call(self, inputs: Any, seed: Any) -> Any:
        """Turned images and labels."""
        shape = tuple(inputs.shape)
        if len(shape) < 4 or shape[-3] != shape[-2]:
            raise ValueError(
                "RotationTarget turns images by 90 degrees, so they must be square, (B, …, N, N, "
                f"C); received shape {shape}. Crop or resize them."
            )
        drawn = distribution.uniform_rows(seed, ops.shape(inputs)[0])
        labels = ops.cast(ops.floor(drawn * TURNS), "int32")
        asked = ops.reshape(labels, (-1, *[1] * (len(shape) - 1)))
        turned = inputs
        for quarters in range(1, TURNS):
            turned = ops.where(ops.equal(asked, quarters), _turned(inputs, quarters), turned)
        return ops.stop_gradient(turned), labels

    def compute_output_shape(self, input_shape: Any) -> Any:
        """Shapes of the images and of the labels."""
        return tuple(input_shape), (input_shape[0],)

    def compute_output_spec(self, inputs: Any, seed: Any = None) -> Any:
        """Images and int32 labels."""
        images, labels = self.compute_output_shape(inputs.shape)
        return (
            keras.KerasTensor(images, dtype=inputs.dtype),
            keras.KerasTensor(labels, dtype="int32"),
        )

    def head_width(self, input_shape: Sequence) -> int:
        """Four turns."""
        return TURNS

    def check(self, input_shape: Sequence, grid: Sequence[int]) -> None:
        """An image has one label whatever its tokens are."""


def _turned(images: Any, quarters: int) -> Any:
    """Images turned counter-clockwise, in the plane of the two axes before the channels."""
    if quarters == 2:
        return ops.flip(images, axis=(-3, -2))
    return ops.flip(ops.swapaxes(images, -3, -2), axis=-3 if quarters == 1 else -2)
