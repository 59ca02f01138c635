# SPDX-License-Identifier: Apache-2.0
"""The folder of a run: which files it holds, and when it may be written to."""

from __future__ import annotations

import datetime
import json
import os
import pathlib
from collections.abc import Mapping
from typing import Any


class RunFolder:
    """Paths of a run, and atomic writing into them.

    Args:
        path: the folder; made when it does not exist.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = pathlib.Path(path).expanduser()
        self.path.mkdir(parents=True, exist_ok=True)
        self.model = self.path / "model.keras"
        self.encoder = self.path / "encoder.keras"
        self.config = self.path / "config.json"
        self.metrics = self.path / "metrics.csv"
        self.results = self.path / "results.json"
        self.views = self.path / "views.png"
        self.clusters = self.path / "clusters.npy"
        self.embedding = self.path / "embedding.png"
        self.tensorboard = self.path / "tensorboard"
        self.checkpoint = self.path / "checkpoint" / "state.npz"

    @classmethod
    def create(cls, path: str | None, name: str) -> RunFolder:
        """A folder for a new run.

        Args:
            path: the folder the user named, or None for a fresh one under `runs/`.
            name: how a fresh folder begins, for example `"simclr-digits"`.

        Returns:
            The folder, which holds no run.

        Raises:
            FileExistsError: if the named folder already holds a run; nothing in it is touched.
        """
        if path is None:
            return cls(_fresh(pathlib.Path("runs"), name))
        if _holds_run(pathlib.Path(path).expanduser()):
            raise FileExistsError(
                f"{path} already holds a run, and a run is never overwritten. Either continue it "
                f"with --resume --run-dir {path}, or name another folder with --run-dir (without "
                "--run-dir a fresh one is made under runs/)."
            )
        return cls(path)

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> RunFolder:
        """The folder of a run that exists.

        Args:
            path: the folder.

        Returns:
            The folder.

        Raises:
            FileNotFoundError: if it holds no run.
        """
        if not (pathlib.Path(path).expanduser() / "config.json").is_file():
            raise FileNotFoundError(
                f"{path} holds no run: there is no config.json in it. Expected a folder written "
                "by `keras-ssl pretrain`, such as one of those under runs/."
            )
        return cls(path)

    def write_json(self, path: pathlib.Path, content: Mapping[str, Any]) -> None:
        """Writes a JSON file so that a killed process leaves the old or the new one, whole.

        Args:
            path: one of the folder's files.
            content: what is written.
        """
        write_atomically(path, (json.dumps(content, indent=2) + "\n").encode())


def read_json(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Reads a JSON object.

    Args:
        path: the file.

    Returns:
        Its content.

    Raises:
        ValueError: if it is not a JSON object.
        FileNotFoundError: if there is no such file.
    """
    try:
        content = json.loads(pathlib.Path(path).read_text())
    except ValueError as error:
        raise ValueError(f"{path} is not JSON ({error}); expected a config.json.") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path} holds a JSON {type(content).__name__}, expected an object.")
    return content


def write_atomically(path: pathlib.Path, content: bytes) -> None:
    """Replaces a file in one move, so that a reader never meets half of it.

    Args:
        path: the file.
        content: its new bytes.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + ".tmp")
    with open(temporary, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)


def _holds_run(path: pathlib.Path) -> bool:
    return any((path / name).exists() for name in ("config.json", "model.keras", "checkpoint"))


def _fresh(parent: pathlib.Path, name: str) -> pathlib.Path:
    parent.mkdir(parents=True, exist_ok=True)
    stem = f"{name}-{datetime.datetime.now():%Y%m%d-%H%M%S}"
    number = 1
    while True:
        path = parent / (stem if number == 1 else f"{stem}-{number}")
        try:
            # Making the folder is the test: two runs that start together get one each.
            path.mkdir()
            return path
        except FileExistsError:
            number += 1
