# SPDX-License-Identifier: Apache-2.0
"""Decoupled contrastive learning: NT-Xent without the positive in the denominator."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from keras import ops

from keras_ssl.core import distribution
from keras_ssl.losses._math import (
    check_batch,
    check_positive,
    check_two_views,
    check_views,
    normalize,
    own_columns,
)


@distribution.kind("gathered")
def dcl(
    projections: Sequence,
    *,
    temperature: float = 0.1,
    symmetric: bool = True,
) -> Any:
    """Decoupled contrastive loss over two views of the global batch.

    `-z_i·z_p / t + log sum_{k not in {i, p}} exp(z_i·z_k / t)` for each row i with its other
    view p; the 2B - 2 negatives are both views of the other images. It has no lower bound of 0.
    For every anchor `nt_xent = softplus(dcl)`.

    Decoupled Contrastive Learning, Yeh et al. 2021, equation 6.

    Args:
        projections: two tensors `(B, D)`, not normalised, any float dtype.
        temperature: divisor of the cosine similarities.
        symmetric: whether rows of both views are anchors; else those of the first alone.

    Returns:
        float32 scalar, the mean over the anchors.

    Raises:
        ValueError: for other than two views, different shapes, or a batch of one row.

    Example:

    >>> z = np.random.normal(size=(2, 8, 16))
    >>> loss = dcl([z[0], z[1]], temperature=0.1)
    """
    return _decoupled("dcl", projections, temperature, symmetric, None)


@distribution.kind("gathered")
def dclw(
    projections: Sequence,
    *,
    temperature: float = 0.1,
    sigma: float = 0.5,
    detach_weight: bool = True,
    symmetric: bool = True,
) -> Any:
    """Decoupled contrastive loss whose positives far apart count more.

    As `dcl`, with the attraction of pair i times the von Mises-Fisher weight
    `2 - B · softmax_i(z1_i·z2_i / sigma)`, whose mean over the global batch is 1.

    Decoupled Contrastive Learning, Yeh et al. 2021, equations 6 and 7.

    Args:
        projections: two tensors `(B, D)`, not normalised, any float dtype.
        temperature: divisor of the cosine similarities.
        sigma: divisor of the similarities in the weight.
        detach_weight: whether the weight is a constant for the gradient (lightly's code); some
            codes let the gradient through it.
        symmetric: whether rows of both views are anchors; else those of the first alone.

    Returns:
        float32 scalar, the mean over the anchors.

    Raises:
        ValueError: for other than two views, different shapes, or a batch of one row.

    Example:

    >>> z = np.random.normal(size=(2, 8, 16))
    >>> loss = dclw([z[0], z[1]], sigma=0.5)
    """
    check_positive("dclw", "sigma", sigma)

    def weight(similarity):
        value = pair_weight(similarity, sigma)
        return ops.stop_gradient(value) if detach_weight else value

    return _decoupled("dclw", projections, temperature, symmetric, weight)


def pair_weight(similarity: Any, sigma: float) -> Any:
    """The weight of every pair from the similarities of all pairs.

    Args:
        similarity: `(B,)` cosine similarities of the global batch's pairs.
        sigma: divisor of the similarities.

    Returns:
        `(B,)` with mean 1; negative where one pair dominates.
    """
    rows = ops.cast(ops.shape(similarity)[0], "float32")
    return 2.0 - rows * ops.softmax(similarity / sigma)


def _decoupled(name, projections, temperature, symmetric, weight) -> Any:
    check_positive(name, "temperature", temperature)
    views = check_views(name, projections)
    check_two_views(name, views)
    views = [normalize(view) for view in views]
    check_batch(name, views[0], "whose other images are the negatives")
    gathered = distribution.all_gather(views)
    weights = None if weight is None else weight(ops.sum(gathered[0] * gathered[1], axis=1))
    total = _one_way(views[0], *gathered, weights, temperature)
    if not symmetric:
        return total
    return (total + _one_way(views[1], *reversed(gathered), weights, temperature)) / 2


def _one_way(anchors, same_view, other_view, weights, temperature) -> Any:
    """The loss of one view's rows: their negatives stand in both views."""
    images, own = own_columns(anchors, same_view)
    attraction = ops.sum(anchors * ops.take(other_view, images, axis=0), axis=1) / temperature
    if weights is not None:
        attraction = attraction * ops.take(weights, images)
    logits = ops.matmul(anchors, ops.transpose(ops.concatenate([same_view, other_view], axis=0)))
    # -inf only ever enters logsumexp, whose gradient there is an exact zero.
    masked = ops.where(ops.tile(own, (1, 2)), -float("inf"), logits / temperature)
    return ops.mean(ops.logsumexp(masked, axis=1) - attraction)
