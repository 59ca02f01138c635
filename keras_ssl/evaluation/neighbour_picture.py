# SPDX-License-Identifier: Apache-2.0
"""Which images a representation holds for alike, as one picture."""

from typing import Any

import numpy as np

from keras_ssl.evaluation._cells import CELL, as_rgb, enlarge
from keras_ssl.evaluation._inputs import features as checked

_FRAME, _GAP = 4, 12
_SAME, _OTHER = (44, 160, 44), (214, 39, 40)


def neighbour_picture(
    images: Any, features: Any, *, queries: int = 8, k: int = 6, labels: Any = None
) -> np.ndarray:
    """One row a query: the image, then those with the most similar features among all the others.

    Args:
        images: `(N, H, W, C)` uint8 of 0..255 or float of 0..1, C of 1 or 3; the first are queries.
        features: `(N, D)` of them.
        queries: number of rows.
        k: neighbours in a row, the nearest first.
        labels: `(N,)` classes, -1 for unlabelled; a neighbour of the query's class has a green
            frame, of another one a red frame. None for no frames.

    Returns:
        uint8 `(height, width, 3)`.

    Raises:
        ValueError: for NaN or infinity, numbers that N images do not have, or where images,
            features and labels differ in number.

    Example:
        >>> features = evaluation.extract_features(model, images)
        >>> keras.utils.save_img("neighbours.png", neighbour_picture(images, features))
    """
    if len(images) != len(features) or (labels is not None and len(labels) != len(images)):
        raise ValueError(
            f"{len(images)} images have {len(features)} features and "
            f"{'no' if labels is None else len(labels)} labels, expected one an image."
        )
    found = _nearest(features, queries, k)
    shown = as_rgb(images)
    classes = [-1] * len(shown) if labels is None else np.asarray(labels).reshape(-1).tolist()
    gap = np.full((CELL + 2 * _FRAME, _GAP, 3), 255, "uint8")
    rows = []
    for query, own in enumerate(found):
        tiles = [_framed(shown[i], classes[i], classes[query]) for i in own]
        rows.append(np.concatenate([_framed(shown[query], -1, -1), gap, *tiles], axis=1))
    return np.concatenate(rows, axis=0)


def _framed(image: np.ndarray, label: int, wanted: int) -> np.ndarray:
    colour = (255, 255, 255)
    if min(label, wanted) >= 0:
        colour = _SAME if label == wanted else _OTHER
    side = CELL + 2 * _FRAME
    picture = np.full((side, side, 3), colour, "uint8")
    picture[_FRAME:-_FRAME, _FRAME:-_FRAME] = enlarge(image)
    return picture


def _nearest(features: Any, queries: int, k: int) -> np.ndarray:
    """The k rows most similar to each of the first ones, the nearest first: int `(queries, k)`."""
    z = checked(features, "features").astype("float64")
    if not (1 <= queries <= len(z) and 1 <= k < len(z)):
        raise ValueError(
            f"queries is {queries} and k is {k}, expected 1 to {len(z)} and 1 to {len(z) - 1} for "
            f"{len(z)} rows."
        )
    length = np.linalg.norm(z, axis=1, keepdims=True)
    z = z / np.where(length > 0, length, 1)
    cosines = z[:queries] @ z.T
    cosines[np.arange(queries), np.arange(queries)] = -np.inf
    return np.argsort(-cosines, axis=1, kind="stable")[:, :k]
