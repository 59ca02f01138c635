# SPDX-License-Identifier: Apache-2.0
"""Windows of a grid of tokens, within which attention stays."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from keras import ops

from keras_ssl.tokens._patches import patchify, unpatchify
from keras_ssl.tokens._sequence import gather_tokens, tokens_at


class Windows:
    """How the tokens of a grid are parted into windows, and put together again.

    What a window covers beyond the grid is empty, and nobody attends to it: any grid can be parted,
    and shifted windows at the border are smaller. Of an axis that is no longer than a window there
    is one window, which does not shift.

    Args:
        grid: `(g1, …, gd)`, tokens on every axis.
        window: `(w1, …, wd)`, tokens of a window.
        shift: how far the windows are moved from the start of every axis.

    Raises:
        ValueError: for another number of axes.

    Source: Swin Transformer, Liu et al. 2021, section 3.2; with empty places in place of a cyclic
    shift, which has to mask the same pairs.
    """

    def __init__(self, grid: Sequence[int], window: Sequence[int], shift: Sequence[int]):
        self.grid = checked_axes(grid, window)
        self.window = tuple(min(side, step) for side, step in zip(grid, window, strict=True))
        moved = [s if g > w else 0 for g, w, s in zip(grid, self.window, shift, strict=True)]
        front = [-s % w for s, w in zip(moved, self.window, strict=True)]
        sides = list(zip(front, self.grid, self.window, strict=True))
        self.empty = tuple((before, -(before + side) % step) for before, side, step in sides)
        self.counts = tuple(-(-(before + side) // step) for before, side, step in sides)

    def cut(self, x: Any) -> Any:
        """`(B, g1 ⋯ gd, D)` → `(B · windows, w1 ⋯ wd, D)`, empty places 0 or false."""
        x = ops.reshape(x, (-1, *self.grid, x.shape[-1]))
        width = x.shape[-1]
        if self.has_empty:
            x = ops.pad(x, ((0, 0), *self.empty, (0, 0)))
        return ops.reshape(patchify(x, self.window), (-1, math.prod(self.window), width))

    def join(self, x: Any) -> Any:
        """The inverse of `cut`."""
        width = x.shape[-1]
        x = ops.reshape(x, (-1, *self.counts, math.prod(self.window) * width))
        x = unpatchify(x, self.window)
        sides = zip(self.empty, self.grid, strict=True)
        x = x[(slice(None), *(slice(before, before + side) for (before, _), side in sides))]
        return ops.reshape(x, (-1, math.prod(self.grid), width))

    @property
    def has_empty(self) -> bool:
        """Whether windows cover more than the grid."""
        return any(sum(pair) for pair in self.empty)

    def attended(self, real: Any, x: Any) -> Any:
        """Which places of the windows may be attended to.

        Args:
            real: boolean `(B, g1 ⋯ gd)`, or `None` where all tokens may.
            x: the tokens, `(B, g1 ⋯ gd, D)`.

        Returns:
            Boolean `(B · windows, w1 ⋯ wd)`, or `None` where all may.
        """
        if real is None:
            if not self.has_empty:
                return None
            real = ops.ones_like(x[..., 0], dtype="bool")
        return self.cut(ops.expand_dims(real, -1))[..., 0]


def checked_axes(grid: Sequence[int], window: Sequence[int]) -> tuple[int, ...]:
    """The grid, if it has as many axes as the window.

    Raises:
        ValueError: if it has not.
    """
    if len(grid) != len(window):
        raise ValueError(
            f"a window of {tuple(window)} tokens parts grids of {len(window)} axes; that of these "
            f"tokens is {tuple(grid)}. Give a window with {len(grid)} sizes."
        )
    return tuple(grid)


def restored(x: Any, mask_token: Any, table: Any, plan: Any) -> tuple[Any, Any]:
    """Tokens at their places: seen ones, and mask tokens where a plan asks.

    A place that is seen and asked for keeps what was seen. One that is neither is empty, as it is
    where mask tokens stand behind the seen ones.

    Args:
        x: encoded tokens `(B, e + k, D)`; those in front are left out.
        mask_token: `(D,)`.
        table: positions `(L, D)`.
        plan: a `masking.MaskPlan`; where it gathers nothing, k is L.

    Returns:
        `(B, L, D)` with positions, and boolean `(B, L)`, false where empty; `None` if nothing is.
    """
    tokens = table.shape[0]
    if plan.keep is None:
        return x[:, -tokens:] + table, None
    count = plan.keep.shape[1]
    place = ops.minimum(plan.restore, count - 1)
    seen = plan.restore < count
    if plan.shown is not None:
        seen = ops.logical_and(seen, tokens_at(plan.shown, place))
    kept = gather_tokens(x[:, -count:], place)
    x = ops.where(ops.expand_dims(seen, -1), kept, mask_token) + table
    if plan.decode is plan.hidden and plan.shown is None and plan.asked is None:
        return x, None
    asked = ops.ones_like(plan.decode) if plan.asked is None else ops.cast(plan.asked, "int32")
    rows = ops.shape(plan.decode)[0]
    starts = ops.arange(rows, dtype="int32")[:, None] * tokens
    ids = ops.reshape(plan.decode + starts, (-1, 1))
    found = ops.scatter(ids, ops.reshape(asked, (-1,)), (rows * tokens,))
    return x, ops.logical_or(seen, ops.reshape(found, (-1, tokens)) > 0)
