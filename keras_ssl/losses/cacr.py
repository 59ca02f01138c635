# SPDX-License-Identifier: Apache-2.0
"""CACR: contrastive attraction and contrastive repulsion, two conditional transport costs."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

from keras import ops

from keras_ssl.core import distribution
from keras_ssl.losses._math import check_batch, check_positive, check_views, normalize, own_columns


@distribution.kind("local")
def cacr_attraction(projections: Sequence, *, alpha: float = 1.0, temperature: float = 1.0) -> Any:
    """Squared distance between views of one image, in which far views count more.

    `mean_i mean_v sum_{u != v} softmax_u(t · d_vu²) · alpha · d_vu²` on unit rows. The gradient
    flows through the weights too. With temperature 0 it is the mean squared distance.

    Contrastive Attraction and Contrastive Repulsion, Zheng et al. 2023, equation 6.

    Args:
        projections: list of V >= 2 tensors `(B, D)`, not normalised, any float dtype.
        alpha: factor of the cost.
        temperature: of the weights, at least 0.

    Returns:
        float32 scalar in 0..4 · alpha.

    Raises:
        ValueError: for fewer than two views or different shapes.

    Example:

    >>> z = np.random.normal(size=(5, 8, 16))
    >>> loss = cacr_attraction(list(z))
    """
    views = [normalize(view) for view in check_views("cacr_attraction", projections)]
    total = 0.0
    for anchor in range(len(views)):
        others = [view for index, view in enumerate(views) if index != anchor]
        distance = ops.stack([_distances(views[anchor], view) for view in others], axis=1)
        weight = ops.softmax(temperature * distance, axis=1)
        total = total + ops.mean(ops.sum(weight * alpha * distance, axis=1))
    return total / len(views)


@distribution.kind("gathered")
def cacr_repulsion(projections: Sequence, *, beta: float = 1.0, temperature: float = 0.9) -> Any:
    """Negative squared distance to other images, in which near images count more.

    `mean_i sum_{j != i} softmax_j(-t · d_ij²) · (-beta · d_ij²)` between the rows of an earlier and
    a later view, averaged over the pairs of views. Negatives come from the global batch. As the
    temperature grows only the nearest counts.

    Contrastive Attraction and Contrastive Repulsion, Zheng et al. 2023, equation 7.

    Args:
        projections: list of V >= 2 tensors `(B, D)`, not normalised, any float dtype.
        beta: factor of the cost.
        temperature: of the weights, at least 0.

    Returns:
        float32 scalar in -4 · beta..0.

    Raises:
        ValueError: for fewer than two views, different shapes, or a batch of one row.

    Example:

    >>> z = np.random.normal(size=(5, 8, 16))
    >>> loss = cacr_repulsion(list(z))
    """
    views = [normalize(view) for view in check_views("cacr_repulsion", projections)]
    check_batch("cacr_repulsion", views[0], "whose other images are the negatives")
    gathered = distribution.all_gather(views)
    _, own = own_columns(views[0], gathered[0])
    pairs = list(itertools.combinations(range(len(views)), 2))
    total = 0.0
    for first, second in pairs:
        distance = 2.0 - 2.0 * ops.matmul(views[first], ops.transpose(gathered[second]))
        weight = ops.softmax(ops.where(own, -float("inf"), -temperature * distance), axis=1)
        total = total - ops.mean(ops.sum(weight * beta * distance, axis=1))
    return total / len(pairs)


@distribution.kind("gathered")
def cacr_momentum(
    queries: Sequence, keys: Any, *, temperature: float = 0.2, cost: str = "rbf"
) -> Any:
    """The form of CACR on MoCo v3: several query views against one key view.

    Each query view s of image i weighs `softmax_s(d_si² / t)`, detached. With `"rbf"` it weighs
    the cross-entropy of finding key i among all keys, times 2t and averaged over the batch; with
    `"euclidean"` it weighs `c_ii - sum_{j != i} softmax_j(-c_ij / t) · c_ij` with the cosine
    distance c between query i and key j, summed over the batch.

    Contrastive Attraction and Contrastive Repulsion, Zheng et al. 2023, section 4.3; the authors'
    ImageNet code.

    Args:
        queries: list of one or more tensors `(B, D)`, not normalised.
        keys: `(B, D)`, not normalised; gets no gradient.
        temperature: of weights and logits.
        cost: `"rbf"` or `"euclidean"`.

    Returns:
        float32 scalar.

    Raises:
        ValueError: for different shapes or an unknown cost.

    Example:

    >>> z = np.random.normal(size=(3, 8, 16))
    >>> loss = cacr_momentum([z[0], z[1]], z[2])
    """
    if cost not in ("rbf", "euclidean"):
        raise ValueError(f'cost is "rbf" or "euclidean"; received {cost!r}.')
    check_positive("cacr_momentum", "temperature", temperature)
    *views, keys = [normalize(x) for x in check_views("cacr_momentum", [*queries, keys])]
    keys = ops.stop_gradient(keys)
    everyone = distribution.all_gather(keys)
    _, own = own_columns(keys, everyone)
    distance = ops.stack([_distances(view, keys) for view in views], axis=0)
    weights = ops.stop_gradient(ops.softmax(distance / temperature, axis=0))
    total = 0.0
    for view, weight in zip(views, ops.unstack(weights, len(views)), strict=True):
        similar = ops.matmul(view, ops.transpose(everyone))
        positive = ops.sum(view * keys, axis=1)
        if cost == "rbf":
            found = ops.logsumexp(similar / temperature, axis=1) - positive / temperature
            total = total + 2.0 * temperature * ops.mean(weight * found)
        else:
            logits = ops.where(own, -float("inf"), (similar - 1.0) / temperature)
            near = ops.stop_gradient(ops.softmax(logits, axis=1))
            repelled = ops.sum(near * (1.0 - similar), axis=1)
            # The mean over replicas is taken by the engine, and this is a sum.
            rows = ops.sum(weight * (1.0 - positive - repelled))
            total = total + distribution.replica_count() * rows
    return total


def _distances(first: Any, second: Any) -> Any:
    """Squared distances of corresponding rows."""
    return ops.sum(ops.square(first - second), axis=1)
