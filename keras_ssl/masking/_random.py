# SPDX-License-Identifier: Apache-2.0
"""Tokens hidden one by one, or in groups."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_ssl.masking._plan import Masking, MaskPlan, plan_in_order, uniform, visible_count


@keras.saving.register_keras_serializable(package="keras_ssl")
class RandomMasking(Masking):
    """Hides tokens one by one, every one as likely as the others.

    Args:
        ratio: share of hidden tokens.
        rounding: how it becomes a number of tokens, see `visible_count`.
        **kwargs: `name` and `dtype` of `keras.layers.Layer`.

    Call: `masking(tokens, seed=...)` with tokens `(B, g1, …, gd, D)` and an int32 `(2,)` seed gives
    a `MaskPlan`; `plan` needs no tokens.

    Raises:
        ValueError: for a ratio outside (0, 1) or an unknown rounding.

    Source: MAE, He et al. 2021, section 3.

    Example:
        >>> plan = RandomMasking(0.75).plan(8, (14, 14), distribution.fixed_seed(0))
        >>> plan.keep.shape, plan.hidden.shape
        ((8, 49), (8, 147))
    """

    def scores(self, rows: Any, grid: Sequence[int], seed: Any) -> Any:
        """Uniform noise `(B, L)`."""
        return uniform(seed, rows, math.prod(grid))


@keras.saving.register_keras_serializable(package="keras_ssl")
class GroupedMasking(Masking):
    """Hides groups of neighbouring tokens together, every group as likely as the others.

    Args:
        group: tokens of a group on every axis, which must divide the grid.
        ratio: share of hidden groups.
        rounding: how it becomes a number of groups, see `visible_count`.
        **kwargs: `name` and `dtype` of `keras.layers.Layer`.

    Call: as `RandomMasking`.

    Raises:
        ValueError: for a ratio outside (0, 1), an unknown rounding, or groups that do not tile
            the grid.

    Source: SimMIM, Xie et al. 2021, section 3.1: 32 x 32 pixels are 2 x 2 patches of 16.

    Example:
        >>> plan = GroupedMasking((2, 2), 0.6).plan(8, (14, 14), distribution.fixed_seed(0))
        >>> plan.keep.shape
        (8, 76)
    """

    def __init__(
        self,
        group: Sequence[int],
        ratio: float = 0.6,
        rounding: str = "ceil_hidden",
        **kwargs: Any,
    ):
        super().__init__(ratio, rounding, **kwargs)
        self.group = tuple(int(side) for side in group)
        if not self.group or min(self.group) < 1:
            raise ValueError(f"group needs sides of at least 1 token; received {group!r}.")

    def _units(self, grid: Sequence[int]) -> tuple[int, ...]:
        fits = len(grid) == len(self.group)
        if not fits or any(side % step for side, step in zip(grid, self.group, strict=True)):
            raise ValueError(
                f"groups of {self.group} tokens do not tile a grid of {tuple(grid)}: every side "
                "must be a multiple. Choose another group, patch or size."
            )
        return tuple(side // step for side, step in zip(grid, self.group, strict=True))

    def visible(self, grid: Sequence[int], ratio: float | None = None) -> int:
        """Number of tokens of a grid that are shown, see `Masking.visible`."""
        units, ratio = math.prod(self._units(grid)), self.ratio if ratio is None else ratio
        return visible_count(units, ratio, self.rounding) * self.together(grid)

    def together(self, grid: Sequence[int]) -> int:
        """Number of tokens of a group."""
        return math.prod(self.group)

    def plan(self, rows: Any, grid: Sequence[int], seed: Any, **context: Any) -> MaskPlan:
        """Which tokens are shown, group by group; see `Masking.plan`."""
        units = self._units(grid)
        order = ops.argsort(uniform(seed, rows, math.prod(units)), axis=1)
        return self.plan_of_units(order, grid)

    def plan_of_units(self, order: Any, grid: Sequence[int]) -> MaskPlan:
        """The plan that shows groups in an order, as many as the ratio says.

        Args:
            order: integers `(B, groups)`, a permutation of the groups of every sample.
            grid: tokens on every axis.

        Returns:
            `MaskPlan`.
        """
        members = _members(grid, self._units(grid), self.group)
        tokens = ops.take(ops.convert_to_tensor(members), ops.cast(order, "int32"), axis=0)
        order = ops.reshape(tokens, (-1, math.prod(grid)))
        return plan_in_order(order, self.visible(grid))

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {**super().get_config(), "group": list(self.group)}


def _members(grid: Sequence[int], units: Sequence[int], group: Sequence[int]) -> np.ndarray:
    """The tokens of every group, `(groups, tokens of a group)`."""
    sides = [side for pair in zip(units, group, strict=True) for side in pair]
    numbers = np.arange(math.prod(grid), dtype="int32").reshape(sides)
    axes = len(grid)
    order = [2 * axis for axis in range(axes)] + [2 * axis + 1 for axis in range(axes)]
    return numbers.transpose(order).reshape(math.prod(units), math.prod(group))
