# SPDX-License-Identifier: Apache-2.0
"""Small windows of a grid, each a sequence of its own."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from keras_ssl.core import distribution
from keras_ssl.masking._plan import Masking, MaskPlan, plan_of, uniform


@keras.saving.register_keras_serializable(package="keras_ssl")
class WindowMasking(Masking):
    """Cuts windows out of a grid and hides most tokens of each.

    Every window is encoded by itself: what is seen of it and mask tokens at its hidden places, so
    that a step costs the windows and not the image. Their rows and their columns are each drawn
    without repetition as far as the grid has enough, for a step and alike in all samples; which
    tokens are hidden is drawn for every window of every sample.

    Args:
        windows: number of windows, m.
        size: `(rows, columns)` of a window in tokens.
        ratio: share of a window's tokens that is hidden.
        rounding: how it becomes a number of tokens, see `visible_count`.
        **kwargs: `name` and `dtype` of `keras.layers.Layer`.

    Call: `masking(tokens, seed=...)` with tokens `(B, rows, columns, D)` and an int32 `(2,)` seed
    gives a `MaskPlan` of sets, k tokens of m windows: `mask` is `(B, m, L)`, `keep`, `replaced`,
    `decode` and `weight` are `(B, m, k)`. All tokens of a window are decoded, and the hidden ones
    weigh.

    Raises:
        ValueError: for fewer than one window, a ratio that leaves nothing of it visible or hidden,
            or a grid of other than two axes or smaller than a window.

    Source: Local Masked Reconstruction (LoMaR), Chen et al. 2022, section 3; SAR-JEPA, Li et al.
    2024 (4 windows of 7 x 7, 80 % hidden).

    Example:
        >>> plan = WindowMasking().plan(8, (14, 14), distribution.fixed_seed(0))
        >>> plan.keep.shape, plan.mask.shape
        ((8, 4, 49), (8, 4, 196))
    """

    replaces = True

    def __init__(
        self,
        windows: int = 4,
        size: Sequence[int] = (7, 7),
        ratio: float = 0.8,
        rounding: str = "floor_hidden",
        **kwargs: Any,
    ):
        super().__init__(ratio, rounding, **kwargs)
        self.windows, self.size = int(windows), tuple(int(side) for side in size)
        if windows < 1 or len(self.size) != 2 or min(self.size) < 1:
            raise ValueError(
                "WindowMasking needs at least 1 window of (rows, columns) tokens; received "
                f"windows={windows}, size={size!r}."
            )
        # Raises where a window leaves nothing visible or nothing hidden.
        super().visible(self.size)

    def visible(self, grid: Sequence[int], ratio: float | None = None) -> int:
        """Number of tokens of a window that are shown, see `Masking.visible`."""
        if len(grid) != 2 or any(n < side for n, side in zip(grid, self.size, strict=True)):
            raise ValueError(
                f"windows of {self.size} tokens need a grid (rows, columns) of at least as many; "
                f"received {tuple(grid)}. Choose smaller windows or smaller patches."
            )
        return super().visible(self.size, ratio)

    def plan(self, rows: Any, grid: Sequence[int], seed: Any, **context: Any) -> MaskPlan:
        """The tokens of the windows, and which of them are hidden; see `Masking.plan`."""
        visible, count, fold = self.visible(grid), math.prod(self.size), distribution.fold_in
        top, left = (self._corners(grid, axis, fold(seed, axis)) for axis in (0, 1))
        inside = ops.arange(count, dtype="int32")[None]
        down, along = ops.floor_divide(inside, self.size[1]), ops.mod(inside, self.size[1])
        places = (top + down) * grid[1] + left + along
        noise = ops.reshape(uniform(fold(seed, 2), rows, self.windows * count), (-1, count))
        hidden = ops.reshape(plan_of(noise, visible).mask, (-1, self.windows, count))
        keep = places[None] + ops.cast(0.0 * hidden, "int32")
        shown = ops.one_hot(keep, math.prod(grid), dtype="float32")
        seen = ops.sum(ops.expand_dims(1.0 - hidden, -1) * shown, axis=2)
        return MaskPlan(1.0 - seen, keep, decode=keep, weight=hidden, replaced=hidden > 0.5)

    def _corners(self, grid: Sequence[int], axis: int, seed: Any) -> Any:
        """First places of the windows along an axis, int32 `(m, 1)`."""
        choices = grid[axis] - self.size[axis] + 1
        rounds = -(-self.windows // choices)
        draws = ops.reshape(distribution.uniform_batch(seed, (rounds * choices,)), (rounds, -1))
        order = ops.reshape(ops.argsort(draws, axis=1), (-1,))
        return ops.cast(order, "int32")[: self.windows, None]

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        own = {"windows": self.windows, "size": list(self.size)}
        return {**super().get_config(), **own}
