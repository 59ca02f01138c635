# SPDX-License-Identifier: Apache-2.0
"""Images of a group share one grid of places: each shows what the others hide."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from keras_ssl.masking._plan import MaskPlan, plan_in_order, uniform


@keras.saving.register_keras_serializable(package="keras_ssl")
class PatchMixing(keras.layers.Layer):
    """Gives every place of a grid to one of a few neighbouring rows, to each the same number.

    Rows 0 to n - 1 of a batch are the first group, and so on; every group has its own random
    assignment. What the rows of a group show of themselves makes one mixed sample together.

    Args:
        components: n, rows of a group; a row shows a part of 1 / n of its tokens. 1 shows all.
        **kwargs: `name` and `dtype` of `keras.layers.Layer`.

    Call: as `RandomMasking`.

    Raises:
        ValueError: for less than one component, a number that does not divide the tokens of the
            grid, or rows that make no whole groups.

    Source: MixedAE, Chen et al. 2023 (patch-wise mixing, mixing ratio 1 / n).

    Example:
        >>> plan = PatchMixing(4).plan(8, (14, 14), distribution.fixed_seed(0))
        >>> plan.keep.shape, float(plan.mask[:4].sum(axis=0).min())
        ((8, 49), 3.0)
    """

    replaces = False

    def __init__(self, components: int = 4, **kwargs: Any):
        super().__init__(**{"dtype": "float32", **kwargs})
        if components < 1:
            raise ValueError(f"PatchMixing mixes at least 1 component; received {components!r}.")
        self.components = int(components)
        self.built = True

    def visible(self, grid: Sequence[int]) -> int:
        """Number of tokens of a grid that a row shows.

        Args:
            grid: tokens on every axis.

        Returns:
            An integer that is known before any data.

        Raises:
            ValueError: where rows cannot show equally many.
        """
        tokens = math.prod(grid)
        if tokens % self.components:
            raise ValueError(
                f"{self.components} components cannot share {tokens} tokens of a grid of "
                f"{tuple(grid)} evenly. Choose a number of components that divides them."
            )
        return tokens // self.components

    def plan(self, rows: Any, grid: Sequence[int], seed: Any, **context: Any) -> MaskPlan:
        """Which tokens are shown; arguments as `Masking.plan`."""
        visible, count = self.visible(grid), self.components
        if isinstance(rows, int) and rows % count:
            raise ValueError(
                f"PatchMixing mixes {count} neighbouring rows, and {rows} make no whole groups. "
                f"Give a multiple of {count} rows, on every replica."
            )
        order = ops.cast(
            ops.argsort(uniform(seed, rows // count, math.prod(grid)), axis=1), "int32"
        )
        # Every row starts with its own part of the group's order.
        parts = [ops.roll(order, -visible * member, axis=1) for member in range(count)]
        orders = ops.reshape(ops.stack(parts, axis=1), (-1, math.prod(grid)))
        return plan_in_order(orders, visible)

    def call(self, inputs: Any, seed: Any) -> MaskPlan:
        """The plan of tokens on their grid."""
        return self.plan(ops.shape(inputs)[0], inputs.shape[1:-1], seed)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {**super().get_config(), "components": self.components}
