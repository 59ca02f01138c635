# SPDX-License-Identifier: Apache-2.0
"""NT-Xent, the contrastive loss of SimCLR."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from keras import ops

from keras_ssl.core import distribution
from keras_ssl.losses._math import (
    check_batch,
    check_positive,
    check_views,
    diagonal_blocks,
    normalize,
    own_columns,
)


@distribution.kind("gathered")
def nt_xent(projections: Sequence, *, temperature: float = 0.1, positives: str = "outside") -> Any:
    """Normalised temperature-scaled cross-entropy over all views of the global batch.

    Each of the V·B rows is an anchor. Its positives are the other views of the same image, and
    the denominator runs over every other row of the global batch, positives included:
    `-log(exp(z_i·z_p / t) / sum_{k != i} exp(z_i·z_k / t))`, averaged over the anchors. The
    original TensorFlow code averages the SUM over the two views instead, which is twice this.

    SimCLR, Chen et al. 2020, equation 1 and algorithm 1.

    Args:
        projections: list of V >= 2 tensors `(B, D)`, not normalised, any float dtype.
        temperature: divisor of the cosine similarities.
        positives: matters with three or more views. `"outside"` averages the log-probabilities
            of the positives (the sum is outside of the logarithm); `"inside"` takes the
            logarithm of the SUM of their probabilities.

    Returns:
        float32 scalar. About `log(V·B - 1)` for random projections, and exactly that as the
        temperature grows (with `"outside"` or two views).

    Raises:
        ValueError: for fewer than two views, different shapes, a batch of one row, or an
            unknown `positives`.

    Example:

    >>> z = np.random.normal(size=(2, 8, 16))
    >>> loss = nt_xent([z[0], z[1]], temperature=0.5)
    """
    if positives not in ("outside", "inside"):
        raise ValueError(f'positives is "outside" or "inside"; received {positives!r}.')
    check_positive("nt_xent", "temperature", temperature)
    views = [normalize(view) for view in check_views("nt_xent", projections)]
    check_batch("nt_xent", views[0], "whose other images are the negatives")

    anchors = ops.concatenate(views, axis=0)
    gathered = distribution.all_gather(views)
    logits = ops.matmul(anchors, ops.transpose(ops.concatenate(gathered, axis=0)))
    logits = logits / temperature
    _, own = own_columns(views[0], gathered[0])
    same_image = ops.tile(own, (len(views), len(views)))
    same_row = diagonal_blocks(own, len(views))
    # -inf only ever enters logsumexp, whose gradient there is an exact zero.
    every_other = ops.logsumexp(ops.where(same_row, -float("inf"), logits), axis=1)
    is_positive = ops.logical_and(same_image, ops.logical_not(same_row))
    if positives == "inside":
        attraction = ops.logsumexp(ops.where(is_positive, logits, -float("inf")), axis=1)
    else:
        attraction = ops.sum(ops.where(is_positive, logits, 0.0), axis=1) / (len(views) - 1)
    return ops.mean(every_other - attraction)
