# SPDX-License-Identifier: Apache-2.0
"""DeepCluster-v2: every crop predicts the cluster that its image was assigned to."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from keras import ops

from keras_ssl.core import distribution
from keras_ssl.losses._math import as_float32, check_positive


@distribution.kind("reduced")
def deepcluster_v2(scores: Sequence, targets: Any, *, temperature: float = 0.1) -> Any:
    """Cross-entropy of cluster assignments, averaged over heads, crops and assigned images.

    `mean over h of mean over v and i of -log softmax(scores_h,v,i / temperature)_target(h,i)`. The
    target of an image is the same for all its crops. Images with target -1 are left out.

    Unsupervised Learning of Visual Features by Contrasting Cluster Assignments, Caron et al. 2020,
    appendix D.

    Args:
        scores: list of `(V, B, K)`, one a head, of V crops; heads may differ in K. Cosine
            similarities of projections and centroids, any float dtype.
        targets: `(heads, B)` integers from 0 to K - 1, or -1 for none.
        temperature: divisor of the scores.

    Returns:
        float32 scalar; 0 where no image has a target.

    Raises:
        ValueError: for shapes that do not belong together.

    Example:

    >>> scores = np.random.normal(size=(3, 2, 8, 5))
    >>> loss = deepcluster_v2(list(scores), np.zeros((3, 8), "int32"))
    """
    check_positive("deepcluster_v2", "temperature", temperature)
    if not isinstance(scores, (list, tuple)) or any(len(part.shape) != 3 for part in scores):
        raise ValueError(
            "deepcluster_v2 expects scores as a list with one (crops, batch, clusters) tensor per "
            "head."
        )
    targets = ops.cast(targets, "int32")
    if len(targets.shape) != 2 or targets.shape[0] != len(scores):
        raise ValueError(
            f"deepcluster_v2 expects targets of shape ({len(scores)}, batch), a row for each head; "
            f"received {tuple(targets.shape)}."
        )
    assigned = ops.cast(targets >= 0, "float32")
    sums, counts = [], []
    for head, given in enumerate(scores):
        logits = as_float32(given) / temperature
        classes = ops.maximum(targets[head], 0)
        chosen = ops.one_hot(classes, logits.shape[-1], dtype="float32")
        costs = ops.logsumexp(logits, axis=-1) - ops.sum(logits * chosen, axis=-1)
        sums.append(ops.sum(ops.mean(costs, axis=0) * assigned[head]))
        counts.append(ops.sum(assigned[head]))
    total = distribution.all_reduce_sum(ops.stack(counts))
    # A replica's share: the mean over replicas is the mean over all assigned images.
    shares = ops.stack(sums) * distribution.replica_count() / ops.maximum(total, 1.0)
    return ops.mean(shares)
