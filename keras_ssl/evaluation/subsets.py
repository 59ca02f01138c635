# SPDX-License-Identifier: Apache-2.0
"""Which rows keep their label where few do, the same on every machine."""

from __future__ import annotations

from typing import Any

import numpy as np


def labelled_subset(
    labels: Any, *, fraction: float | None = None, per_class: int | None = None, seed: int = 0
) -> np.ndarray:
    """Rows that keep their label: a fraction of every class, or so many of it.

    The rows of a smaller subset are in every larger one of the same seed, so that curves over the
    number of labels do not jump for other draws.

    Args:
        labels: (N,) class indices, -1 (unlabelled) is never drawn.
        fraction: share of every class, above 0 and at most 1, rounded, at least one row.
        per_class: rows of every class, from 1; give one of both.
        seed: of the draw.

    Returns:
        Sorted row indices, int64.

    Raises:
        ValueError: unless one of `fraction` and `per_class` is given and can be met.

    Source: the 1 % and 10 % protocols of A Simple Framework for Contrastive Learning of Visual
    Representations, 2020, section 6.

    Example:
        >>> labelled_subset([0, 0, 1, 1, -1], per_class=1).shape
        (2,)
    """
    labels = np.asarray(labels).reshape(-1)
    classes, sizes = np.unique(labels[labels >= 0], return_counts=True)
    if (fraction is None) == (per_class is None) or not len(classes):
        raise ValueError(
            "labelled_subset takes a fraction or a number per_class, and labels; received "
            f"fraction={fraction}, per_class={per_class} and {len(classes)} class(es)."
        )
    if fraction is not None and not 0.0 < fraction <= 1.0:
        raise ValueError(f"fraction is {fraction}, expected above 0 and at most 1.")
    if per_class is not None and not 1 <= per_class <= sizes.min():
        raise ValueError(
            f"per_class is {per_class}, expected 1 to {sizes.min()}, the rows of class "
            f"{classes[sizes.argmin()]}."
        )
    rows = []
    for name, size in zip(classes, sizes, strict=True):
        count = per_class or max(round(fraction * size), 1)
        order = np.random.default_rng((seed, int(name))).permutation(size)
        rows.append(np.flatnonzero(labels == name)[order[:count]])
    return np.sort(np.concatenate(rows))
