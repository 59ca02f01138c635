# SPDX-License-Identifier: Apache-2.0
"""Masks from noise of a colour."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_ssl.masking._plan import Masking, normal

COLORS = ("red", "blue", "green", "purple")
# Noise is drawn on a larger area than the window that is used: what leaves it on one side comes in
# on the other, and a window of half the sides does not meet itself.
AROUND = 2


@keras.saving.register_keras_serializable(package="keras_ssl")
class ColoredMasking(Masking):
    """Hides tokens by noise of one colour, which decides how far masks are clumped.

    The colours are differences of Gaussian blurs G of white noise W: red `G₂W` (large clumps), blue
    `W - G₁W` (evenly spread), green `G₁W - G₂W` (clumps of one size), purple the rest, `W - green`.
    The strongest places stay visible. The released patterns are files of unknown filters; the
    widths here are ours. Noise is drawn anew for every sample, not cropped from a stored pattern
    that all samples of a batch share. Every place is hidden as often but for red, whose clumps
    leave the middle to chance less than the corners (14 x 14 tokens: 77 % against 73 % of 75 %).

    Args:
        color: `"red"`, `"blue"`, `"green"` or `"purple"`.
        ratio: share of hidden tokens.
        sigmas: standard deviations of G₁ and G₂ in tokens, the first smaller.
        rounding: how the ratio becomes a number of tokens, see `visible_count`.
        **kwargs: `name` and `dtype` of `keras.layers.Layer`.

    Call: as `RandomMasking`, on a grid of any rank.

    Raises:
        ValueError: for an unknown colour, sigmas that do not rise, or as `RandomMasking`.

    Source: ColorMAE, Hinojosa et al. 2024, section 3.2.

    Example:
        >>> plan = ColoredMasking("green").plan(8, (14, 14), distribution.fixed_seed(0))
        >>> plan.keep.shape
        (8, 49)
    """

    def __init__(
        self,
        color: str = "green",
        ratio: float = 0.75,
        sigmas: Sequence[float] = (0.8, 2.0),
        rounding: str = "floor_visible",
        **kwargs: Any,
    ):
        super().__init__(ratio, rounding, **kwargs)
        self.color, self.sigmas = color, tuple(float(sigma) for sigma in sigmas)
        _check(color, self.sigmas)

    def scores(self, rows: Any, grid: Sequence[int], seed: Any) -> Any:
        """Coloured noise `(B, L)`, its sign turned."""
        area = tuple(AROUND * side for side in grid)
        noise = colored_noise(normal(seed, rows, *area), self.color, self.sigmas)
        window = noise[(slice(None), *(slice(side) for side in grid))]
        return -ops.reshape(window, (-1, math.prod(grid)))

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {**super().get_config(), "color": self.color, "sigmas": list(self.sigmas)}


def colored_noise(
    noise: Any, color: str, sigmas: Sequence[float] = (0.8, 2.0), truncate: float = 4.0
) -> Any:
    """Filters white noise to a colour; what leaves the area on one side comes in on the other.

    Args:
        noise: `(B, g1, …, gd)`, float.
        color: `"red"`, `"blue"`, `"green"` or `"purple"`, see `ColoredMasking`.
        sigmas: standard deviations of both Gaussians in places, the first smaller.
        truncate: where Gaussians are cut off, in standard deviations.

    Returns:
        Tensor of the shape and dtype of `noise`.

    Raises:
        ValueError: for an unknown colour or sigmas that do not rise.

    Source: the colours of ColorMAE, Hinojosa et al. 2024, section 3.2; see `ColoredMasking`.

    Example:
        >>> colored_noise(keras.random.normal((8, 28, 28)), "red").shape
        (8, 28, 28)
    """
    _check(color, sigmas)
    noise = ops.convert_to_tensor(noise)
    if color == "red":
        return _blurred(noise, sigmas[1], truncate)
    fine = _blurred(noise, sigmas[0], truncate)
    if color == "blue":
        return noise - fine
    green = fine - _blurred(noise, sigmas[1], truncate)
    return green if color == "green" else noise - green


def _check(color: str, sigmas: Sequence[float]) -> None:
    if color not in COLORS:
        raise ValueError(f"color must be one of {list(COLORS)}; received {color!r}.")
    if len(sigmas) != 2 or not 0.0 < sigmas[0] < sigmas[1]:
        raise ValueError(f"sigmas are two rising widths above 0; received {tuple(sigmas)}.")


def _blurred(noise: Any, sigma: float, truncate: float) -> Any:
    for axis, side in enumerate(noise.shape[1:], start=1):
        matrix = ops.cast(ops.convert_to_tensor(_circle(side, sigma, truncate)), noise.dtype)
        noise = ops.moveaxis(ops.tensordot(noise, matrix, axes=([axis], [1])), -1, axis)
    return noise


def _circle(side: int, sigma: float, truncate: float) -> np.ndarray:
    """A Gaussian on a circle of places, as a matrix `(side, side)` with rows that sum to 1."""
    # As scipy cuts it.
    reach = int(truncate * sigma + 0.5)
    steps = np.arange(-reach, reach + 1)
    weights = np.exp(-0.5 * (steps / sigma) ** 2)
    matrix = np.zeros((side, side))
    for step, weight in zip(steps, weights / weights.sum(), strict=True):
        matrix += weight * np.roll(np.eye(side), step, axis=1)
    return matrix
