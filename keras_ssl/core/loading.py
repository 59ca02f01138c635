# SPDX-License-Identifier: Apache-2.0
"""Opening saved models with errors that say what is wrong."""

from __future__ import annotations

import os
import zipfile
from typing import Any

import keras


def load_model(path: str | os.PathLike, **kwargs: Any) -> keras.Model:
    """Loads a saved model, ready to continue training.

    Args:
        path: a `.keras` file.
        **kwargs: further arguments of `keras.saving.load_model`.

    Returns:
        The model with its weights, teacher, seeds and optimizer.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if the file is damaged, foreign or of a newer format.
    """
    path = os.fspath(path)
    if not os.path.exists(path):
        raise FileNotFoundError(f"No model at {path!r}. Give the path of a .keras file.")
    if not zipfile.is_zipfile(path):
        raise ValueError(
            f"{path!r} is not a readable .keras file (it is damaged, or was written by "
            "something else). Restore it from a copy, or train again."
        )
    with zipfile.ZipFile(path) as archive:
        names = set(archive.namelist())
        missing = {"config.json", "metadata.json", "model.weights.h5"} - names
        if missing:
            raise ValueError(
                f"{path!r} is a zip file but not a Keras model: it lacks {sorted(missing)}."
            )
    return keras.saving.load_model(path, **kwargs)
