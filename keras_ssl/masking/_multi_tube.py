# SPDX-License-Identifier: Apache-2.0
"""Blocks that run through the frames of a video, and several strategies at once."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_ssl.core import distribution
from keras_ssl.masking._multi_block import (
    SIZES,
    block_size,
    checked_range,
    context_plan,
    corners,
    covered,
    drawn_size,
    first_enough,
    fixed,
    outside,
    some_of,
)
from keras_ssl.masking._plan import MaskPlan, uniform


@functools.lru_cache(maxsize=64)
def tube_sizes(grid: tuple, frames: tuple, scale: tuple, aspect: tuple) -> np.ndarray:
    """Equally likely frames, rows and columns of blocks, int32 `(n, 3)`, kept as `sizes_of`."""
    ranges = (frames, scale, aspect)
    varying = sum(low < high for low, high in ranges)
    steps = round(SIZES ** (1 / max(varying, 1)))
    draws = [(np.arange(steps) + 0.5) / steps if low < high else [0.5] for low, high in ranges]
    every = np.stack(np.meshgrid(*draws), axis=-1).reshape(-1, 3)
    return fixed([tube_size(grid, *ranges, *three) for three in every])


def tube_size(
    grid: tuple, frames: tuple, scale: tuple, aspect: tuple, *draws: float
) -> tuple[int, int, int]:
    """Frames, rows and columns of a block for three numbers in [0, 1), one for each range."""
    length = max(int(grid[0] * (frames[0] + draws[0] * (frames[1] - frames[0]))), 1)
    return (length, *block_size(grid[1:], scale, aspect, *draws[1:], whole=True))


@keras.saving.register_keras_serializable(package="keras_ssl")
class MultiTubeMasking(keras.layers.Layer):
    """Predicts what several blocks of a video cover together, and shows the rest.

    Blocks of few frames could be guessed from the frames around them, so by default they run
    through all. Their size is drawn for a step, frames, area and aspect each by itself, their
    places for every sample; where they leave nothing, they are drawn again, and in the end the
    first block alone counts.

    Numbers of tokens are the same in every step, so that nothing is traced again: of contexts and
    of predicted tokens shares of the grid are gathered, at random where there are more, and filled
    up with tokens to which nobody attends where there are fewer. A step costs what it gathers. The
    released code cuts all samples of a batch to the shortest one, always at its end.

    Args:
        blocks: number of blocks.
        scale: range of a block's share of the places of a frame.
        aspect: range of its height over its width.
        frames: range of its share of the frames.
        context: share of the tokens that is gathered of contexts.
        predicted: share of the tokens that is gathered of predicted ones.
        latest: share of the frames of which a context may have tokens; those of later ones are
            predicted.
        attempts: draws of blocks that are tried.
        **kwargs: `name` and `dtype` of `keras.layers.Layer`.

    Call: `masking(tokens, seed=...)` with tokens `(B, frames, rows, columns, …)` and an int32
    `(2,)` seed gives a `MaskPlan` whose `decode` is `(B, 1, q)`; `plan` needs no tokens.

    Raises:
        ValueError: for a range or a number out of bounds, or a grid of other than three axes.

    Source: V-JEPA, Bardes et al. 2024, section 3.2 (short range: 8 blocks of 15 %, long range: 2 of
    70 %); released code (facebookresearch/jepa).

    Example:
        >>> plan = MultiTubeMasking().plan(8, (8, 14, 14), distribution.fixed_seed(0))
        >>> plan.keep.shape, plan.decode.shape
        ((8, 784), (8, 1, 1176))
    """

    replaces = False

    def __init__(
        self,
        blocks: int = 8,
        scale: Sequence[float] = (0.15, 0.15),
        aspect: Sequence[float] = (0.75, 1.5),
        frames: Sequence[float] = (1.0, 1.0),
        context: float = 0.5,
        predicted: float = 0.75,
        latest: float = 1.0,
        attempts: int = 4,
        **kwargs: Any,
    ):
        super().__init__(**{"dtype": "float32", **kwargs})
        shares = {"context": context, "predicted": predicted, "latest": latest}
        if min(blocks, attempts) < 1 or not all(0.0 < x <= 1.0 for x in shares.values()):
            raise ValueError(
                "MultiTubeMasking needs at least 1 block and 1 attempt, and shares in (0, 1]; "
                f"received {blocks}, {attempts} and {shares}."
            )
        self.blocks, self.attempts = int(blocks), int(attempts)
        self.scale = checked_range("scale", scale, 1.0)
        self.aspect = checked_range("aspect", aspect)
        self.frames = checked_range("frames", frames, 1.0)
        self.context, self.predicted = float(context), float(predicted)
        self.latest = float(latest)
        self.built = True

    def sizes(self, grid: Sequence[int]) -> np.ndarray:
        """Equally likely sizes of blocks, int32 `(n, 3)`: frames, rows, columns.

        Raises:
            ValueError: for a grid of other than three axes.
        """
        if len(grid) != 3:
            raise ValueError(
                f"{type(self).__name__} needs a grid (frames, rows, columns) of tokens; received "
                f"{tuple(grid)}."
            )
        return tube_sizes(tuple(grid), self.frames, self.scale, self.aspect)

    def size(
        self, grid: Sequence[int], frames: float, share: float, aspect: float
    ) -> tuple[int, int, int]:
        """Frames, rows and columns of a block for numbers in [0, 1)."""
        ranges = self.frames, self.scale, self.aspect
        return tube_size(tuple(grid), *ranges, frames, share, aspect)

    def visible(self, grid: Sequence[int]) -> int:
        """Number of tokens that are gathered of a context.

        Raises:
            ValueError: where it is none, or a block may cover all.
        """
        sizes, count = self.sizes(grid), int(math.prod(grid) * self.context)
        if not count or sizes.prod(axis=1).max() >= math.prod(grid):
            raise ValueError(
                f"blocks of {sizes.max(axis=0).tolist()} of a grid {tuple(grid)} leave nothing, or "
                f"{count} tokens are gathered of contexts. Choose a smaller scale, or smaller "
                "patches."
            )
        return count

    def call(self, inputs: Any, seed: Any) -> MaskPlan:
        """The plan of tokens on their grid."""
        return self.plan(ops.shape(inputs)[0], inputs.shape[1:4], seed)

    def plan(self, rows: Any, grid: Sequence[int], seed: Any, **context: Any) -> MaskPlan:
        """Which tokens are shown and which predicted; see `Masking.plan`."""
        count, tokens, fold = self.visible(grid), math.prod(grid), distribution.fold_in
        draw = distribution.uniform_batch(fold(seed, 0), (1,))[0]
        sides = drawn_size(self.sizes(grid), draw)
        # One draw: each of another shape is compiled by itself.
        number = self.blocks * self.attempts
        drawn = uniform(fold(seed, 1), rows, 3 * number + 2 * tokens)
        places, noise = drawn[:, : 3 * number], drawn[:, 3 * number :]
        places = ops.reshape(places, (-1, number, 3))
        axes = [
            covered(corners(places[..., axis], n, side), side, n)
            for axis, (n, side) in enumerate(zip(grid, sides, strict=True))
        ]
        late = np.arange(grid[0]) >= max(int(grid[0] * self.latest), 1)
        through = axes[0][..., :, None, None]
        inside = ops.logical_and(axes[1][..., None, :, None], axes[2][..., None, None, :])
        inside = ops.cast(ops.logical_and(through, inside), "float32")
        inside = ops.maximum(inside, late.astype("float32")[:, None, None])
        inside = ops.reshape(inside, (-1, self.attempts, self.blocks, tokens))
        tries = [inside[:, index] for index in range(self.attempts)]
        free = [outside(x) for x in tries] + [outside(x[:, :1]) for x in tries]
        visible = first_enough(ops.stack(free, axis=1), 0)
        wanted = max(int(tokens * self.predicted), 1)
        order, asked = some_of(1.0 - visible, wanted, noise[:, tokens:])
        decode, asked = order[:, None, :wanted], asked[:, None]
        return context_plan(visible, count, noise[:, :tokens], decode, asked)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        names = ("blocks", "context", "predicted", "latest", "attempts")
        own = {name: getattr(self, name) for name in names}
        own |= {name: list(getattr(self, name)) for name in ("scale", "aspect", "frames")}
        return {**super().get_config(), **own}


@keras.saving.register_keras_serializable(package="keras_ssl")
class SeveralMaskings(keras.layers.Layer):
    """Several strategies at once: a plan of each for every sample.

    Args:
        strategies: layers of `masking`.
        **kwargs: `name` and `dtype` of `keras.layers.Layer`.

    Call: as the strategies, with a list of plans.

    Raises:
        ValueError: for none.

    Source: V-JEPA, Bardes et al. 2024, section 3.2 (multi-mask prediction).

    Example:
        >>> both = SeveralMaskings([RandomMasking(0.75), RandomMasking(0.5)])
        >>> tuple(p.keep.shape[1] for p in both.plan(8, (16,), distribution.fixed_seed(0)))
        (4, 8)
    """

    def __init__(self, strategies: Sequence[keras.Layer], **kwargs: Any):
        super().__init__(**{"dtype": "float32", **kwargs})
        self.strategies = list(strategies)
        if not self.strategies:
            raise ValueError("SeveralMaskings needs at least one strategy.")
        self.built = True

    @property
    def replaces(self) -> bool:
        """Whether an encoder needs a mask token for the plans of one of them."""
        return any(getattr(strategy, "replaces", False) for strategy in self.strategies)

    def visible(self, grid: Sequence[int]) -> int:
        """The largest number of tokens that one of them gathers.

        Raises:
            ValueError: where one of them cannot.
        """
        return max(strategy.visible(grid) for strategy in self.strategies)

    def call(self, inputs: Any, seed: Any) -> list[MaskPlan]:
        """The plans of tokens on their grid."""
        return self.plan(ops.shape(inputs)[0], inputs.shape[1:-1], seed)

    def plan(self, rows: Any, grid: Sequence[int], seed: Any, **context: Any) -> list[MaskPlan]:
        """The plans of all strategies; see `Masking.plan`."""
        return [
            strategy.plan(rows, grid, distribution.fold_in(seed, index), **context)
            for index, strategy in enumerate(self.strategies)
        ]

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        parts = [keras.saving.serialize_keras_object(one) for one in self.strategies]
        return {**super().get_config(), "strategies": parts}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> SeveralMaskings:
        """Makes the strategies from `get_config`."""
        parts = [keras.saving.deserialize_keras_object(one) for one in config["strategies"]]
        return cls(**{**config, "strategies": parts})
