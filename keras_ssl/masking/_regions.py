# SPDX-License-Identifier: Apache-2.0
"""Regions of an image that stand out, as sets of tokens."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from keras import ops

from keras_ssl.masking._multi_block import context_plan, some_of
from keras_ssl.masking._plan import MaskPlan, uniform

# Grey values between which a threshold is sought, and what keeps a flat map from dividing by 0.
LEVELS, FLAT = 256, 1e-6


def otsu_threshold(levels: Any) -> Any:
    """The grey value that parts values into the two most distant groups.

    Args:
        levels: int32 `(B, N)` in 0..255.

    Returns:
        int32 `(B, 1)`; values above it are one group. 0 where all are alike.

    Source: Otsu 1979, equation 18.
    """
    counts = ops.sum(ops.one_hot(levels, LEVELS, dtype="float32"), axis=1)
    shares = counts / levels.shape[1]
    places = ops.arange(LEVELS, dtype="float32")
    below = ops.cumsum(shares, axis=1)
    mean = ops.cumsum(shares * places, axis=1)
    both = below * (1.0 - below)
    distance = ops.square(mean[:, -1:] * below - mean)
    # Rounding must not make a group of nothing.
    real = ops.minimum(below, 1.0 - below) > 1e-6
    variance = ops.where(real, distance / ops.maximum(both, 1e-12), -1.0)
    return ops.cast(ops.argmax(variance, axis=1), "int32")[:, None]


def components(flags: Any, grid: Sequence[int]) -> Any:
    """Numbers tokens by the connected set that they belong to; corners connect too.

    Args:
        flags: boolean `(B, N)`.
        grid: `(rows, columns)` of tokens.

    Returns:
        int32 `(B, N)`: 0 outside, else the largest place, counted from 1, of a token of the set.
    """
    inside = ops.reshape(ops.cast(flags, "float32"), (-1, *grid, 1))
    numbers = ops.reshape(ops.arange(1, math.prod(grid) + 1, dtype="float32"), (1, *grid, 1))

    def spread(index, labels):
        return inside * ops.max_pool(labels, 3, 1, "same")

    # The longest way through a set has fewer steps than half of the tokens, and one more.
    steps = math.prod(grid) // 2 + 1
    labels = ops.fori_loop(0, steps, spread, inside * numbers)
    return ops.cast(ops.reshape(labels, (-1, math.prod(grid))), "int32")


def salient_regions(
    saliency: Any, grid: Sequence[int], regions: int = 5, least: float = 0.15
) -> Any:
    """Parts the tokens of an image into regions, the most salient first.

    Values above Otsu's threshold are parted into connected sets; small sets are dropped, the others
    come in the order of their mean saliency, and everything else is the last region.

    Args:
        saliency: `(B, N)` of every token.
        grid: `(rows, columns)` of tokens.
        regions: number of regions, R.
        least: share of the tokens that a region has at least.

    Returns:
        float32 `(B, R, N)`, 1 where a token belongs to a region; those that are missing are 0, the
        last takes what is left.

    Source: DSeq-JEPA, 2025, section 3; released code (SkyShunsuke/DSeq-JEPA).

    Example:
        >>> parts = salient_regions(np.random.normal(size=(8, 196)), (14, 14), least=0.01)
        >>> parts.shape
        (8, 5, 196)
    """
    saliency = ops.cast(saliency, "float32")
    low = ops.min(saliency, axis=1, keepdims=True)
    high = ops.max(saliency, axis=1, keepdims=True)
    scaled = (saliency - low) / (high - low + FLAT)
    levels = ops.cast(ops.floor(scaled * (LEVELS - 1)), "int32")
    labels = components(levels > otsu_threshold(levels), grid)
    tokens = math.prod(grid)
    belongs = ops.one_hot(labels, tokens + 1, dtype="float32")[..., 1:]
    sizes = ops.sum(belongs, axis=1)
    means = ops.sum(belongs * scaled[..., None], axis=1) / ops.maximum(sizes, 1.0)
    real = ops.logical_and(sizes > 0.0, sizes >= least * tokens)
    scores, chosen = ops.top_k(ops.where(real, means, -1.0), regions - 1)
    found = ops.equal(labels[:, None], ops.cast(chosen, "int32")[..., None] + 1)
    found = ops.cast(ops.logical_and(found, scores[..., None] >= 0.0), "float32")
    rest = 1.0 - ops.sum(found, axis=1, keepdims=True)
    return ops.concatenate([found, rest], axis=1)


def region_sequence(regions: Any) -> tuple[Any, Any]:
    """What is seen and what is predicted, region after region.

    Args:
        regions: `(B, R, N)`.

    Returns:
        float32 `(B, R - 1, N)` twice: the union of the first regions, and the next one.
    """
    count = regions.shape[1]
    seen = [ops.sum(regions[:, :n], axis=1) for n in range(1, count)]
    return ops.stack(seen, axis=1), regions[:, 1:]


def region_plan(seen: Any, asked: Any, seed: Any, context: float, predicted: float) -> MaskPlan:
    """The plan of regions that are predicted from others, a row for each.

    Args:
        seen: `(B, n, N)`, 1 where a token is seen, n regions of every sample.
        asked: `(B, n, N)`, 1 where it is predicted.
        seed: int32 `(2,)`, which tokens are left out where there are more than are gathered.
        context: share of the tokens that is gathered of what is seen.
        predicted: the same of what is predicted.

    Returns:
        `MaskPlan` of B · n rows, those of a sample one after the other, each with one set.
    """
    count, tokens = seen.shape[1], seen.shape[2]
    # Drawn for samples, so that every device has those of its own.
    noise = uniform(seed, seen.shape[0] or ops.shape(seen)[0], 2 * count, tokens)
    first, second = (ops.reshape(x, (-1, tokens)) for x in (noise[:, :count], noise[:, count:]))
    seen, asked = (ops.reshape(x, (-1, tokens)) for x in (seen, asked))
    wanted = max(int(tokens * predicted), 1)
    order, real = some_of(asked, wanted, second)
    kept = max(int(tokens * context), 1)
    return context_plan(seen, kept, first, order[:, None, :wanted], real[:, None])
