# SPDX-License-Identifier: Apache-2.0
"""Rectangles of tokens, drawn until enough are hidden."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from keras_ssl.core import distribution
from keras_ssl.masking._plan import MaskPlan, plan_of, uniform

# A sample whose rectangles did not fit so many times in a row is done, as in the released code.
GIVE_UP = 10


@keras.saving.register_keras_serializable(package="keras_ssl")
class BlockMasking(keras.layers.Layer):
    """Hides rectangles of a grid of tokens: per sample, reproducible, compiled.

    A sample is masked at all with `probability`; then a share of its tokens is drawn from `ratio`,
    and rectangles of random area and aspect are added until none fits into what is left of it. No
    sample hides more than its share.

    Args:
        ratio: range of the share of hidden tokens.
        probability: of hiding any tokens of a sample.
        aspect: smallest aspect of a rectangle; the largest is its inverse.
        smallest: least area of a rectangle in tokens; None for a ninth of the square of the
            shorter side, rounded down, as iBOT has it (BEiT: 16).
        attempts: rectangles tried for a sample in all.
        exact: whether every sample hides as many tokens as the largest share says, so that plans
            have indices: rectangles as many as fit, single tokens for what is missing. The low end
            of `ratio` and `probability` then mean nothing.
        **kwargs: `name` and `dtype` of `keras.layers.Layer`.

    Call: `masking(tokens, seed=...)` with tokens `(B, rows, columns, …)` and an int32 `(2,)` seed
    gives a `MaskPlan`; `plan` needs no tokens, and `draw` gives the mask on its grid.

    Raises:
        ValueError: for shares or probabilities outside [0, 1], an aspect that is not in (0, 1], a
            grid of other than two axes; where exact, for a share of no or of all tokens.

    Source: BEiT, Bao et al. 2021, algorithm 1; shares: iBOT, Zhou et al. 2021, appendix.

    Example:
        >>> mask = BlockMasking((0.1, 0.5)).draw(8, (14, 14), distribution.fixed_seed(0))
        >>> mask.shape
        (8, 14, 14)
    """

    def __init__(
        self,
        ratio: Sequence[float] = (0.1, 0.5),
        probability: float = 0.5,
        aspect: float = 0.3,
        smallest: int | None = None,
        attempts: int = 40,
        exact: bool = False,
        **kwargs: Any,
    ):
        super().__init__(**{"dtype": "float32", **kwargs})
        low, high = (float(share) for share in ratio)
        if not 0.0 <= low <= high <= 1.0 or not 0.0 <= probability <= 1.0:
            raise ValueError(
                f"{type(self).__name__} needs 0 <= low <= high <= 1 in ratio and a probability in "
                f"[0, 1]; received ratio={ratio!r}, probability={probability!r}."
            )
        if not 0.0 < aspect <= 1.0 or attempts < 1:
            raise ValueError(
                f"{type(self).__name__} needs an aspect in (0, 1] and at least 1 attempt; received "
                f"{aspect!r} and {attempts!r}."
            )
        self.ratio, self.probability, self.aspect = (low, high), float(probability), float(aspect)
        self.smallest, self.attempts, self.exact = smallest, int(attempts), bool(exact)
        self.built = True

    @property
    def replaces(self) -> bool:
        """Whether an encoder needs a mask token for its plans."""
        return not self.exact

    def most(self, grid: Sequence[int]) -> int:
        """The largest number of tokens that can be hidden in a sample."""
        # float32 may round 28.99…, which a share of 0.29 gives here, to 29.
        return int(self.ratio[1] * math.prod(grid) + 1e-4)

    def visible(self, grid: Sequence[int]) -> int:
        """The smallest number of tokens that stay visible in a sample.

        Raises:
            ValueError: where exact, and none would be visible or none hidden.
        """
        tokens, hidden = math.prod(grid), self.most(grid)
        if self.exact and not 0 < hidden < tokens:
            kind = "visible" if hidden else "hidden"
            raise ValueError(
                f"a share of {self.ratio[1]} leaves no {kind} token of {tokens}. Choose another "
                "ratio, or smaller patches."
            )
        return tokens - hidden

    def call(self, inputs: Any, seed: Any) -> MaskPlan:
        """The plan of tokens on their grid."""
        return self.plan(ops.shape(inputs)[0], inputs.shape[1:3], seed)

    def plan(self, rows: Any, grid: Sequence[int], seed: Any, **context: Any) -> MaskPlan:
        """Which tokens are shown; see `Masking.plan`. Without `exact` a mask and no indices."""
        visible = self.visible(grid)
        mask = ops.reshape(self.draw(rows, grid, seed), (-1, math.prod(grid)))
        mask = ops.cast(mask, "float32")
        if not self.exact:
            return MaskPlan(mask)
        # Which single tokens are hidden or shown besides, and in which order all are gathered.
        noise = uniform(distribution.fold_in(seed, 2), rows, math.prod(grid))
        return plan_of(mask + noise, visible)

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
        smallest = (min(height, width) // 3) ** 2 if self.smallest is None else self.smallest
        fold = distribution.fold_in
        shares = uniform(fold(seed, 0), rows, 2)
        low, high = (self.ratio[1], self.ratio[1]) if self.exact else self.ratio
        wanted = (low + (high - low) * shares[:, 0]) * (height * width)
        if not self.exact:
            wanted = ops.where(shares[:, 1] < self.probability, wanted, 0.0)
        draws = uniform(fold(seed, 1), rows, self.attempts, 4)
        down = ops.reshape(ops.arange(height, dtype="float32"), (1, height, 1))
        along = ops.reshape(ops.arange(width, dtype="float32"), (1, 1, width))
        span = -2.0 * math.log(self.aspect)

        def attempt(index, state):
            mask, failed = state
            draw = draws[:, index]
            left = wanted - ops.sum(mask, axis=(1, 2))
            area = ops.maximum(smallest + (left - smallest) * draw[:, 0], 0.0)
            aspect = ops.exp(math.log(self.aspect) + span * draw[:, 1])
            tall, wide = ops.round(ops.sqrt(area * aspect)), ops.round(ops.sqrt(area / aspect))
            fits = ops.logical_and(tall < height, wide < width)
            top = ops.floor(draw[:, 2] * (height - tall + 1.0))
            start = ops.floor(draw[:, 3] * (width - wide + 1.0))
            block = ops.logical_and(_between(down, top, tall), _between(along, start, wide))
            added = ops.sum(ops.cast(block, "float32") * (1.0 - mask), axis=(1, 2))
            enough = ops.logical_and(added > 0.0, added <= left)
            taken = ops.logical_and(ops.logical_and(fits, enough), failed < GIVE_UP)
            hidden = ops.logical_and(block, ops.reshape(taken, (-1, 1, 1)))
            mask = ops.maximum(mask, ops.cast(hidden, "float32"))
            return mask, ops.where(taken, 0.0, failed + 1.0)

        start = (ops.zeros((rows, height, width), "float32"), ops.zeros((rows,), "float32"))
        mask, _ = ops.fori_loop(0, self.attempts, attempt, start)
        return mask > 0.5

    def _plane(self, grid: Sequence[int]) -> tuple[int, int]:
        if len(grid) != 2:
            raise ValueError(
                f"{type(self).__name__} needs a grid (rows, columns) of tokens; received "
                f"{tuple(grid)}."
            )
        return int(grid[0]), int(grid[1])

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        names = ("probability", "aspect", "smallest", "attempts", "exact")
        own = {name: getattr(self, name) for name in names}
        return {**super().get_config(), "ratio": list(self.ratio), **own}


def _between(places: Any, first: Any, length: Any) -> Any:
    first = ops.reshape(first, (-1, 1, 1))
    last = first + ops.reshape(length, (-1, 1, 1))
    return ops.logical_and(places >= first, places < last)
