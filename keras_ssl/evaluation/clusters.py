# SPDX-License-Identifier: Apache-2.0
"""How well groups that k-means finds in features are the classes."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from keras_ssl.evaluation._inputs import labelled


class ClusterScores(NamedTuple):
    """Agreement of clusters with classes.

    Args:
        nmi: normalised mutual information, from 0 to 1.
        ari: adjusted Rand index, 0 for chance, 1 for the same groups.
        accuracy: share of samples whose cluster is matched to their class, each cluster with
            another class; from 0 to 1.
    """

    nmi: float
    ari: float
    accuracy: float


def cluster_scores(
    x: Any,
    y: Any,
    *,
    clusters: int | None = None,
    normalize: bool = True,
    restarts: int = 10,
    seed: int = 0,
) -> ClusterScores:
    """Clusters features by k-means and compares the clusters with the classes.

    Nothing is fitted to the labels but which cluster stands for which class, by the best matching.

    Args:
        x: (N, D) features.
        y: (N,) class indices, -1 (unlabelled) is dropped.
        clusters: number of clusters; None for that of the classes.
        normalize: whether rows get unit length first.
        restarts: runs of k-means, of which the tightest counts.
        seed: of its starts.

    Returns:
        A `ClusterScores`.

    Raises:
        ValueError: as `linear_probe`, or for fewer rows than clusters.

    Source: Unsupervised Deep Embedding for Clustering Analysis, 2016, equation 10 (accuracy by the
    Hungarian method).

    Example:
        >>> import numpy as np
        >>> x, y = np.repeat(np.eye(3), 5, axis=0), np.repeat([2, 0, 1], 5)
        >>> cluster_scores(x, y).accuracy
        1.0
    """
    from scipy.optimize import linear_sum_assignment
    from sklearn.cluster import KMeans
    from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score

    x, y = labelled(x, y, "train")
    classes, y = np.unique(y, return_inverse=True)
    clusters = len(classes) if clusters is None else clusters
    if not 1 <= clusters <= len(x):
        raise ValueError(f"clusters is {clusters}, expected 1 to {len(x)}, the number of rows.")
    if normalize:
        length = np.linalg.norm(x, axis=1, keepdims=True)
        x = x / np.where(length > 0, length, 1)
    found = KMeans(clusters, n_init=restarts, random_state=seed).fit_predict(x)
    table = np.zeros((clusters, len(classes)), "int64")
    np.add.at(table, (found, y), 1)
    pairs = linear_sum_assignment(table, maximize=True)
    return ClusterScores(
        float(normalized_mutual_info_score(y, found)),
        float(adjusted_rand_score(y, found)),
        float(table[pairs].sum() / len(y)),
    )
