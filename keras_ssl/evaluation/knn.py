# SPDX-License-Identifier: Apache-2.0
"""Weighted k-nearest-neighbour classification on the sphere (InstDisc 2018, DINO 2021)."""

from typing import Any

import keras
import numpy as np
from keras import ops

from keras_ssl.evaluation._inputs import features, labelled, pair, same_width

# Similarities of one chunk stay under this many numbers (64 MiB of float32).
_CHUNK_NUMBERS = 1 << 24


def knn_scores(
    train_x: Any,
    train_y: Any,
    test_x: Any,
    *,
    k: int = 20,
    temperature: float = 0.07,
    num_classes: int | None = None,
    weighting: str = "exponential",
    verbose: bool | str = "auto",
) -> np.ndarray:
    """Class scores from the k most similar training rows, by cosine similarity.

    "exponential" gives class c the sum of `exp(cosine / temperature)` over the neighbours of that
    class, "vote" their number. Scores are not probabilities. Equally similar training rows enter
    in the order of the bank.

    Args:
        train_x: (N, D) features of the bank; L2-normalised here. float16 is computed in float32.
        train_y: (N,) class indices; rows with -1 (unlabelled) are left out of the bank.
        test_x: (M, D) features.
        k: number of neighbours, at most the labelled rows of the bank.
        temperature: positive; smaller lets the nearest rule. Below about 0.0015 the scores may
            leave float64; the accuracies of `knn_accuracy` do not.
        num_classes: columns of the result; None for the largest label plus one.
        weighting: "exponential" or "vote".
        verbose: True for a progress bar, "auto" for one on more than twenty chunks.

    Returns:
        Array (M, num_classes), float64.

    Raises:
        ValueError: if k exceeds the bank, labels are missing or outside `num_classes`, features
            are not finite, or an option is unknown.

    Source: Unsupervised Feature Learning via Non-Parametric Instance Discrimination, 2018,
    section 3.4 (temperature 0.07, k 200); Emerging Properties in Self-Supervised Vision
    Transformers, 2021, appendix F (k 20).
    """
    bank, labels = labelled(train_x, train_y, "train")
    queries = features(test_x, "test_x")
    num_classes = _check(bank, labels, queries, k, temperature, num_classes, weighting)
    chunks = [
        _class_sums(cosines, labels[rows], num_classes, temperature, weighting)
        for cosines, rows in _neighbours(bank, queries, k, verbose)
    ]
    scores, log_scale = (np.concatenate(parts) for parts in zip(*chunks, strict=True))
    return scores * np.exp(log_scale)


def knn_accuracy(
    train_x: Any,
    train_y: Any,
    test_x: Any,
    test_y: Any,
    *,
    k: int = 20,
    temperature: float = 0.07,
    num_classes: int | None = None,
    weighting: str = "exponential",
    top: int = 1,
    verbose: bool | str = "auto",
) -> float:
    """Share of test rows whose class is among the `top` best scored ones; see `knn_scores`.

    Ties go to the lower class index, also among classes that no neighbour has. Compare figures
    only at equal k, temperature and weighting: libraries differ in all three.

    Args:
        train_x: (N, D) features of the bank; L2-normalised here.
        train_y: (N,) class indices, -1 (unlabelled) is dropped.
        test_x: (M, D) features.
        test_y: (M,) class indices, -1 (unlabelled) is dropped.
        k: number of neighbours, at most the labelled rows of the bank.
        temperature: positive; used by "exponential" only.
        num_classes: number of classes; None for the largest label of either set plus one.
        weighting: "exponential" (InstDisc, DINO) or "vote" (majority).
        top: classes that count as a hit; all of them when there are fewer.
        verbose: True for a progress bar, "auto" for one on more than twenty chunks.

    Returns:
        Accuracy from 0 to 1.

    Raises:
        ValueError: as `knn_scores`, or if `top` is below 1.

    Example:
        >>> import numpy as np
        >>> bank, labels = np.eye(3), np.arange(3)
        >>> knn_accuracy(bank, labels, bank + 0.1, labels, k=1)
        1.0
    """
    bank, labels, queries, truth = pair(train_x, train_y, test_x, test_y)
    if num_classes is None:
        num_classes = int(max(labels.max(), truth.max())) + 1
    num_classes = _check(bank, labels, queries, k, temperature, num_classes, weighting)
    if truth.max() >= num_classes:
        raise ValueError(f"test_y holds class {truth.max()}, expected below {num_classes}.")
    if top < 1:
        raise ValueError(f"top is {top}, expected at least 1.")
    hits, start = 0, 0
    for cosines, rows in _neighbours(bank, queries, k, verbose):
        scores, _ = _class_sums(cosines, labels[rows], num_classes, temperature, weighting)
        best = np.argsort(-scores, axis=1, kind="stable")[:, :top]
        hits += int((best == truth[start : start + len(rows), None]).any(axis=1).sum())
        start += len(rows)
    return hits / len(truth)


