# SPDX-License-Identifier: Apache-2.0
"""Checks shared by the probes: every one takes features and labels and drops the unlabelled."""

from typing import Any

import numpy as np


def features(x: Any, name: str) -> np.ndarray:
    """Checks a feature matrix.

    Args:
        x: (N, D) array or tensor, any float or integer dtype.
        name: what to call `x` in an error.

    Returns:
        Array (N, D), float64 if `x` is float64, else float32.

    Raises:
        ValueError: if `x` has another rank or holds a NaN or an infinity.
    """
    x = np.asarray(x)
    if x.ndim != 2:
        raise ValueError(
            f"{name} has shape {x.shape}, expected (samples, dimensions). Flatten or pool every "
            f"sample to one vector, for raw images: {name}.reshape(len({name}), -1)."
        )
    x = x.astype("float64" if x.dtype == np.float64 else "float32")
    broken = np.flatnonzero(~np.isfinite(x).all(axis=1))
    if len(broken):
        raise ValueError(
            f"{name} holds NaN or infinity in {len(broken)} of {len(x)} rows (first: row "
            f"{broken[0]}). The encoder has diverged, or the inputs are broken."
        )
    return x


def labelled(x: Any, y: Any, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Checks features and labels and drops the rows whose label is -1.

    Args:
        x: (N, D) features.
        y: (N,) integer class indices, -1 for unlabelled.
        name: prefix of the arguments in an error, "train" or "test".

    Returns:
        `(x, y)` of the labelled rows; y int64.

    Raises:
        ValueError: if labels are missing, of another shape or kind, or below -1.
    """
    if y is None:
        raise ValueError(
            f"{name}_y is None: evaluation needs labels. Pass an integer class index per row "
            "of the features, -1 for the unlabelled."
        )
    x, y = features(x, f"{name}_x"), np.asarray(y)
    if y.ndim == 2 and y.shape[1] == 1:
        y = y[:, 0]
    if y.shape != x.shape[:1]:
        raise ValueError(
            f"{name}_y has shape {y.shape}, expected {x.shape[:1]}: one class index per row of "
            f"{name}_x (not one-hot)."
        )
    classes = y.astype("int64")
    if y.dtype.kind not in "iufb" or np.any(classes != y):
        raise ValueError(f"{name}_y has dtype {y.dtype}, expected integer class indices.")
    if len(classes) and classes.min() < -1:
        raise ValueError(
            f"{name}_y holds {classes.min()}, expected class indices from 0, or -1 for unlabelled."
        )
    keep = classes >= 0
    if not keep.any():
        raise ValueError(
            f"{name}_y has no labelled row ({len(y)} rows, all -1): evaluation needs labels."
        )
    return x[keep], classes[keep]


def pair(
    train_x: Any, train_y: Any, test_x: Any, test_y: Any
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Checks a labelled training and test set; see `labelled`.

    Args:
        train_x: (N, D) features.
        train_y: (N,) class indices, -1 for unlabelled.
        test_x: (M, D) features.
        test_y: (M,) class indices, -1 for unlabelled.

    Returns:
        The four arrays without their unlabelled rows.

    Raises:
        ValueError: as `labelled`, or if the dimensions differ.
    """
    train_x, train_y = labelled(train_x, train_y, "train")
    test_x, test_y = labelled(test_x, test_y, "test")
    same_width(train_x, test_x)
    return train_x, train_y, test_x, test_y


def same_width(train_x: np.ndarray, test_x: np.ndarray) -> None:
    """Raises ValueError unless both feature matrices have the same number of dimensions.

    Args:
        train_x: (N, D) features.
        test_x: (M, D) features.

    Raises:
        ValueError: if the dimensions differ.
    """
    if train_x.shape[1] != test_x.shape[1]:
        raise ValueError(
            f"train_x has {train_x.shape[1]} dimensions and test_x {test_x.shape[1]}, expected "
            "the same: extract both with the same encoder."
        )
