# SPDX-License-Identifier: Apache-2.0
"""Whether samples of the same class are found by similarity of features."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from keras_ssl.evaluation._inputs import labelled, same_width

# Similarities of one chunk stay under this many numbers.
_CHUNK_NUMBERS = 1 << 24


class RetrievalScores(NamedTuple):
    """What was found.

    Args:
        mean_average_precision: mean over queries of the average precision of the whole ranking.
        recall: share of queries with a sample of their class among the first k, by k.
    """

    mean_average_precision: float
    recall: dict[int, float]


def retrieval_scores(
    query_x: Any,
    query_y: Any,
    bank_x: Any = None,
    bank_y: Any = None,
    *,
    ks: Sequence[int] = (1, 5, 10),
) -> RetrievalScores:
    """Ranks a bank by cosine similarity to every query; what has the query's class is relevant.

    Equally similar rows keep the order of the bank. A query whose class the bank does not have
    counts for nothing in the mean average precision and as missed in the recall.

    Args:
        query_x: (M, D) features.
        query_y: (M,) class indices, -1 (unlabelled) is dropped.
        bank_x: (N, D) features; None for the queries, each of which does not find itself.
        bank_y: (N,) class indices, -1 (unlabelled) is dropped.
        ks: how far down the ranking recall looks.

    Returns:
        A `RetrievalScores`.

    Raises:
        ValueError: as `linear_probe`, for a k outside of the bank, or where no query has a relevant
            row.

    Source: Deep Metric Learning via Lifted Structured Feature Embedding, 2016 (recall at k);
    Emerging Properties in Self-Supervised Vision Transformers, 2021, section 4.2 (mean average
    precision).

    Example:
        >>> import numpy as np
        >>> x, y = np.repeat(np.eye(3), 2, axis=0), np.repeat(np.arange(3), 2)
        >>> retrieval_scores(x, y, ks=(1,))
        RetrievalScores(mean_average_precision=1.0, recall={1: 1.0})
    """
    alone = bank_x is None
    query_x, query_y = labelled(query_x, query_y, "query")
    bank_x, bank_y = (query_x, query_y) if alone else labelled(bank_x, bank_y, "bank")
    same_width(bank_x, query_x)
    most = len(bank_x) - alone
    if not ks or min(ks) < 1 or max(ks) > most:
        raise ValueError(f"ks is {tuple(ks)}, expected numbers from 1 to {most}, rows of the bank.")
    queries, bank = _unit(query_x), _unit(bank_x)
    step = max(1, _CHUNK_NUMBERS // len(bank))
    precisions, hits = [], np.zeros(len(ks))
    for start in range(0, len(queries), step):
        cosines = queries[start : start + step] @ bank.T
        rows = np.arange(len(cosines))
        if alone:
            # Behind all others, where it is cut off.
            cosines[rows, start + rows] = -np.inf
        order = np.argsort(-cosines, axis=1, kind="stable")[:, :most]
        relevant = bank_y[order] == query_y[start : start + step, None]
        hits += [relevant[:, :k].any(axis=1).sum() for k in ks]
        counts = relevant.sum(axis=1)
        precision = np.cumsum(relevant, axis=1) / np.arange(1, most + 1)
        sums = (precision * relevant).sum(axis=1)
        precisions.append(sums[counts > 0] / counts[counts > 0])
    found = np.concatenate(precisions)
    if not len(found):
        raise ValueError("No query has a sample of its class in the bank: nothing can be found.")
    recall = {int(k): float(hit / len(queries)) for k, hit in zip(ks, hits, strict=True)}
    return RetrievalScores(float(found.mean()), recall)


def _unit(x: np.ndarray) -> np.ndarray:
    length = np.linalg.norm(x, axis=1, keepdims=True)
    return x / np.where(length > 0, length, 1)
