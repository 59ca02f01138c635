# SPDX-License-Identifier: Apache-2.0
"""SwAV: one crop predicts the balanced cluster assignment of another."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from keras import ops

from keras_ssl.core import distribution
from keras_ssl.losses._math import check_positive, check_views
from keras_ssl.losses.sinkhorn import sinkhorn_knopp


@distribution.kind("gathered")
def swav_codes(
    scores: Sequence,
    *,
    epsilon: float = 0.05,
    iterations: int = 3,
    queue_scores: Sequence | None = None,
    queue_weight: Any = 1.0,
) -> Any:
    """The codes of several crops, balanced over the batch or over a queue and the batch.

    Args:
        scores: list of `(B, K)`, one a crop.
        epsilon: see `sinkhorn_knopp`.
        iterations: see `sinkhorn_knopp`.
        queue_scores: list of `(Q, K)`, one a crop: scores of earlier samples, equal on every
            replica. They take part in the balance and get no codes.
        queue_weight: mass of a sample of the queue; 0 (also as a tensor) leaves the queue out.

    Returns:
        float32 `(crops, B, K)`, rows that sum to 1, without gradient.

    Raises:
        ValueError: for different shapes, or another number of queues than of crops.

    Example:

    >>> codes = swav_codes(list(np.random.normal(size=(2, 64, 10))))
    """
    tensors = check_views("swav_codes", scores, "scores", least=1)
    batch = ops.stack(tensors)
    settings = {"epsilon": epsilon, "iterations": iterations}
    if queue_scores is None:
        return sinkhorn_knopp(batch, **settings)
    queues = check_views("swav_codes", queue_scores, "queue_scores", least=1)
    if len(queues) != len(tensors) or queues[0].shape[-1] != batch.shape[-1]:
        raise ValueError(
            "swav_codes needs queue_scores of as many crops and prototypes as scores; received "
            f"{len(queues)} of shape {tuple(queues[0].shape)} beside {len(tensors)} of shape "
            f"{tuple(tensors[0].shape)}."
        )
    rows = ops.stack(queues)
    # Every replica brings the whole queue, which must count once.
    mass = ops.cast(queue_weight, "float32") / distribution.replica_count()
    weights = [ops.ones_like(rows[..., 0]) * mass, ops.ones_like(batch[..., 0])]
    everyone = ops.concatenate([rows, batch], axis=1)
    codes = sinkhorn_knopp(everyone, weights=ops.concatenate(weights, axis=1), **settings)
    return codes[:, ops.shape(rows)[1] :]


@distribution.kind("gathered")
def swav(
    scores: Sequence,
    *,
    temperature: float = 0.1,
    epsilon: float = 0.05,
    iterations: int = 3,
    code_crops: int = 2,
    queue_scores: Sequence | None = None,
    queue_weight: Any = 1.0,
) -> Any:
    """Swapped prediction: the other crops predict the codes of each full crop.

    `mean over c of mean over v ≠ c of -mean_i sum_k q_c,ik log softmax(s_v,i / temperature)_k`,
    where c runs over the first `code_crops` crops and v over all. Codes q get no gradient.

    Unsupervised Learning of Visual Features by Contrasting Cluster Assignments, Caron et al. 2020,
    equations 1 to 3.

    Args:
        scores: list of `(B, K)`, one a crop, the full ones first: cosine similarities of
            projections and prototypes, any float dtype.
        temperature: divisor of the scores that predict.
        epsilon: see `sinkhorn_knopp`.
        iterations: see `sinkhorn_knopp`.
        code_crops: number of crops whose codes are predicted.
        queue_scores: see `swav_codes`; one a crop whose codes are predicted.
        queue_weight: see `swav_codes`.

    Returns:
        float32 scalar.

    Raises:
        ValueError: for fewer than two crops, different shapes, or more `code_crops` than crops.

    Example:

    >>> loss = swav(list(np.random.normal(size=(4, 64, 10))))
    """
    check_positive("swav", "temperature", temperature)
    tensors = check_views("swav", scores, "scores")
    if not 1 <= code_crops <= len(tensors):
        raise ValueError(
            f"swav has {len(tensors)} crops and cannot take codes of code_crops={code_crops}."
        )
    codes = swav_codes(
        tensors[:code_crops],
        epsilon=epsilon,
        iterations=iterations,
        queue_scores=queue_scores,
        queue_weight=queue_weight,
    )
    predictions = ops.log_softmax(ops.stack(tensors) / temperature, axis=-1)
    total = 0.0
    for crop in range(code_crops):
        # A crop does not predict itself.
        others = [v for v in range(len(tensors)) if v != crop]
        agreement = sum(ops.sum(codes[crop] * predictions[v], axis=-1) for v in others)
        total = total - ops.mean(agreement) / len(others)
    return total / code_crops
