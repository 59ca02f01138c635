# SPDX-License-Identifier: Apache-2.0
"""InfoNCE between queries and keys: of the batch (MoCo v3, NNCLR) or of a queue (MoCo)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from keras import ops

from keras_ssl.core import distribution
from keras_ssl.losses._math import (
    as_float32,
    check_batch,
    check_pair,
    check_positive,
    check_two_views,
    normalize,
    own_columns,
)
from keras_ssl.losses.dcl import pair_weight
from keras_ssl.losses.nt_xent import nt_xent

DECOUPLED = (None, "dcl", "dclw")


@distribution.kind("gathered")
def info_nce(
    queries: Any,
    keys: Any,
    *,
    queue: Any = None,
    temperature: float = 0.1,
    decoupled: str | None = None,
    sigma: float = 0.5,
) -> Any:
    """Cross-entropy of finding each query's own key among the negatives.

    `-log(exp(q_i·k_i / t) / (exp(q_i·k_i / t) + sum_n exp(q_i·n / t)))`, averaged over the
    queries. Negatives n are the rows of `queue`, or without one the other keys of the global
    batch. Gradients flow to queries and keys; stop them before where the method does. The queue
    gets none.

    Representation Learning with Contrastive Predictive Coding, van den Oord et al. 2018, equation
    4; MoCo, He et al. 2020, equation 1.

    Args:
        queries: `(B, D)`, not normalised, any float dtype.
        keys: `(B, D)`, the positives row by row.
        queue: `(K, D)` negatives, equal on every replica, or None.
        temperature: divisor of the cosine similarities.
        decoupled: `"dcl"` leaves the positive out of the denominator, `"dclw"` also weights it
            (Yeh et al. 2021); None keeps it.
        sigma: of the weight of `"dclw"`.

    Returns:
        float32 scalar.

    Raises:
        ValueError: for different shapes, a batch of one row without a queue, or an unknown
            `decoupled`.

    Example:

    >>> q, k = np.random.normal(size=(2, 8, 16))
    >>> loss = info_nce(q, k, temperature=0.2)
    """
    if decoupled not in DECOUPLED:
        raise ValueError(f"decoupled is one of {DECOUPLED}; received {decoupled!r}.")
    check_positive("info_nce", "temperature", temperature)
    check_pair("info_nce", "queries", queries, "keys", keys)
    queries, keys = normalize(queries), normalize(keys)
    positive = ops.sum(queries * keys, axis=1)
    if queue is None:
        check_batch("info_nce", queries, "whose other keys are the negatives")
        everyone = distribution.all_gather(keys)
        _, own = own_columns(queries, everyone)
        logits = ops.matmul(queries, ops.transpose(everyone)) / temperature
        negatives = ops.where(own, -float("inf"), logits)
    else:
        check_pair("info_nce", "queue", queue, "queue", queue)
        negatives = ops.stop_gradient(normalize(queue))
        negatives = ops.matmul(queries, ops.transpose(negatives)) / temperature
    attraction = positive / temperature
    if decoupled == "dclw":
        pairs = distribution.all_gather(ops.stop_gradient(positive))
        images, _ = own_columns(positive, pairs)
        attraction = attraction * ops.take(pair_weight(pairs, sigma), images)
    if decoupled is None:
        negatives = ops.concatenate([ops.expand_dims(attraction, 1), negatives], axis=1)
    return ops.mean(ops.logsumexp(negatives, axis=1) - attraction)


@distribution.kind("gathered")
def moco_v3(queries: Sequence, keys: Sequence, *, temperature: float = 1.0) -> Any:
    """MoCo v3: each view's queries find the other view's keys; times 2 · temperature.

    Keys get no gradient. An Empirical Study of Training Self-Supervised Vision Transformers, Chen
    et al. 2021, algorithm 1.

    Args:
        queries: two tensors `(B, D)`, predictions of the first and the second view.
        keys: two tensors `(B, D)`, the teacher's projections of the first and the second view.
        temperature: divisor of the cosine similarities; 1.0 for ResNet, 0.2 for ViT.

    Returns:
        float32 scalar, the sum of both directions.

    Raises:
        ValueError: for other than two views or different shapes.

    Example:

    >>> q, k = np.random.normal(size=(2, 2, 8, 16))
    >>> loss = moco_v3(list(q), list(k), temperature=0.2)
    """
    check_two_views("moco_v3", queries, keys)
    pairs = (queries[0], keys[1]), (queries[1], keys[0])
    both = [info_nce(q, ops.stop_gradient(k), temperature=temperature) for q, k in pairs]
    return 2.0 * temperature * (both[0] + both[1])


@distribution.kind("gathered")
def nnclr(
    neighbors: Sequence,
    predictions: Sequence,
    *,
    temperature: float = 0.1,
    negatives: str = "other view",
    decoupled: str | None = None,
) -> Any:
    """NNCLR: the nearest neighbour of one view finds the prediction of the other.

    Neighbours get no gradient; both directions are averaged. With a Little Help from My Friends,
    Dwibedi et al. 2021, equations 3 to 5.

    Args:
        neighbors: two tensors `(B, D)`: support-set neighbours of the first and second view.
        predictions: two tensors `(B, D)`: predictions of the first and second view.
        temperature: divisor of the cosine similarities.
        negatives: `"other view"`: the other predictions of the batch; `"both"`: other
            neighbours besides, as lightly has it (NT-Xent of neighbour and prediction).
        decoupled: as in `info_nce`, with `"other view"` only.

    Returns:
        float32 scalar.

    Raises:
        ValueError: for other than two views, different shapes or unknown options.

    Example:

    >>> n, p = np.random.normal(size=(2, 2, 8, 16))
    >>> loss = nnclr(list(n), list(p))
    """
    check_two_views("nnclr", neighbors, predictions)
    if negatives not in ("other view", "both") or (negatives == "both" and decoupled):
        raise ValueError(
            'negatives is "other view", or "both" without decoupled; received '
            f"negatives={negatives!r}, decoupled={decoupled!r}."
        )
    total = 0.0
    for found, predicted in ((neighbors[0], predictions[1]), (neighbors[1], predictions[0])):
        found = ops.stop_gradient(as_float32(found))
        if negatives == "both":
            total = total + nt_xent([found, predicted], temperature=temperature)
        else:
            total = total + info_nce(found, predicted, temperature=temperature, decoupled=decoupled)
    return total / 2
