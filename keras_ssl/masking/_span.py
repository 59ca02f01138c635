# SPDX-License-Identifier: Apache-2.0
"""Spans of a sequence."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from keras_ssl.masking._plan import Masking, MaskPlan, plan_in_order, uniform


@keras.saving.register_keras_serializable(package="keras_ssl")
class SpanMasking(Masking):
    """Hides spans of a sequence of tokens, which may overlap, until enough are hidden.

    Spans start anywhere where they fit, one after the other in random order; of the last one only
    the first tokens are hidden, as many as are missing, so that every sample hides the same number.
    Tokens at both ends lie in fewer spans and are hidden less often.

    Args:
        length: tokens of a span.
        ratio: share of hidden tokens.
        rounding: how it becomes a number of tokens, see `visible_count`.
        **kwargs: `name` and `dtype` of `keras.layers.Layer`.

    Call: as `RandomMasking`, on a grid of one axis.

    Raises:
        ValueError: for a ratio outside (0, 1), an unknown rounding, or spans longer than the axis.

    Source: wav2vec 2.0, Baevski et al. 2020, section 3.1; SpanBERT, Joshi et al. 2020. A fixed
    number of hidden tokens in place of a number of spans is ours.

    Example:
        >>> plan = SpanMasking(10, 0.5).plan(8, (100,), distribution.fixed_seed(0))
        >>> plan.hidden.shape
        (8, 50)
    """

    def __init__(
        self, length: int = 10, ratio: float = 0.5, rounding: str = "floor_visible", **kwargs: Any
    ):
        super().__init__(ratio, rounding, **kwargs)
        if length < 1:
            raise ValueError(f"length is a number of tokens, at least 1; received {length!r}.")
        self.length = int(length)

    def visible(self, grid: Sequence[int], ratio: float | None = None) -> int:
        """Number of tokens of a grid that are shown, see `Masking.visible`."""
        if len(grid) != 1 or self.length >= grid[0]:
            raise ValueError(
                f"spans of {self.length} tokens need a sequence of more; received a grid of "
                f"{tuple(grid)}."
            )
        return super().visible(grid, ratio)

    def plan(self, rows: Any, grid: Sequence[int], seed: Any, **context: Any) -> MaskPlan:
        """Which tokens are shown, those that the latest spans cover first; see `Masking.plan`."""
        visible, starts = self.visible(grid), grid[0] - self.length + 1
        arrival = ops.argsort(ops.argsort(uniform(seed, rows, starts), axis=1), axis=1)
        covered = [
            ops.pad(
                ops.cast(arrival, "int32"),
                ((0, 0), (step, self.length - 1 - step)),
                constant_values=starts,
            )
            for step in range(self.length)
        ]
        first = ops.min(ops.stack(covered), axis=0)
        # Equal numbers come in order: turned around, the later tokens of a span are shown first.
        order = grid[0] - 1 - ops.argsort(-ops.flip(first, axis=1), axis=1)
        return plan_in_order(ops.cast(order, "int32"), visible)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {**super().get_config(), "length": self.length}
