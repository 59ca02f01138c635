# SPDX-License-Identifier: Apache-2.0
"""One large block that is seen, several small ones that are predicted."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_ssl.core import distribution
from keras_ssl.masking._plan import MaskPlan, uniform

# Sizes of blocks are drawn among so many equally likely ones.
SIZES = 4096


def block_size(
    grid: Sequence[int],
    scale: Sequence[float],
    aspect: Sequence[float],
    draw: float,
    aspect_draw: float | None = None,
    whole: bool = False,
) -> tuple[int, int]:
    """The sides of a block of tokens for drawn numbers.

    Args:
        grid: `(rows, columns)` of tokens.
        scale: range of the block's share of the tokens.
        aspect: range of its height over its width.
        draw: number in [0, 1) that decides the share.
        aspect_draw: the same for the aspect; `None` takes `draw`, as I-JEPA does, whose larger
            blocks are the taller ones.
        whole: whether a side may be as long as the grid's; else it is shorter.

    Returns:
        Rows and columns, at least 1 each.

    Source: I-JEPA, Assran et al. 2023, and V-JEPA, Bardes et al. 2024, released codes.

    Example:
        >>> block_size((14, 14), (0.15, 0.2), (0.75, 1.5), 0.5)
        (6, 6)
    """
    share = scale[0] + draw * (scale[1] - scale[0])
    ratio = aspect[0] + (draw if aspect_draw is None else aspect_draw) * (aspect[1] - aspect[0])
    area = int(math.prod(grid) * share)
    sides = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
    rows, columns = (
        max(min(side, most if whole else most - 1), 1)
        for side, most in zip(sides, grid, strict=True)
    )
    return rows, columns


@functools.lru_cache(maxsize=64)
def sizes_of(grid: tuple, scale: tuple, aspect: tuple) -> np.ndarray:
    """Equally likely sizes of blocks, int32 `(n, 2)`, kept: a step asks for them several times."""
    draws = (np.arange(SIZES) + 0.5) / SIZES
    return fixed([block_size(grid, scale, aspect, draw) for draw in draws])


def fixed(rows: Sequence) -> np.ndarray:
    """An int32 array that nobody changes."""
    array = np.array(rows, "int32")
    array.flags.writeable = False
    return array


def drawn_size(table: np.ndarray, draw: Any) -> list:
    """Sides of a row of a table that a number in [0, 1) chooses, int32 scalars."""
    index = ops.cast(ops.floor(draw * len(table)), "int32")
    row = ops.take(ops.convert_to_tensor(table), ops.minimum(index, len(table) - 1), axis=0)
    return [row[axis] for axis in range(table.shape[1])]


def corners(draws: Any, length: int, side: Any, edge: bool = True) -> Any:
    """First places of blocks along an axis.

    Args:
        draws: numbers in [0, 1), of any shape.
        length: of the axis.
        side: of the blocks, an int32 scalar.
        edge: whether a block may reach the end of the axis.

    Returns:
        int32 of the shape of the draws.
    """
    choices = length - side + int(edge)
    return ops.minimum(
        ops.cast(ops.floor(draws * ops.cast(choices, "float32")), "int32"), choices - 1
    )


def covered(first: Any, side: Any, length: int) -> Any:
    """Which places of an axis blocks cover, boolean `(…, length)`."""
    places = ops.arange(length, dtype="int32")
    first = ops.expand_dims(first, -1)
    return ops.logical_and(places >= first, places < first + side)


def rectangles(top: Any, left: Any, sides: Sequence, grid: Sequence[int]) -> Any:
    """Which tokens blocks cover, float32 `(B, n, L)` for corners `(B, n)`."""
    down = covered(top, sides[0], grid[0])[..., :, None]
    along = covered(left, sides[1], grid[1])[..., None, :]
    inside = ops.cast(ops.logical_and(down, along), "float32")
    return ops.reshape(inside, (-1, top.shape[1], math.prod(grid)))


def outside(blocks: Any) -> Any:
    """Tokens that no block covers, float32 `(B, L)` of `(B, n, L)`; all where n is 0."""
    if not blocks.shape[1]:
        return ops.ones_like(ops.sum(blocks, axis=1))
    return 1.0 - ops.max(blocks, axis=1)


def first_enough(candidates: Any, least: int) -> Any:
    """The first of several sets of tokens that has more than a number of them.

    Args:
        candidates: float32 `(B, n, L)`, 1 where a token is in a set.
        least: the number.

    Returns:
        float32 `(B, L)`; the first set where none has.
    """
    enough = ops.cast(ops.sum(candidates, axis=2) > least, "int32")
    chosen = ops.one_hot(ops.argmax(enough, axis=1), candidates.shape[1], dtype="float32")
    return ops.sum(ops.expand_dims(chosen, -1) * candidates, axis=1)


def some_of(flags: Any, count: int, noise: Any) -> tuple[Any, Any]:
    """Tokens that are marked, of every sample as many as are gathered.

    Args:
        flags: `(B, L)`, 1 where a token is marked.
        count: tokens to gather; of more marked ones some at random.
        noise: float32 `(B, L)` in [0, 1), which ones.

    Returns:
        int32 `(B, L)`, all tokens, the gathered ones first, and boolean `(B, count)`, which of
        those are marked: the others fill up.
    """
    order = ops.argsort(2.0 * (1.0 - ops.cast(flags, "float32")) + noise, axis=1)
    marked = ops.sum(ops.cast(flags, "int32"), axis=1, keepdims=True)
    return ops.cast(order, "int32"), ops.arange(count, dtype="int32")[None] < marked


def context_plan(visible: Any, count: int, noise: Any, decode: Any, asked: Any) -> MaskPlan:
    """The plan of a context and of sets of tokens that are predicted from it.

    Args:
        visible: `(B, L)`, 1 where a token belongs to the context.
        count: tokens that are gathered of it, see `some_of`.
        noise: float32 `(B, L)` in [0, 1).
        decode: int32 `(B, m, q)`, sets of tokens.
        asked: boolean `(B, m, q)`, which of them are real.

    Returns:
        `MaskPlan`.
    """
    order, shown = some_of(visible, count, noise)
    restore = ops.cast(ops.argsort(order, axis=1), "int32")
    seen = ops.sum(ops.cast(shown, "int32"), axis=1, keepdims=True)
    return MaskPlan(
        mask=ops.cast(restore >= seen, "float32"),
        keep=order[:, :count],
        hidden=order[:, count:],
        restore=restore,
        decode=decode,
        weight=ops.cast(asked, "float32"),
        shown=shown,
        asked=asked,
    )


def checked_range(name: str, value: Sequence[float], most: float = math.inf) -> tuple:
    """Two rising positive numbers.

    Raises:
        ValueError: if they are not.
    """
    low, high = (float(x) for x in value)
    if not 0.0 < low <= high <= most:
        below = "" if most == math.inf else f" up to {most:g}"
        raise ValueError(
            f"{name} is a range of rising positive numbers{below}; received {value!r}."
        )
    return low, high


@keras.saving.register_keras_serializable(package="keras_ssl")
class MultiBlockMasking(keras.layers.Layer):
    """Shows one large block of a grid without the small blocks that are predicted from it.

    Each small block is a set of its own in the plan: none is seen by another. Both kinds of blocks
    have one size in a step, whose share and aspect one number decides, and their own places in
    every sample. Where so much of the large block is taken that it keeps `least` tokens or fewer,
    it is drawn again, and in the end keeps what the last of the small blocks would take.

    Numbers of tokens are the same in every step, so that nothing is traced again: contexts are cut
    to a share of the grid, at random, or filled up with tokens to which nobody attends, and blocks
    are filled up to the largest. A step costs what it gathers: the usual half of the grid is more
    than nine of ten samples show, and small blocks are filled by less than a third. The released
    code cuts all samples of a batch to the one that shows fewest, always at the bottom of the
    image, and its numbers of tokens change from step to step.

    Args:
        blocks: number of small blocks, m.
        scale: range of their share of the tokens.
        aspect: range of their height over their width.
        context_scale: range of the large block's share of the tokens; it is square.
        context: share of the tokens that is gathered of contexts.
        least: a context has more tokens than this.
        attempts: large blocks that are tried.
        edge: whether blocks reach the last row and column, which those of the released code never
            do.
        **kwargs: `name` and `dtype` of `keras.layers.Layer`.

    Call: `masking(tokens, seed=...)` with tokens `(B, rows, columns, …)` and an int32 `(2,)` seed
    gives a `MaskPlan` whose `decode` is `(B, m, q)`; `plan` needs no tokens.

    Raises:
        ValueError: for a range or a number out of bounds; for a grid of other than two axes, or so
            small that a large block has no more than `least` tokens.

    Source: I-JEPA, Assran et al. 2023, section 3 and appendix A.1; released code
    (facebookresearch/ijepa).

    Example:
        >>> plan = MultiBlockMasking().plan(8, (14, 14), distribution.fixed_seed(0))
        >>> plan.keep.shape, plan.decode.shape
        ((8, 98), (8, 4, 40))
    """

    replaces = False

    def __init__(
        self,
        blocks: int = 4,
        scale: Sequence[float] = (0.15, 0.2),
        aspect: Sequence[float] = (0.75, 1.5),
        context_scale: Sequence[float] = (0.85, 1.0),
        context: float = 0.5,
        least: int = 10,
        attempts: int = 8,
        edge: bool = True,
        **kwargs: Any,
    ):
        super().__init__(**{"dtype": "float32", **kwargs})
        if min(blocks, attempts) < 1 or least < 0 or not 0.0 < context <= 1.0:
            raise ValueError(
                "MultiBlockMasking needs at least 1 block and 1 attempt, least of at least 0 and a "
                f"share context in (0, 1]; received {blocks}, {attempts}, {least} and {context}."
            )
        self.blocks, self.least, self.attempts = int(blocks), int(least), int(attempts)
        self.scale = checked_range("scale", scale, 1.0)
        self.aspect = checked_range("aspect", aspect)
        self.context_scale = checked_range("context_scale", context_scale, 1.0)
        self.context, self.edge = float(context), bool(edge)
        self.built = True

    def sizes(self, grid: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
        """Equally likely sizes of small and of large blocks, int32 `(n, 2)` each.

        Raises:
            ValueError: for a grid of other than two axes.
        """
        if len(grid) != 2 or min(grid) < 2:
            raise ValueError(
                f"{type(self).__name__} needs a grid (rows, columns) of at least 2 x 2 tokens; "
                f"received {tuple(grid)}."
            )
        kinds = ((self.scale, self.aspect), (self.context_scale, (1.0, 1.0)))
        small, large = (sizes_of(tuple(grid), *kind) for kind in kinds)
        return small, large

    def visible(self, grid: Sequence[int]) -> int:
        """Number of tokens that are gathered of a context.

        Raises:
            ValueError: where large blocks of a grid have no more than `least` tokens, or no more
                are gathered.
        """
        largest = self.sizes(grid)[1].prod(axis=1)
        count = min(int(math.prod(grid) * self.context), int(largest.max()))
        if min(count, largest.min()) <= self.least:
            raise ValueError(
                f"of a grid {tuple(grid)} contexts are blocks of {largest.min()} tokens, of which "
                f"{count} are gathered, and must have more than least={self.least}. Choose smaller "
                "patches, a smaller least, or a larger context or context_scale."
            )
        return count

    def most(self, grid: Sequence[int]) -> int:
        """The largest number of tokens of a small block, q."""
        return int(self.sizes(grid)[0].prod(axis=1).max())

    def call(self, inputs: Any, seed: Any) -> MaskPlan:
        """The plan of tokens on their grid."""
        return self.plan(ops.shape(inputs)[0], inputs.shape[1:3], seed)

    def plan(self, rows: Any, grid: Sequence[int], seed: Any, **context: Any) -> MaskPlan:
        """Which tokens are shown and which predicted; see `Masking.plan`."""
        count, sizes = self.visible(grid), self.sizes(grid)
        fold = distribution.fold_in
        draws = distribution.uniform_batch(fold(seed, 0), (2,))
        small, large = (drawn_size(table, draws[index]) for index, table in enumerate(sizes))
        # One draw: each of another shape is compiled by itself.
        split = 2 * (self.blocks + self.attempts)
        drawn = uniform(fold(seed, 1), rows, split + math.prod(grid))
        places = ops.reshape(drawn[:, :split], (-1, split // 2, 2))
        noise = drawn[:, split:]

        def corner(draws, sides):
            pairs = zip(range(2), grid, sides, strict=True)
            return [corners(draws[..., axis], n, side, self.edge) for axis, n, side in pairs]

        top, left = corner(places[:, : self.blocks], small)
        taken = rectangles(top, left, small, grid)
        above, beside = corner(places[:, self.blocks :], large)
        tried = rectangles(above, beside, large, grid)
        decode, asked = self._inside(top, left, small, grid)
        # Without all small blocks, at last without none of them.
        free = ops.stack([outside(taken[:, :n]) for n in range(self.blocks, -1, -1)], axis=1)
        candidates = ops.expand_dims(free, 2) * ops.expand_dims(tried, 1)
        candidates = ops.reshape(
            candidates, (-1, candidates.shape[1] * self.attempts, noise.shape[1])
        )
        visible = first_enough(candidates, self.least)
        return context_plan(visible, count, noise, decode, asked)

    def _inside(self, top: Any, left: Any, sides: Sequence, grid: Sequence[int]) -> tuple:
        """Numbers of the tokens of every block `(B, m, q)`, and which of them there are."""
        slots = ops.arange(self.most(grid), dtype="int32")
        asked = slots < sides[0] * sides[1]
        inside = ops.floor_divide(slots, sides[1]) * grid[1] + ops.mod(slots, sides[1])
        first = ops.expand_dims(top * grid[1] + left, -1)
        ids = ops.where(asked, first + inside, 0)
        # Not broadcast to a shape: with an open number of rows the others would be forgotten.
        return ids, ops.logical_and(asked, ids >= 0)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        names = ("blocks", "context", "least", "attempts", "edge")
        ranges = ("scale", "aspect", "context_scale")
        own = {name: getattr(self, name) for name in names}
        own |= {name: list(getattr(self, name)) for name in ranges}
        return {**super().get_config(), **own}
