# SPDX-License-Identifier: Apache-2.0
"""Files that a killed run leaves whole."""

import os
from pathlib import Path

import keras


def save_whole(model: keras.Model, path: Path) -> None:
    """Saves a `.keras` file beside its place and moves it there.

    Args:
        model: what to save.
        path: the file; its folder is made.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    half = path.with_name(f"{path.stem}.tmp.keras")
    model.save(half)
    os.replace(half, path)
