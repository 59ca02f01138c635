# SPDX-License-Identifier: Apache-2.0
"""Some columns of a table that are seen, several sets of others that are predicted."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_ssl.core import distribution
from keras_ssl.masking._multi_block import checked_range, context_plan, drawn_size, fixed
from keras_ssl.masking._plan import MaskPlan, uniform


@functools.lru_cache(maxsize=64)
def counts_of(columns: int, context: tuple, target: tuple, sets: int) -> np.ndarray:
    """Equally likely numbers of seen and of predicted columns, int32 `(n, 2)`; n may be 0."""
    seen, asked = (
        range(max(round(columns * low), 1), round(columns * high) + 1)
        for low, high in (context, target)
    )
    # With a column to spare, a set may be moved along the others as often as there are of them.
    pairs = [
        (few, many)
        for few in seen
        for many in asked
        if few + many <= columns - (sets > 1) and columns - few >= sets
    ]
    return fixed(pairs)


def first_different(candidates: Any, size: Any, count: int) -> Any:
    """The first of several sets that differ from one another.

    Args:
        candidates: float32 `(B, n, L)`, 1 where a token is in a set.
        size: tokens of every set, an int32 scalar.
        count: number of sets to take, of which every sample has as many.

    Returns:
        float32 `(B, count, L)`.
    """
    number = candidates.shape[1]
    shared = ops.matmul(candidates, ops.transpose(candidates, (0, 2, 1)))
    same = shared > ops.cast(size, "float32") - 0.5
    earlier = np.tri(number, k=-1, dtype=bool)[None]
    again = ops.cast(ops.any(ops.logical_and(same, earlier), axis=2), "int32")
    order = ops.argsort(again * number + ops.arange(number, dtype="int32"), axis=1)
    chosen = ops.one_hot(order[:, :count], number, dtype="float32")
    return ops.matmul(chosen, candidates)


def ranks(x: Any) -> Any:
    """Places of numbers in their order, int32 of the same shape."""
    return ops.cast(ops.argsort(ops.argsort(x, axis=-1), axis=-1), "int32")


@keras.saving.register_keras_serializable(package="keras_ssl")
class FeatureSubsetMasking(keras.layers.Layer):
    """Shows some columns of a row and asks for several sets of the others.

    How many columns are shown and how many each set has is drawn for a step, both uniform over the
    integers of their ranges and again until they fit into the table; which ones, for every row.
    Sets are drawn from all columns that are not shown, so that two of them may have some in common,
    but no two of a row are the same.

    Numbers of tokens are the same in every step, so that nothing is traced again: contexts and sets
    are filled up to the largest with columns to which nobody attends.

    Args:
        context: range of the share of the columns that is shown.
        target: range of the share of the columns that is in a set.
        sets: number of sets, m.
        **kwargs: `name` and `dtype` of `keras.layers.Layer`.

    Call: `masking(tokens, seed=...)` with tokens `(B, columns, …)` and an int32 `(2,)` seed gives a
    `MaskPlan` whose `decode` is `(B, m, q)`; `plan` needs no tokens.

    Raises:
        ValueError: for a range or a number out of bounds; for a grid of other than one axis, or a
            table that is too small.

    Source: T-JEPA, Thimonier et al. 2024, section 3.2; released code (jose-melo/t-jepa), whose
    four sets of a row are views of one array and so come out the same, and which draws the first
    and last number of a range half as often as others.

    Example:
        >>> plan = FeatureSubsetMasking().plan(8, (14,), distribution.fixed_seed(0))
        >>> plan.keep.shape, plan.decode.shape
        ((8, 5), (8, 4, 9))
    """

    replaces = False

    def __init__(
        self,
        context: Sequence[float] = (0.14, 0.37),
        target: Sequence[float] = (0.16, 0.62),
        sets: int = 4,
        **kwargs: Any,
    ):
        super().__init__(**{"dtype": "float32", **kwargs})
        if sets < 1:
            raise ValueError(f"FeatureSubsetMasking needs at least 1 set; received sets={sets}.")
        self.context = checked_range("context", context, 1.0)
        self.target = checked_range("target", target, 1.0)
        self.sets = int(sets)
        self.built = True

    def counts(self, grid: Sequence[int]) -> np.ndarray:
        """Equally likely numbers of shown columns and of those of a set, int32 `(n, 2)`.

        Raises:
            ValueError: for a grid of other than one axis, or a table that is too small.
        """
        if len(grid) != 1:
            raise ValueError(
                f"FeatureSubsetMasking hides columns of tables, a grid (columns,); received "
                f"{tuple(grid)}."
            )
        table = counts_of(int(grid[0]), self.context, self.target, self.sets)
        if not len(table):
            raise ValueError(
                f"a table of {grid[0]} columns is too small for a context of {self.context} of "
                f"them and {self.sets} different sets of {self.target} of the others: at least "
                f"{self.sets} must be left, one more than a set has. Choose smaller shares or "
                "fewer sets."
            )
        return table

    def visible(self, grid: Sequence[int]) -> int:
        """Number of tokens that are gathered of a context.

        Raises:
            ValueError: as `counts`.
        """
        return int(self.counts(grid)[:, 0].max())

    def call(self, inputs: Any, seed: Any) -> MaskPlan:
        """The plan of tokens on their grid."""
        return self.plan(ops.shape(inputs)[0], inputs.shape[1:2], seed)

    def plan(self, rows: Any, grid: Sequence[int], seed: Any, **context: Any) -> MaskPlan:
        """Which tokens are shown and which predicted; see `Masking.plan`."""
        table, columns, fold = self.counts(grid), int(grid[0]), distribution.fold_in
        draw = distribution.uniform_batch(fold(seed, 0), (1,))[0]
        seen, asked = drawn_size(table, draw)
        # One draw: each of another shape is compiled by itself.
        noise = uniform(fold(seed, 1), rows, (self.sets + 2) * columns)
        noise = ops.reshape(noise, (-1, self.sets + 2, columns))
        visible = ops.cast(ranks(noise[:, 0]) < seen, "float32")
        # The others in random orders, shown ones behind them.
        places = ranks(noise[:, 1:] + 2.0 * ops.expand_dims(visible, 1))
        left, last = columns - seen, places[:, -1:]
        steps = ops.arange(self.sets, dtype="int32")[:, None]
        # Moved along the last order a set comes out different every time, so that as many as are
        # needed are there however small the table is.
        moved = ops.logical_and(last < left, ops.mod(last - steps, left) < asked)
        drawn = ops.concatenate([places[:, :-1] < asked, moved], axis=1)
        chosen = first_different(ops.cast(drawn, "float32"), asked, self.sets)
        most = int(table[:, 1].max())
        numbers = ops.arange(columns, dtype="float32")
        decode = ops.argsort((1.0 - chosen) * columns + numbers, axis=-1)[..., :most]
        decode = ops.cast(decode, "int32")
        # Not broadcast to a shape: with an open number of rows the others would be forgotten.
        real = ops.logical_and(ops.arange(most, dtype="int32") < asked, decode >= 0)
        return context_plan(visible, int(table[:, 0].max()), noise[:, 0], decode, real)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        own = {"context": list(self.context), "target": list(self.target), "sets": self.sets}
        return {**super().get_config(), **own}
