# SPDX-License-Identifier: Apache-2.0
"""How much the values on two sides of a place differ, as a ratio."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from keras_ssl.targets._target import PatchTarget, patch_tokens


def ratio_gradient(x: Any, radius: int, offset: float = 0.01) -> Any:
    """The magnitude of the ratio gradient of images, for each channel by itself.

    Of a square around a pixel the sums of the left and the right half are compared, and those of
    the upper and the lower half, each with the middle line: √(log²(left/right) +
    log²(upper/lower)). Speckle multiplies, so that a ratio is as noisy in bright places as in dark
    ones, and a brighter image has the same gradient.

    Args:
        x: `(B, H, W, C)` of at least 0, what is below counts as 0; any dtype.
        radius: of the square, of 2 · radius + 1 pixels a side.
        offset: added to all pixels, so that dark places have a ratio.

    Returns:
        float32 `(B, H, W, C)`.

    Raises:
        ValueError: for images that are no larger than the radius, whose border cannot be reflected.

    Source: Predicting Gradient is Better (SAR-JEPA), Li et al. 2024, equations 5 to 8; released
    code (waterdisappear/SAR-JEPA).

    Example:
        >>> ratio_gradient(keras.ops.ones((1, 32, 32, 1)), 5).shape
        (1, 32, 32, 1)
    """
    height, width = x.shape[1:3]
    if radius < 1 or min(height or radius + 1, width or radius + 1) <= radius:
        raise ValueError(
            f"a ratio gradient of radius {radius} reflects as many pixels at each border, so "
            f"images must be larger; received shape {tuple(x.shape)}. Choose smaller radii."
        )
    x = ops.maximum(ops.cast(x, "float32"), 0.0)
    around = [[0, 0], [radius, radius], [radius, radius], [0, 0]]
    x = ops.pad(x, around, mode="reflect") + offset
    return ops.sqrt(sum(ops.square(_log_ratio(x, radius, axis)) for axis in (1, 2)))


def _log_ratio(x: Any, radius: int, axis: int) -> Any:
    """Logarithm of the ratio of both halves along an axis."""
    whole, half = 2 * radius + 1, radius + 1
    window = (half, whole) if axis == 1 else (whole, half)
    # Means have the ratio of sums; a pooling adds only what is inside.
    means = ops.average_pool(x, window, strides=1, padding="valid", data_format="channels_last")
    before = [slice(None)] * 4
    before[axis] = slice(None, -radius)
    behind = [slice(None)] * 4
    behind[axis] = slice(radius, None)
    return ops.log(means[tuple(before)]) - ops.log(means[tuple(behind)])


@keras.saving.register_keras_serializable(package="keras_ssl")
class RatioGradientTarget(PatchTarget):
    """Ratio gradients of several radii, of every pixel of a patch.

    Args:
        patch: sides of a patch in pixels.
        radii: of the squares that are compared, in pixels.
        offset: added to all pixels, see `ratio_gradient`.
        **kwargs: `name` and other arguments of `keras.layers.Layer`.

    Call: `(B, H, W, C)` images of 0..1 → float32 `(B, L, radii · p1 · p2 · C)`, without gradient:
    the pixels of the patch by the first radius, then by the second, and so on.

    Raises:
        ValueError: for no radius, one below 1, an offset that is not positive, or a patch of other
            than two sides.

    Source: see `ratio_gradient`.

    Example:
        >>> RatioGradientTarget((16, 16))(keras.ops.ones((2, 224, 224, 1))).shape
        (2, 196, 1024)
    """

    def __init__(
        self,
        patch: Sequence[int],
        radii: Sequence[int] = (5, 9, 13, 17),
        offset: float = 0.01,
        **kwargs: Any,
    ):
        super().__init__(patch, **kwargs)
        self.radii, self.offset = tuple(int(radius) for radius in radii), float(offset)
        if not self.radii or min(self.radii) < 1 or not offset > 0.0 or len(self.patch) != 2:
            raise ValueError(
                "RatioGradientTarget needs a patch (height, width), at least one radius of at "
                f"least 1 pixel and a positive offset; received patch={patch!r}, radii={radii!r}, "
                f"offset={offset!r}."
            )
        self.built = True

    def check(self, input_shape: Sequence, grid: Sequence[int]) -> None:
        """Requires the model's patches, and images that are larger than every radius.

        Raises:
            ValueError: if they are not.
        """
        super().check(input_shape, grid)
        sides = [side for side in tuple(input_shape)[1:3] if side is not None]
        if sides and max(self.radii) >= min(sides):
            raise ValueError(
                f"RatioGradientTarget(radii={self.radii}) needs images larger than every radius; "
                f"received {tuple(input_shape)}. Choose smaller radii."
            )

    def values(self, channels: int) -> int:
        """Numbers of one token, for images of so many channels."""
        return math.prod(self.patch) * len(self.radii) * channels

    def call(self, inputs: Any) -> Any:
        """The tokens."""
        found = [ratio_gradient(inputs, radius, self.offset) for radius in self.radii]
        parts = [patch_tokens(one, self.patch) for one in found]
        return ops.stop_gradient(ops.concatenate(parts, axis=-1))

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {**super().get_config(), "radii": list(self.radii), "offset": self.offset}
