# SPDX-License-Identifier: Apache-2.0
"""One block that stays visible, anywhere on a grid without borders."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from keras_ssl.masking._block import BlockMasking
from keras_ssl.masking._plan import uniform


@keras.saving.register_keras_serializable(package="keras_ssl")
class InverseBlockMasking(BlockMasking):
    """Hides everything but one block of a grid of tokens: per sample, reproducible, compiled.

    A sample is masked at all with `probability`; then a share of its tokens is drawn from `ratio`
    and exactly so many are hidden, rounded down. The visible ones are a rectangle of random
    aspect, the last row of it cut short. Blocks inside the grid would show its middle more often
    than its corners; rolled around its borders they show every place as often.

    Args:
        ratio: range of the share of hidden tokens.
        probability: of hiding any tokens of a sample.
        aspect: smallest aspect of the block; the largest is its inverse, both less where the grid
            leaves no room.
        roll: whether the block may leave the grid at one side and come in at the other.
        exact: whether every sample hides as many tokens as the largest share says, so that plans
            have indices. The low end of `ratio` and `probability` then mean nothing.
        **kwargs: `name` and `dtype` of `keras.layers.Layer`.

    Call: `masking(tokens, seed=...)` with tokens `(B, rows, columns, …)` and an int32 `(2,)` seed
    gives a `MaskPlan`; `plan` needs no tokens, and `draw` gives the mask on its grid.

    Raises:
        ValueError: for shares or probabilities outside [0, 1], an aspect that is not in (0, 1], a
            grid of other than two axes; where exact, for a share of no or of all tokens.

    Source: Franca, Venkataramanan et al. 2025 (CyclicMask); released code (valeoai/Franca).

    Example:
        >>> mask = InverseBlockMasking().draw(8, (16, 16), distribution.fixed_seed(0))
        >>> mask.shape
        (8, 16, 16)
    """

    def __init__(
        self,
        ratio: Sequence[float] = (0.1, 0.65),
        probability: float = 0.5,
        aspect: float = 0.3,
        roll: bool = True,
        exact: bool = False,
        **kwargs: Any,
    ):
        super().__init__(ratio, probability, aspect, exact=exact, **kwargs)
        self.roll = bool(roll)

    def draw(self, rows: Any, grid: Sequence[int], seed: Any) -> Any:
        """The mask of every sample.

        Args:
            rows: number of rows of this replica; they are drawn for those of all.
            grid: `(rows, columns)` of tokens.
            seed: int32 `(2,)`, alike on all replicas.

        Returns:
            Boolean `(rows, *grid)`.
        """
        height, width = self._plane(grid)
        draws = uniform(seed, rows, 5)
        low, high = self.ratio
        hidden = ops.floor((low + (high - low) * draws[:, 0]) * (height * width))
        if self.exact:
            hidden = ops.full_like(hidden, self.most(grid))
        visible = height * width - hidden
        # The aspects, as logarithms, at which so many tokens fit into the grid.
        area = ops.log(ops.maximum(visible, 1.0))
        least, most = area - 2.0 * math.log(width), 2.0 * math.log(height) - area
        slim = math.log(self.aspect)
        first, last = (ops.minimum(ops.maximum(x, least), most) for x in (slim, -slim))
        aspect = ops.exp(first + (last - first) * draws[:, 1])
        tall = ops.minimum(ops.ceil(ops.sqrt(visible * aspect)), height)
        # Enough columns for all, whatever the rounding of the aspect.
        wide = ops.minimum(ops.ceil(ops.sqrt(visible / aspect)), width)
        wide = ops.maximum(wide, ops.ceil(visible / ops.maximum(tall, 1.0)))
        reach = (height, width) if self.roll else (height - tall + 1.0, width - wide + 1.0)
        down = _from(ops.floor(draws[:, 2] * reach[0]), height)[:, :, None]
        along = _from(ops.floor(draws[:, 3] * reach[1]), width)[:, None, :]
        tall, wide, visible = (ops.reshape(x, (-1, 1, 1)) for x in (tall, wide, visible))
        block = ops.logical_and(down < tall, along < wide)
        # In reading order, so that exactly so many are shown.
        shown = ops.logical_and(block, down * wide + along < visible)
        if self.exact:
            return ops.logical_not(shown)
        masked = ops.reshape(draws[:, 4] < self.probability, (-1, 1, 1))
        return ops.logical_and(ops.logical_not(shown), masked)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        config = {**super().get_config(), "roll": self.roll}
        return {n: value for n, value in config.items() if n not in ("smallest", "attempts")}


def _from(first: Any, length: int) -> Any:
    """Steps from a first place to every place of an axis that closes on itself, `(B, length)`."""
    return ops.mod(ops.arange(length, dtype="float32")[None] - first[:, None], float(length))
