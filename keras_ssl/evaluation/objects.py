# SPDX-License-Identifier: Apache-2.0
"""How well patch tokens tell the objects of an image apart, given where the objects are."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from keras_ssl.evaluation.prompts import ROUNDING, unit_tokens


def patch_labels(masks: Any, patch: int | Sequence[int]) -> np.ndarray:
    """The most frequent label of each patch.

    Args:
        masks: integers `(N, H, W)`, one label a pixel, from -1 (no label).
        patch: side of a patch, or `(rows, columns)`; it must divide H and W.

    Returns:
        int64 `(N, H / rows, W / columns)`; of equally frequent labels the smallest.

    Raises:
        ValueError: for another rank or dtype, or sides that are no multiple of the patch.
    """
    masks = np.asarray(masks)
    tall, wide = (patch, patch) if isinstance(patch, int) else patch
    tiled = masks.ndim == 3 and masks.shape[1] % tall == masks.shape[2] % wide == 0
    if not tiled or masks.dtype.kind not in "iub":
        raise ValueError(
            f"masks are integers (N, H, W), their sides multiples of {tall} x {wide}; received "
            f"shape {masks.shape}, dtype {masks.dtype}."
        )
    rows, columns = masks.shape[1] // tall, masks.shape[2] // wide
    cut = masks.reshape(len(masks), rows, tall, columns, -1).transpose(0, 1, 3, 2, 4)
    cut = cut.reshape(len(masks), rows, columns, -1).astype("int64")
    classes = np.unique(cut)
    counts = np.stack([np.sum(cut == label, axis=-1) for label in classes], axis=-1)
    return classes[counts.argmax(axis=-1)]


def prompt_iou(
    tokens: Any, labels: Any, threshold: float = 0.5, *, background: int | None = None
) -> float:
    """Mean intersection over union of `prompt_segmentation` with the object of the prompt.

    Every patch of an object is a prompt once; the mean is over the prompts of an object, then over
    objects, so that small ones count as much as large ones.

    Args:
        tokens: `(N, rows, columns, D)`, see `patch_tokens`.
        labels: integers `(N, rows, columns)`, which object each patch belongs to, see
            `patch_labels`; patches with -1 take no part. Objects are told apart within an image:
            the labels may be classes or instances.
        threshold: of the cosine similarity. Encoders have different good ones, so compare each at
            its best, found on other images.
        background: label that is not prompted, but wrong where it is taken in; None for none.

    Returns:
        Number in 0..1. With tokens that say nothing, and the threshold at -1, it is the mean share
        of an object in its image.

    Raises:
        ValueError: if shapes do not belong together, or there is no object.

    Source: MMC, Wu et al. 2023 (https://arxiv.org/abs/2308.11448), which states the protocol; that
    every patch prompts, and the order of the means, are choices made here.
    """
    scores = []
    for unit, own in _labelled(tokens, labels):
        taken = np.clip(unit @ unit.T, -1.0, 1.0) >= threshold - ROUNDING
        np.fill_diagonal(taken, True)
        for name in _objects(own, background):
            wanted, found = own == name, taken[own == name]
            hits = np.sum(found & wanted, axis=1)
            scores.append(np.mean(hits / np.sum(found | wanted, axis=1)))
    return float(np.mean(_some(scores)))


def object_similarity(
    tokens: Any, labels: Any, *, background: int | None = None, bins: int = 100
) -> dict[str, float]:
    """How similar patches of one object are, and patches of different ones, and how much it
    overlaps.

    Args:
        tokens: `(N, rows, columns, D)`, see `patch_tokens`.
        labels: as in `prompt_iou`.
        background: label whose patches are compared with those of objects, not with each other.
        bins: of the histograms of similarities, over -1..1.

    Returns:
        `{"intra": mean cosine of two patches of an object, "inter": of two objects of an image,
        "overlap": area that both histograms share}`. Overlap 0: one threshold separates all pairs;
        1: similarity says nothing.

    Raises:
        ValueError: if shapes do not belong together, or a kind of pair is missing.

    Source: MMC, Wu et al. 2023; https://arxiv.org/abs/2308.11448. The overlap coefficient of
    histograms is the choice made here.
    """
    counts, sums = np.zeros((2, bins)), np.zeros(2)
    for unit, own in _labelled(tokens, labels):
        first, second = np.triu_indices(len(own), 1)
        similar = np.clip(unit @ unit.T, -1.0, 1.0)[first, second]
        same, ground = own[first] == own[second], own[first] == background
        for kind, chosen in enumerate((same & ~ground, ~same)):
            counts[kind] += np.histogram(similar[chosen], bins, (-1.0, 1.0))[0]
            sums[kind] += similar[chosen].sum()
    totals = counts.sum(axis=1)
    _some(totals if totals.all() else ())
    intra, inter = sums / totals
    overlap = np.minimum(*(counts / totals[:, None])).sum()
    return {"intra": float(intra), "inter": float(inter), "overlap": float(overlap)}


def _labelled(tokens: Any, labels: Any) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Unit tokens and labels of the labelled patches of each image."""
    tokens = tokens if hasattr(tokens, "shape") else np.asarray(tokens)
    shape, labels = tuple(tokens.shape[:-1]), np.asarray(labels)
    if labels.shape != shape or labels.dtype.kind not in "iub":
        raise ValueError(
            f"labels are integers of shape {shape}, one for each patch (see patch_labels); "
            f"received shape {labels.shape}, dtype {labels.dtype}."
        )
    for index, own in enumerate(labels):
        # One image at a time: double precision of all would be twice the tokens.
        yield unit_tokens(tokens[index : index + 1])[0][own != -1], own[own != -1]


def _objects(labels: np.ndarray, background: int | None) -> list:
    return [label for label in np.unique(labels) if label != background]


def _some(found: Any) -> Any:
    if len(found) == 0:
        raise ValueError(
            "labels hold too few objects: prompt_iou needs one, object_similarity two in an image, "
            "and two patches of one of them. Labels of -1 and the background count as none."
        )
    return found
