# SPDX-License-Identifier: Apache-2.0
"""How much the values of a patch change from place to place."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_ssl.targets._target import PatchTarget, patch_tokens

# Sum of the Sobel operator's smoothing weights 1, 2, 1.
SMOOTHING = 4.0
# Standard deviations that a Gaussian reaches to either side.
REACH = 4.0


def sobel(x: Any) -> list:
    """Sobel derivatives of samples of any rank along every axis, borders reflected.

    Along the axis the weights are 1, 0, -1, across it 1, 2, 1, applied as they stand
    (cross-correlation): a value that rises by 1 a step has the derivative -8. So it is in images;
    the weights across further axes of videos and volumes are divided by their sum, and a signal's
    are multiplied by it, so that a volume which is constant along an axis has the derivatives of
    its slices.

    Args:
        x: `(B, N1, …, Nd, C)`, every side at least 2; any dtype.

    Returns:
        List of d float32 tensors `(B, N1, …, Nd, C)`, in the order of the axes: of images that of
        rows first (often called gy), then that of columns (gx).

    Raises:
        ValueError: for a side of a single value.

    Source: Masked Feature Prediction for Self-Supervised Visual Pre-Training, 2021, section 3.2
    (images); the extension to other ranks is this project's.

    Example:
        >>> rows, columns = sobel(keras.ops.ones((1, 8, 8, 3)))
        >>> columns.shape
        (1, 8, 8, 3)
    """
    x = ops.cast(ops.convert_to_tensor(x), "float32")
    axes = range(1, len(x.shape) - 1)
    if not axes or any(x.shape[axis] == 1 for axis in axes):
        raise ValueError(
            "sobel compares neighbours along every axis of (batch, …, channels) and reflects the "
            f"border, so every side needs at least 2 values; received shape {tuple(x.shape)}."
        )
    x = ops.pad(x, [[0, 0], *[[1, 1]] * len(axes), [0, 0]], mode="reflect")
    scale = SMOOTHING ** (2 - len(axes))
    return [scale * _derivative(x, axis, axes) for axis in axes]


def _derivative(x: Any, along: int, axes: Sequence[int]) -> Any:
    for axis in axes:
        before, here, after = (_shifted(x, axis, start) for start in range(3))
        x = before - after if axis == along else before + 2.0 * here + after
    return x


def _shifted(x: Any, axis: int, start: int) -> Any:
    index = [slice(None)] * len(x.shape)
    index[axis] = slice(start, start - 2 or None)
    return x[tuple(index)]


@keras.saving.register_keras_serializable(package="keras_ssl")
class GradientTarget(PatchTarget):
    """The magnitude of the Sobel gradient of every value, for each channel by itself.

    Several scales give several magnitudes for every value: those of the samples as they are, and
    of the samples blurred by a Gaussian, which leaves coarser edges. They are not rescaled, so a
    coarser scale has smaller values and counts less in a squared error. That scales are Gaussian
    blurs is this project's definition; the published target has the one scale 0.

    Of volumes and videos the gradient is that of all their axes.

    Args:
        patch: sizes `(p1, …, pd)` of a patch.
        scales: standard deviations of the blurs, in values along an axis; 0 is none.
        **kwargs: `name` and other arguments of `keras.layers.Layer`.

    Call: `(B, N1, …, Nd, C)` → float32 `(B, L, p1 ⋯ pd · scales · C)`, without gradient; of the
    values of a place the scales come first, then their channels.

    Raises:
        ValueError: for no scale or a negative one.

    Source: Uni4Eye: Unified 2D and 3D Self-supervised Pre-training via Masked Image Modeling
    Transformer for Ophthalmic Image Classification, 2022; see `sobel`.

    Example:
        >>> GradientTarget((4, 4), scales=(0.0, 2.0))(keras.ops.ones((2, 32, 32, 1))).shape
        (2, 64, 32)
    """

    def __init__(self, patch: Sequence[int], scales: Sequence[float] = (0.0,), **kwargs: Any):
        super().__init__(patch, **kwargs)
        self.scales = tuple(float(scale) for scale in scales)
        if not self.scales or not all(0.0 <= scale < math.inf for scale in self.scales):
            raise ValueError(
                "GradientTarget needs at least one scale, the standard deviation of a blur, 0 for "
                f"none; received scales={scales!r}."
            )
        self.built = True

    def values(self, channels: int) -> int:
        """Numbers of one token, for samples of so many channels."""
        return math.prod(self.patch) * len(self.scales) * channels

    def call(self, inputs: Any) -> Any:
        """The tokens."""
        if any(self.scales) and None in inputs.shape[1:-1]:
            raise ValueError(
                f"GradientTarget(scales={self.scales}) blurs along axes of known size; received "
                f"samples {tuple(inputs.shape)}. Give them a fixed size, or scales=(0.0,)."
            )
        inputs = ops.cast(inputs, "float32")
        found = [_magnitude(_blurred(inputs, scale)) for scale in self.scales]
        return ops.stop_gradient(patch_tokens(ops.concatenate(found, axis=-1), self.patch))

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {**super().get_config(), "scales": list(self.scales)}


def _magnitude(x: Any) -> Any:
    return ops.sqrt(sum(ops.square(part) for part in sobel(x)))


def _blurred(x: Any, deviation: float) -> Any:
    if deviation == 0.0:
        return x
    for axis in range(1, len(x.shape) - 1):
        # As a matrix a wide Gaussian may be reflected more than once.
        matrix = ops.convert_to_tensor(blur_matrix(x.shape[axis], deviation))
        x = ops.moveaxis(ops.tensordot(x, matrix, axes=([axis], [1])), -1, axis)
    return x


def blur_matrix(side: int, deviation: float) -> np.ndarray:
    """A Gaussian along an axis whose border is reflected (the outermost value once), as a matrix.

    Args:
        side: number of values.
        deviation: standard deviation in values.

    Returns:
        float32 `(side, side)` whose rows sum to 1.
    """
    reach = math.ceil(REACH * deviation)
    steps = np.arange(-reach, reach + 1)
    weights = np.exp(-0.5 * np.square(steps / deviation))
    period = max(2 * (side - 1), 1)
    places = np.abs(np.arange(side)[:, None] + steps) % period
    places = np.minimum(places, period - places) if side > 1 else places * 0
    matrix = np.zeros((side, side))
    np.add.at(matrix, (np.arange(side)[:, None], places), weights / weights.sum())
    return matrix.astype("float32")
