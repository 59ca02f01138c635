# SPDX-License-Identifier: Apache-2.0
"""Tokens that say what others say."""

from __future__ import annotations

from typing import Any

from keras import ops


def least_redundant(x: Any, count: int) -> Any:
    """Tokens that are least like the other tokens of their sample.

    A token is as redundant as its cosine to the others is on average.

    Args:
        x: `(B, L, D)`, any float dtype; no gradient flows into it.
        count: number of tokens to keep of every sample.

    Returns:
        int32 `(B, count)`, the least redundant first.

    Raises:
        ValueError: for a count that is not in 1..L.

    Example:
        >>> least_redundant(np.array([[[1.0, 0.0], [1.0, 0.1], [0.0, 1.0]]]), 2)
        [[2, 0]]
    """
    if not 1 <= count <= x.shape[1]:
        raise ValueError(f"of {x.shape[1]} tokens {count} cannot be kept.")
    unit = ops.normalize(ops.cast(ops.stop_gradient(x), "float32"), axis=-1)
    # The mean of cosines is the cosine to the mean; a token's own counts the same for all.
    scores = ops.sum(unit * ops.mean(unit, axis=1, keepdims=True), axis=-1)
    return ops.cast(ops.argsort(scores, axis=1)[:, :count], "int32")