def _check(bank, labels, queries, k, temperature, num_classes, weighting) -> int:
    """Checks the options of a kNN call and returns the number of classes."""
    same_width(bank, queries)
    if not 1 <= k <= len(bank):
        raise ValueError(
            f"k is {k}, expected 1 to {len(bank)}, the number of labelled rows in the bank. "
            "Lower k or give a larger bank."
        )
    if not temperature > 0:
        raise ValueError(f"temperature is {temperature}, expected a positive number.")
    if weighting not in ("exponential", "vote"):
        raise ValueError(f'weighting is {weighting!r}, expected "exponential" or "vote".')
    if num_classes is None:
        return int(labels.max()) + 1
    if labels.max() >= num_classes:
        raise ValueError(f"train_y holds class {labels.max()}, expected below {num_classes}.")
    return int(num_classes)


def _neighbours(bank, queries, k, verbose):
    """Yields (cosines (m, k), rows of the bank (m, k)) for chunks of the queries, in order."""
    dtype = np.result_type(bank, queries).name
    table = ops.transpose(ops.convert_to_tensor(_unit(bank), dtype=dtype))
    queries = _unit(queries)
    step = max(1, _CHUNK_NUMBERS // len(bank))
    starts = range(0, len(queries), step)
    shown = len(starts) > 20 if verbose == "auto" else verbose
    bar = keras.utils.Progbar(len(queries), unit_name="sample", verbose=int(bool(shown)))
    for start in starts:
        chunk = ops.convert_to_tensor(queries[start : start + step], dtype=dtype)
        cosines, rows = ops.top_k(ops.matmul(chunk, table), k)
        bar.update(min(start + step, len(queries)))
        yield ops.convert_to_numpy(cosines), ops.convert_to_numpy(rows)


def _class_sums(cosines, classes, num_classes, temperature, weighting):
    """Sums weights by class: (scores (m, num_classes), log scale (m, 1)); times exp(scale)."""
    logits = cosines.astype("float64") / temperature
    if weighting == "vote":
        logits = np.zeros_like(logits)
    # Only ratios matter to the arg max; relative to the nearest row none of them overflows.
    log_scale = logits.max(axis=1, keepdims=True)
    weights = np.exp(logits - log_scale)
    cells = np.arange(len(classes))[:, None] * num_classes + classes
    sums = np.bincount(cells.ravel(), weights.ravel(), minlength=len(classes) * num_classes)
    return sums.reshape(len(classes), num_classes), log_scale


def _unit(x: np.ndarray) -> np.ndarray:
    """L2-normalises rows; a zero row stays zero."""
    largest = np.abs(x).max(axis=1, keepdims=True)
    x = x / np.where(largest > 0, largest, 1)
    length = np.linalg.norm(x, axis=1, keepdims=True)
    return x / np.where(length > 0, length, 1)
