# SPDX-License-Identifier: Apache-2.0
"""Files that a killed run leaves whole."""

import os
from pathlib import Path
from tempfile import TemporaryDirectory

import keras


def save_whole(model: keras.Model, path: Path, chief: bool) -> None:
    """Saves a `.keras` file beside its place and moves it there.

    Args:
        model: what to save.
        path: the file; its folder is made.
        chief: whether this worker writes it, see `_board.is_chief`. To save, all of them may have
            to read variables together.
    """
    if not chief:
        with TemporaryDirectory() as folder:
            model.save(Path(folder) / path.name)
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    half = path.with_name(f"{path.stem}.tmp.keras")
    model.save(half)
    os.replace(half, path)
