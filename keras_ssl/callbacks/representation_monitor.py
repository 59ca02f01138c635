# SPDX-License-Identifier: Apache-2.0
"""Watches representations for collapse while they train."""

import warnings
from os import PathLike
from typing import Any

import keras
import numpy as np
from keras import ops, tree

from keras_ssl.callbacks import _collapse
from keras_ssl.callbacks._board import board, updates


class CollapseWarning(UserWarning):
    """The embeddings became (nearly) the same for every input, or are not finite."""


class RepresentationMonitor(keras.callbacks.Callback):
    """Embeds a held batch of images every few steps, logs its quality and warns of a collapse.

    A falling loss cannot tell learning from collapse: the trivial solution has the lowest loss of
    all. Measured are the representation and, where the model has `project`, the projection, both
    in inference mode. A `CollapseWarning` names the signs:

    - the std of the L2-normalised embeddings far below 1/sqrt(D);
    - RankMe near 1 (all on one line);
    - the mean pairwise cosine near 1 (all in one direction);
    - for projections also: a standard deviation that shrank to a tenth of its highest, a feature
      std or a RankMe that fell to a low value (a fresh network has one too, but does not fall);
    - NaN or infinity;
    - where the model has `prototype_probabilities` (self-distillation), the teacher's distributions
      against ln K: even for every image (uniform collapse, the loss stays at ln K), or one
      prototype for all images (one-hot collapse, the loss goes to 0).

    The logs of every epoch gain "rank_me" and "feature_std" of the representation, and
    "projection_rank_me" and "projection_feature_std" where there is a projection, and
    "assignment_entropy" and "prototype_entropy", shares of ln K, where there are prototypes.
    TensorBoard gets them at every measurement, under "quality/".

    Args:
        images: (N, ...) samples as the model takes them, or a dict of such arrays, N from 2; some
            hundred are plenty. RankMe cannot exceed N.
        every_steps: training steps between measurements.
        patience: consecutive measurements that must show a sign before the warning; NaN and
            infinity warn at once.
        warmup_steps: measurements before this step do not warn, since the moving statistics of
            batch normalisation have not settled.
        thresholds: when a number is a sign; None for `CollapseThresholds()`.
        log_dir: TensorBoard folder, None for none.

    Attributes:
        measurements: list of `(step, {"representation": Measurement, ...})`.
        assignments: list of `(step, Assignment)`, where there are prototypes.
        warned: list of `(step, name of the embedding, signs)`.

    Raises:
        ValueError: if a number is below its least.

    Source: feature std: Exploring Simple Siamese Representation Learning, 2021, figure 2; RankMe,
    2023.

    Example:
        ```python
        monitor = RepresentationMonitor(images[:256], every_steps=100)
        model.fit(images, epochs=10, callbacks=[monitor])
        ```
    """

    def __init__(
        self,
        images: Any,
        *,
        every_steps: int = 25,
        patience: int = 2,
        warmup_steps: int = 50,
        thresholds: _collapse.CollapseThresholds | None = None,
        log_dir: str | PathLike[str] | None = None,
    ) -> None:
        super().__init__()
        self.rows = len(tree.flatten(images)[0])
        if self.rows < 2:
            raise ValueError(f"images has {self.rows} sample(s), expected at least 2.")
        for name, value in {"every_steps": every_steps, "patience": patience}.items():
            if value < 1:
                raise ValueError(f"{name} is {value}, expected at least 1.")
        self.images = images
        self.every_steps = every_steps
        self.patience = patience
        self.warmup_steps = warmup_steps
        self.thresholds = thresholds or _collapse.CollapseThresholds()
        self.log_dir = log_dir
        self.measurements: list[tuple[int, dict[str, _collapse.Measurement]]] = []
        self.warned: list[tuple[int, str, list[str]]] = []

    def on_train_begin(self, logs: dict | None = None) -> None:
        """Takes the first measurement, before any training."""
        self._board = board(self.log_dir, self.model)
        self._embed = _compiled(self._embeddings)
        self._assign = None
        if hasattr(self.model, "prototype_probabilities"):
            self._assign = _compiled(self._assignments)
        self.assignments: list[tuple[int, _collapse.Assignment]] = []
        self._in_a_row: dict[str, int] = {}
        self._told: set[str] = set()
        self._epoch_start = self._measured = 0
        self._best: dict[str, _collapse.Measurement] = {}
        self._check(0)

    def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
        """Remembers where the epoch began."""
        self._batches = 0

    def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
        """Measures, when it is time."""
        # `batch` is an index within the epoch; with steps_per_execution several go by at once.
        self._batches = batch + 1
        step = self._epoch_start + self._batches
        if step // self.every_steps > self._measured // self.every_steps:
            self._check(step)

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        """Measures and adds the numbers to the logs."""
        self._epoch_start += self._batches
        if self._measured != self._epoch_start:
            self._check(self._epoch_start)
        if logs is not None:
            for name, found in self.measurements[-1][1].items():
                prefix = "" if name == "representation" else f"{name}_"
                logs[f"{prefix}rank_me"] = found.rank_me
                logs[f"{prefix}feature_std"] = found.feature_std
            if self.assignments:
                logs |= _entropies(self.assignments[-1][1])
        if self._board is not None:
            self._board.flush()

    def _embeddings(self, images: Any) -> dict[str, Any]:
        """Representation, and projection where there is one, in inference mode."""
        embeddings = {"representation": self.model(images, training=False)}
        if hasattr(self.model, "project"):
            embeddings["projection"] = self.model.project(self._seen(images), training=False)
        return embeddings

    def _tensors(self) -> Any:
        return tree.map_structure(ops.convert_to_tensor, self.images)

    def _seen(self, images: Any) -> Any:
        """The images as a view without random changes."""
        preprocess = getattr(getattr(self.model, "views", None), "preprocess", None)
        return images if preprocess is None else preprocess(images)

    def _assignments(self, images: Any) -> Any:
        """The teacher's distributions over prototypes."""
        return self.model.prototype_probabilities(self._seen(images))

    def _check(self, step: int) -> None:
        """Measures, records and warns."""
        self._measured = step
        embeddings = self._embed(self._tensors())
        found = {
            name: _collapse.measure(_rows(ops.convert_to_numpy(ops.cast(z, "float32")), name))
            for name, z in embeddings.items()
        }
        position = updates(self.model)
        self.measurements.append((position, found))
        for name, measurement in found.items():
            self._record(name, measurement, position)
            top = self._best[name] = _collapse.best(self._best.get(name), measurement)
            head = name != "representation"
            signs = _collapse.signs(measurement, top, self.thresholds, rows=self.rows, head=head)
            self._judge(name, signs, measurement.finite, step, position)
        if self._assign is not None:
            probabilities = self._assign(self._tensors())
            self._check_assignments(ops.convert_to_numpy(probabilities), step, position)

    def _check_assignments(self, probabilities: np.ndarray, step: int, position: int) -> None:
        found = _collapse.measure_assignment(probabilities)
        self.assignments.append((position, found))
        if self._board is not None:
            for label, value in _entropies(found).items():
                self._board.scalar(f"quality/{label}", value, position)
        signs = _collapse.assignment_signs(found, self.thresholds)
        self._judge("assignment", signs, True, step, position)

    def _judge(self, name: str, signs: list, finite: bool, step: int, position: int) -> None:
        """Warns once when a sign has lasted, and again only after it had gone."""
        if not signs:
            self._in_a_row[name] = 0
            self._told.discard(name)
            return
        self._in_a_row[name] = self._in_a_row.get(name, 0) + 1
        lasted = self._in_a_row[name] >= self.patience and step >= self.warmup_steps
        if name in self._told or (finite and not lasted):
            return
        self._told.add(name)
        self.warned.append((position, name, signs))
        warnings.warn(
            f"Collapse at step {position}: looking at the {name}s of {self.rows} held "
            f"images, {'; '.join(signs)}. {_collapse.advice(signs)}",
            CollapseWarning,
            stacklevel=2,
        )

    def _record(self, name: str, measurement: Any, position: int) -> None:
        if self._board is None or not measurement.finite:
            return
        prefix = "" if name == "representation" else f"{name}_"
        for label in ("rank_me", "feature_std"):
            self._board.scalar(f"quality/{prefix}{label}", getattr(measurement, label), position)


def _entropies(found: _collapse.Assignment) -> dict[str, float]:
    return {"assignment_entropy": found.each, "prototype_entropy": found.together}


def _rows(z: np.ndarray, name: str) -> np.ndarray:
    """Token sequences and feature maps are watched as their mean over positions."""
    if z.ndim < 2:
        raise ValueError(f"The {name} has shape {z.shape}, expected (batch, dimensions).")
    return z.reshape(len(z), -1, z.shape[-1]).mean(axis=1)


def _compiled(function: Any) -> Any:
    """A graph of the function on TensorFlow, where an eager ResNet costs several times as much."""
    if keras.backend.backend() != "tensorflow":
        return function
    import tensorflow as tf

    return tf.function(function, autograph=False)
