# SPDX-License-Identifier: Apache-2.0
"""One readable TensorBoard page: losses, schedules and quality."""

from os import PathLike
from typing import Any

import keras
from keras import ops

from keras_ssl.callbacks._board import board, updates


class TrainingBoard(keras.callbacks.Callback):
    """Writes what a run did as TensorBoard scalars in three groups, over optimizer updates.

    - "loss/": the total and every loss term (means over the epoch so far), "loss/validation_..."
      where there is validation;
    - "schedule/": learning rate, weight decay and teacher momentum, as they are at that update;
    - "quality/": everything else that stands in the logs, such as "knn" and "rank_me".

    It shares one event file with the other callbacks of this package in the same folder, where
    `keras.callbacks.TensorBoard` would write each epoch under "train/epoch_...". Place it last, so
    that it sees what the others add to the logs.

    Args:
        log_dir: TensorBoard folder.
        every_steps: steps between points; None for one point an epoch.

    Raises:
        ValueError: if `every_steps` is below 1.

    Example:
        ```python
        callbacks = [OnlineKNN(train, test), TrainingBoard("runs/first", every_steps=20)]
        model.fit(images, epochs=10, callbacks=callbacks)
        ```
    """

    def __init__(self, log_dir: str | PathLike[str], *, every_steps: int | None = 50) -> None:
        super().__init__()
        if every_steps is not None and every_steps < 1:
            raise ValueError(f"every_steps is {every_steps}, expected at least 1, or None.")
        self.log_dir = log_dir
        self.every_steps = every_steps

    def on_train_begin(self, logs: dict | None = None) -> None:
        """Opens the writer."""
        self._board = board(self.log_dir)
        self._seen = 0

    def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
        """Starts counting the steps of the epoch."""
        self._seen = 0

    def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
        """Writes the losses so far and the schedules, when it is time."""
        seen, self._seen = self._seen, batch + 1
        if self.every_steps and self._seen // self.every_steps > seen // self.every_steps:
            self._write(logs or {})

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        """Writes everything in the logs, and the schedules."""
        self._write(logs or {})
        self._board.flush()

    def _write(self, logs: dict[str, Any]) -> None:
        step = updates(self.model)
        for name, value in logs.items():
            self._board.scalar(self._tag(name), value, step)
        for name, value in schedules(self.model).items():
            self._board.scalar(f"schedule/{name}", value, step)

    def _tag(self, name: str) -> str:
        if name.startswith("val_"):
            return f"loss/validation_{name[4:]}" if self._is_loss(name[4:]) else f"quality/{name}"
        if name == "loss":
            return "loss/total"
        return f"loss/{name}" if self._is_loss(name) else f"quality/{name}"

    def _is_loss(self, name: str) -> bool:
        return name in ("loss", "regularization", *getattr(self.model, "loss_terms", ()))


def schedules(model: keras.Model) -> dict[str, float]:
    """The scheduled quantities of a model, at its current update.

    Args:
        model: a compiled Keras model; one with `teachers()` shows their momentum too.

    Returns:
        "learning_rate", "weight_decay" (when the optimizer has one) and "teacher_momentum" of the
        last update (one entry a teacher, by its name, where they differ), each a number.
    """
    optimizer = model.optimizer
    # A loss-scaling optimizer wraps the one that holds the weight decay.
    inner = getattr(optimizer, "inner_optimizer", optimizer)
    found = {"learning_rate": _now(optimizer.learning_rate, optimizer)}
    if getattr(inner, "weight_decay", None):
        found["weight_decay"] = _now(inner.weight_decay, optimizer)
    teachers = [teacher for teacher, _ in getattr(model, "teachers", list)()]
    step = ops.maximum(ops.cast(optimizer.iterations, "int32") - 1, 0)
    momenta = {
        teacher.name: float(ops.convert_to_numpy(teacher.momentum_at(step)))
        for teacher in teachers
        if teacher.momentum is not None
    }
    # A method may keep its encoder and projector in two teachers that move alike.
    if len(set(momenta.values())) == 1:
        found["teacher_momentum"] = next(iter(momenta.values()))
    else:
        found.update({f"{name}_momentum": value for name, value in momenta.items()})
    return found


def _now(value: Any, optimizer: Any) -> float:
    """A number, a variable or a schedule of the update, as a number."""
    if callable(value) and not hasattr(value, "assign"):
        value = value(optimizer.iterations)
    return float(ops.convert_to_numpy(value))
