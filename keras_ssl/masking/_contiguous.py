# SPDX-License-Identifier: Apache-2.0
"""Long runs of a sequence."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from keras_ssl.core import distribution
from keras_ssl.masking._multi_block import checked_range, context_plan, some_of
from keras_ssl.masking._plan import MaskPlan, uniform

# Runs that are placed one after the other. Each takes about half of what is left to hide, so that
# of ten thousand samples hardly one needs as many; of that one the first tokens fill up the rest.
RUNS = 12


@keras.saving.register_keras_serializable(package="keras_ssl")
class ContiguousMasking(keras.layers.Layer):
    """Shows a small share of a sequence and predicts all the rest, which are a few long runs.

    The share is drawn for a step. Runs of random length are hidden one after the other: the longer
    what is still seen between two of them, the more likely the next one lies there, anywhere in it;
    where it is too short, all of it goes. What is left at the end and would be shorter than a run
    extends one. So every sample hides exactly as many tokens as were asked for.

    On a grid of several axes runs lie along the first, through all others: of channels with tokens
    of their own the same time is hidden.

    Numbers of tokens are the same in every step, so that nothing is traced again: contexts are
    filled up to the largest share, and predicted tokens to all but the smallest, with tokens to
    which nobody attends. With the usual shares a step costs at most a seventh more.

    Args:
        visible_share: range of the share of the tokens that is shown, rounded up.
        least: tokens of a run at least.
        **kwargs: `name` and `dtype` of `keras.layers.Layer`.

    Call: `masking(tokens, seed=...)` with tokens `(B, steps, …, D)` and an int32 `(2,)` seed gives
    a `MaskPlan` whose `decode` is `(B, 1, q)`; `plan` needs no tokens.

    Raises:
        ValueError: for a range or a number out of bounds, or a sequence so short that nothing is
            hidden.

    Source: Self-supervised pre-training with JEPA boosts ECG classification, Weimann and Conrad
    2024; released code (kweimann/ECG-JEPA).

    Example:
        >>> plan = ContiguousMasking().plan(8, (200,), distribution.fixed_seed(0))
        >>> plan.keep.shape, plan.decode.shape
        ((8, 50), (8, 1, 170))
    """

    replaces = False

    def __init__(
        self, visible_share: Sequence[float] = (0.15, 0.25), least: int = 10, **kwargs: Any
    ):
        super().__init__(**{"dtype": "float32", **kwargs})
        self.visible_share = checked_range("visible_share", visible_share, 1.0)
        if least < 1:
            raise ValueError(f"least is a number of tokens, at least 1; received {least!r}.")
        self.least = int(least)
        self.built = True

    def counts(self, grid: Sequence[int]) -> tuple[int, int]:
        """The smallest and the largest number of steps that are shown.

        Raises:
            ValueError: where the largest leaves nothing to hide.
        """
        few, many = (math.ceil(share * grid[0]) for share in self.visible_share)
        if many >= grid[0]:
            raise ValueError(
                f"of {grid[0]} steps {many} would be shown and none hidden. Choose smaller patches "
                f"or a smaller visible_share than {self.visible_share}."
            )
        return few, many

    def visible(self, grid: Sequence[int]) -> int:
        """Number of tokens that are gathered of a context."""
        return self.counts(grid)[1] * math.prod(grid[1:])

    def call(self, inputs: Any, seed: Any) -> MaskPlan:
        """The plan of tokens on their grid."""
        return self.plan(ops.shape(inputs)[0], inputs.shape[1:-1], seed)

    def plan(self, rows: Any, grid: Sequence[int], seed: Any, **context: Any) -> MaskPlan:
        """Which tokens are shown and which predicted; see `Masking.plan`."""
        few, many = self.counts(grid)
        steps, tokens, fold = grid[0], math.prod(grid), distribution.fold_in
        low, high = self.visible_share
        share = low + distribution.uniform_batch(fold(seed, 0), (1,))[0] * (high - low)
        shown = ops.clip(ops.cast(ops.ceil(share * steps), "int32"), few, many)
        # One draw: each of another shape is compiled by itself.
        drawn = uniform(fold(seed, 1), rows, 3 * RUNS + 2 * tokens)
        draws, noise = drawn[:, : 3 * RUNS], drawn[:, 3 * RUNS :]
        hidden = self._hidden(ops.reshape(draws, (-1, RUNS, 3)), steps, steps - shown)
        for size in grid[1:]:
            hidden = ops.repeat(hidden, size, axis=1)
        wanted = (steps - few) * math.prod(grid[1:])
        order, asked = some_of(hidden, wanted, noise[:, tokens:])
        decode, asked = order[:, None, :wanted], asked[:, None]
        count = self.visible(grid)
        return context_plan(1.0 - hidden, count, noise[:, :tokens], decode, asked)

    def _hidden(self, draws: Any, steps: int, wanted: Any) -> Any:
        """The hidden steps, float32 `(B, steps)`, by numbers `(B, RUNS, 3)` in [0, 1)."""
        places = ops.arange(steps, dtype="int32")[None]
        hidden = draws[:, 0, :1] < ops.zeros((1, steps))
        for turn in range(RUNS):
            first, size = self._run(hidden, draws[:, turn], places, wanted)
            inside = ops.logical_and(places >= first, places < first + size)
            hidden = ops.logical_or(hidden, inside)
        # Whatever was too much for so many runs: hidden ones first, then those at the beginning.
        order = ops.argsort(places - steps * ops.cast(hidden, "int32"), axis=1)
        return ops.cast(ops.argsort(order, axis=1) < wanted, "float32")

    def _run(self, hidden: Any, draws: Any, places: Any, wanted: Any) -> tuple[Any, Any]:
        """First step and length of the next run, int32 `(B, 1)`; length 0 where all is done."""
        steps = places.shape[1]
        seen = ops.cast(ops.logical_not(hidden), "int32")
        free = ops.sum(seen, axis=1, keepdims=True)
        left = wanted - (steps - free)
        # A seen step at random, and what is seen on both sides of it.
        chosen = _below(draws[:, :1], free)
        step = ops.sum(ops.cast(ops.cumsum(seen, axis=1) <= chosen, "int32"), axis=1, keepdims=True)
        before = ops.where(ops.logical_and(hidden, places < step), places + 1, 0)
        behind = ops.where(ops.logical_and(hidden, places > step), places, steps)
        start = ops.max(before, axis=1, keepdims=True)
        end = ops.min(behind, axis=1, keepdims=True)
        whole = left >= self.least
        size = ops.where(whole, self.least + _below(draws[:, 1:2], left - self.least + 1), left)
        room = end - start
        anywhere = start + _below(draws[:, 2:], room - size + 1)
        at_start = ops.logical_or(end == steps, draws[:, 2:] < 0.5)
        edge = ops.where(ops.logical_and(start > 0, at_start), start, end - size)
        first = ops.where(room <= size, start, ops.where(whole, anywhere, edge))
        return first, ops.minimum(size, room)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        own = {"visible_share": list(self.visible_share), "least": self.least}
        return {**super().get_config(), **own}


def _below(draws: Any, numbers: Any) -> Any:
    """Integers from 0 to below others, int32, by numbers in [0, 1)."""
    numbers = ops.maximum(numbers, 1)
    found = ops.cast(ops.floor(draws * ops.cast(numbers, "float32")), "int32")
    return ops.minimum(found, numbers - 1)
