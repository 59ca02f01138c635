# SPDX-License-Identifier: Apache-2.0
"""Checkpoints that a killed run continues from, at the batch where it stood."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import pathlib
import time
import zipfile
from typing import Any

import keras
import numpy as np

from keras_ssl.run.folder import write_atomically

FORMAT = 1


@dataclasses.dataclass(frozen=True)
class Position:
    """Where a run stands.

    Args:
        epoch: the epoch of the next batch, from 0.
        batch: the next batch in it, from 0.
        step: how many optimizer steps were done.
    """

    epoch: int = 0
    batch: int = 0
    step: int = 0


def save_state(path: pathlib.Path, model: keras.Model, position: Position) -> None:
    """Writes weights, optimizer, teachers, queues and random seeds in one move.

    Args:
        path: the `.npz` file.
        model: a compiled model.
        position: where the run stands.
    """
    arrays: dict[str, Any] = {
        f"v{i}": np.asarray(v.numpy()) for i, (_, v) in enumerate(_variables(model))
    }
    header = {
        "format": FORMAT,
        "position": dataclasses.asdict(position),
        "variables": [[name, str(variable.dtype)] for name, variable in _variables(model)],
    }
    buffer = io.BytesIO()
    arrays["header"] = np.frombuffer(json.dumps(header).encode(), np.uint8)
    np.savez(buffer, **arrays)
    write_atomically(path, buffer.getvalue())


def load_state(path: pathlib.Path, model: keras.Model) -> Position:
    """Restores what `save_state` wrote.

    Args:
        path: the `.npz` file.
        model: a compiled model of the same structure.

    Returns:
        Where the run stood.

    Raises:
        ValueError: if the file is unreadable, newer than this package, or of another model.
    """
    advice = "Start a new run in another --run-dir."
    try:
        with np.load(path, allow_pickle=False) as archive:
            stored = {name: archive[name] for name in archive.files}
        header = json.loads(stored.pop("header").tobytes())
    except (ValueError, KeyError, OSError, zipfile.BadZipFile) as error:
        raise ValueError(f"{path} is not a readable checkpoint ({error}). {advice}") from error
    if header.get("format") != FORMAT:
        raise ValueError(
            f"{path} has checkpoint format {header.get('format')}, this version reads {FORMAT}. "
            "Use the version of keras_ssl that wrote it (config.json names it)."
        )
    variables = _variables(model)
    expected = [[tuple(v.shape), str(v.dtype)] for _, v in variables]
    # NumPy knows no bfloat16 and reads it back as raw bytes; the header keeps its name.
    found = [
        [stored[f"v{i}"].shape, dtype]
        for i, (_, dtype) in enumerate(header["variables"])
        if f"v{i}" in stored
    ]
    if expected != found:
        raise ValueError(
            f"{path} belongs to another model: it holds {len(found)} variables, the model has "
            f"{len(expected)}, or their shapes differ. {advice}"
        )
    for index, (_, variable) in enumerate(variables):
        value = stored[f"v{index}"]
        if value.dtype.kind == "V":
            value = value.view(keras.ops.convert_to_numpy(variable).dtype)
        variable.assign(value)
    return Position(**header["position"])


def _variables(model: keras.Model) -> list[tuple[str, Any]]:
    optimizer: Any = model.optimizer
    optimizer.build(model.trainable_variables)
    metrics = {id(variable) for variable in model.metrics_variables}
    seen, found = set(), []
    for variable in [*model.variables, *optimizer.variables]:
        # Metrics start again with every epoch, so they carry nothing over.
        if id(variable) in seen or id(variable) in metrics:
            continue
        seen.add(id(variable))
        found.append((variable.path, variable))
    return found


class Checkpoint(keras.callbacks.Callback):
    """Saves the state of a run every now and then, within epochs as well.

    Args:
        path: the `.npz` file, replaced each time.
        steps_per_epoch: batches of one epoch.
        start: where the run begins.
        every_steps: saves after so many steps; 0 for by the clock only.
        every_seconds: saves when so much time went by since the last save.
    """

    def __init__(
        self,
        path: pathlib.Path,
        steps_per_epoch: int,
        start: Position,
        *,
        every_steps: int = 0,
        every_seconds: float = 30.0,
    ) -> None:
        super().__init__()
        self.path = path
        self.steps_per_epoch = steps_per_epoch
        self.every_steps = every_steps
        self.every_seconds = every_seconds
        self._epoch, self._batch, self._step = start.epoch, start.batch, start.step
        self._saved_at = time.monotonic()

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Notes the epoch; a fit that continues within an epoch keeps its first batch."""
        if epoch != self._epoch:
            self._epoch, self._batch = epoch, 0

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Counts the batch and saves when it is time."""
        self._batch += 1
        self._step += 1
        due = time.monotonic() - self._saved_at >= self.every_seconds
        if due or (self.every_steps and self._step % self.every_steps == 0):
            self.save()

    def save(self) -> None:
        """Saves now."""
        save_state(self.path, self.model, self.position)
        self._saved_at = time.monotonic()

    @property
    def position(self) -> Position:
        """Where the run stands."""
        done, batch = divmod(self._batch, self.steps_per_epoch)
        return Position(self._epoch + done, batch, self._step)


class MetricsFile(keras.callbacks.Callback):
    """Keeps `metrics.csv`: one row an epoch, with every number the epoch ended with.

    Args:
        path: the file.
        start_epoch: rows of this epoch and later ones, left by a killed run, are dropped.
    """

    def __init__(self, path: pathlib.Path, start_epoch: int = 0) -> None:
        super().__init__()
        self.path = path
        self._rows: list[dict[str, Any]] = []
        if start_epoch and path.exists():
            with open(path, newline="") as file:
                rows: list[dict[str, Any]] = list(csv.DictReader(file))
            self._rows = [row for row in rows if int(row["epoch"]) < start_epoch]

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Adds a row."""
        row = {name: float(value) for name, value in (logs or {}).items()}
        self._rows.append({"epoch": epoch, **row})
        # A number that comes every few epochs only must still get its column.
        columns = list(dict.fromkeys(name for row in self._rows for name in row))
        text = io.StringIO()
        writer = csv.DictWriter(text, columns, restval="", lineterminator="\n")
        writer.writeheader()
        writer.writerows(self._rows)
        write_atomically(self.path, text.getvalue().encode())


class StopAfter(keras.callbacks.Callback):
    """Ends the training after so many steps, counted over resumed runs.

    Args:
        steps: when to end.
        start: how many steps were done before.
    """

    def __init__(self, steps: int, start: int = 0) -> None:
        super().__init__()
        self.steps = steps
        self._step = start

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Counts, and asks `fit` to stop."""
        self._step += 1
        if self._step >= self.steps:
            self.model.stop_training = True
