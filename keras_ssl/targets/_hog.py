# SPDX-License-Identifier: Apache-2.0
"""Histograms of oriented gradients."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_ssl.targets._gradients import sobel
from keras_ssl.targets._target import PatchTarget, patch_tokens, sizes_of


@keras.saving.register_keras_serializable(package="keras_ssl")
class HOGTarget(PatchTarget):
    """Histograms of oriented gradients of the cells of every patch of an image.

    In a cell each pixel and channel adds the magnitude of its Sobel gradient to the one bin of its
    orientation (a line, without direction); the histogram of each channel then gets length 1. A
    cell without any gradient stays 0.

    Args:
        patch: `(rows, columns)` of a patch, multiples of the cell.
        bins: orientations of a histogram, from 0 to half a turn.
        cell: side of a cell in pixels. The published 8 goes with patches of 16; patches of small
            images need smaller cells.
        gaussian_window: side of a window in pixels, or 0 for none. Windows tile the image and weigh
            the magnitudes by a Gaussian around their centres, with a standard deviation of half a
            side (rounded down).
        epsilon: least length that a histogram is divided by.
        **kwargs: `name` and other arguments of `keras.layers.Layer`.

    Call: `(B, H, W, C)` → float32 `(B, L, cells of a patch · C · bins)`, without gradient; the
    values of a token in the order cell row, cell column, channel, bin.

    Raises:
        ValueError: for settings out of range, or a patch that cells do not tile; at the first call
            for images that windows do not tile.

    Source: Masked Feature Prediction for Self-Supervised Visual Pre-Training (MaskFeat), 2021,
    section 3.2; Histograms of Oriented Gradients for Human Detection, 2005.

    Example:
        >>> HOGTarget((16, 16))(keras.ops.ones((2, 64, 64, 3))).shape
        (2, 16, 108)
    """

    def __init__(
        self,
        patch: Sequence[int],
        bins: int = 9,
        cell: int = 8,
        gaussian_window: int = 0,
        epsilon: float = 1e-12,
        **kwargs: Any,
    ):
        super().__init__(patch, **kwargs)
        window = gaussian_window == 0 or gaussian_window >= 2
        if bins < 1 or cell < 1 or not window or not epsilon > 0.0:
            raise ValueError(
                "HOGTarget needs at least 1 bin, cells of at least 1 pixel, a window of at least 2 "
                f"pixels (0 for none) and epsilon > 0; received bins={bins!r}, cell={cell!r}, "
                f"gaussian_window={gaussian_window!r}, epsilon={epsilon!r}."
            )
        if len(self.patch) != 2 or any(step % cell for step in self.patch):
            raise ValueError(
                f"HOGTarget makes histograms of cells of {cell} x {cell} pixels of images, so a "
                f"patch has two sizes that are multiples of {cell}; received {self.patch}. Choose "
                "a cell that divides the patch."
            )
        self.bins, self.cell, self.gaussian_window = int(bins), int(cell), int(gaussian_window)
        self.epsilon = float(epsilon)
        self.built = True

    def values(self, channels: int) -> int:
        """Numbers of one token, for images of so many channels."""
        return math.prod(self.patch) // self.cell**2 * channels * self.bins

    def call(self, inputs: Any) -> Any:
        """The tokens."""
        # Before anything is computed: images that the patch does not tile get a clear error.
        self.grid(inputs.shape)
        down, along = sobel(inputs)
        magnitude = ops.sqrt(ops.square(down) + ops.square(along))
        if self.gaussian_window:
            magnitude = magnitude * self._window(inputs.shape[1:3])
        places = self._bins(down, along)
        # One bin after the other: all at once would need as many copies of the images.
        found = [
            self._cells(ops.where(ops.equal(places, index), magnitude, 0.0))
            for index in range(self.bins)
        ]
        histograms = ops.stack(found, axis=-1)
        length = ops.sqrt(ops.sum(ops.square(histograms), axis=-1, keepdims=True))
        histograms = histograms / ops.maximum(length, self.epsilon)
        cells = ops.reshape(histograms, (*sizes_of(histograms)[:3], inputs.shape[-1] * self.bins))
        return ops.stop_gradient(patch_tokens(cells, [step // self.cell for step in self.patch]))

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        names = ("bins", "cell", "gaussian_window", "epsilon")
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}

    def _bins(self, down: Any, along: Any) -> Any:
        """Index of the bin of every orientation, the angle from `down` to `along`.

        Compared with the lines between bins, because reflected borders lie exactly on such a line
        and a compiled arc tangent falls to either side of it.
        """
        opposite = ops.logical_or(along < 0.0, ops.logical_and(ops.equal(along, 0.0), down < 0.0))
        down, along = (ops.where(opposite, -part, part) for part in (down, along))
        angles = [math.pi * index / self.bins for index in range(1, self.bins)]
        beyond = [along * math.cos(angle) >= down * math.sin(angle) for angle in angles]
        return sum((ops.cast(one, "int32") for one in beyond), ops.zeros_like(down, dtype="int32"))

    def _cells(self, x: Any) -> Any:
        """Sums over cells, `(B, H/cell, W/cell, C)`."""
        rows, height, width, channels = sizes_of(x)
        cell = self.cell
        x = ops.reshape(x, (rows, height // cell, cell, width // cell, cell, channels))
        return ops.sum(x, axis=(2, 4))

    def _window(self, sides: Sequence) -> Any:
        """Weights of the pixels, `(1, H, W, 1)`."""
        window = self.gaussian_window
        if any(side is None or side % window for side in sides):
            raise ValueError(
                f"windows of {window} x {window} pixels do not tile images of {tuple(sides)}. "
                "Choose a gaussian_window that divides both sides."
            )
        offsets = (np.arange(window) - (window - 1) / 2.0) / (window // 2)
        weights = np.exp(-0.5 * np.square(offsets))
        weights /= weights.sum()
        down, along = (np.tile(weights, side // window) for side in sides)
        return ops.convert_to_tensor(np.outer(down, along)[None, :, :, None].astype("float32"))
