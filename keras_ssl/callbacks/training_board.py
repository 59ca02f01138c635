# SPDX-License-Identifier: Apache-2.0
"""One readable TensorBoard page: losses, schedules, quality and norms."""

from os import PathLike
from typing import Any

import keras
from keras import ops

from keras_ssl.callbacks._board import board, updates
from keras_ssl.callbacks._norms import GradientNorms, UpdateNorms
from keras_ssl.core import SSLModel


class TrainingBoard(keras.callbacks.Callback):
    """Writes what a run did as TensorBoard scalars in groups, over optimizer updates.

    - "loss/": the total and every loss term (means over the epoch so far), "loss/validation_..."
      where there is validation;
    - "schedule/": learning rate, weight decay, teacher momentum, and temperatures that a schedule
      or training moves, as they are at that update;
    - "quality/": everything else that stands in the logs, such as "knn" and "rank_me";
    - "update_norm/": the way from the weights of the last point to those of this one, divided by
      the updates between, for each part of the model (encoder, projector, predictor, ...). Steps
      that turn back cancel, so it is at most the mean length of an update;
    - "gradient_norm/": length of the gradient of the last step, for each part: of the loss of the
      global batch (of its last micro-batch under gradient accumulation), without the scale of mixed
      precision and before clipping.

    The page "Custom Scalars" shows them all as charts of one scale each, without a click.

    It shares one event file with the other callbacks of this package in the same folder, where
    `keras.callbacks.TensorBoard` would write each epoch under "train/epoch_...". Place it last, so
    that it sees what the others add to the logs.

    Args:
        log_dir: TensorBoard folder.
        every_steps: steps between points; None for one point an epoch.
        update_norms: whether to write "update_norm/". A point costs a copy of the weights to the
            host, where one of them stays.
        gradient_norms: whether to write "gradient_norm/". Every step then computes them; on several
            replicas it exchanges all gradients once more.

    Raises:
        ValueError: if `every_steps` is below 1; when training begins, for `gradient_norms` of a
            model that is no `SSLModel`.

    Example:
        ```python
        callbacks = [OnlineKNN(train, test), TrainingBoard("runs/first", every_steps=20)]
        model.fit(images, epochs=10, callbacks=callbacks)
        ```
    """

    def __init__(
        self,
        log_dir: str | PathLike[str],
        *,
        every_steps: int | None = 50,
        update_norms: bool = True,
        gradient_norms: bool = False,
    ) -> None:
        super().__init__()
        if every_steps is not None and every_steps < 1:
            raise ValueError(f"every_steps is {every_steps}, expected at least 1, or None.")
        self.log_dir = log_dir
        self.every_steps = every_steps
        self.update_norms, self.gradient_norms = update_norms, gradient_norms

    def on_train_begin(self, logs: dict | None = None) -> None:
        """Opens the writer, and lets the step keep norms of gradients where they are wanted."""
        self._board = board(self.log_dir, self.model)
        self._seen = 0
        self._norms: dict[str, Any] = {}
        self._written = updates(self.model)
        if self.update_norms:
            self._norms["update_norm"] = UpdateNorms(self.model)
        if self.gradient_norms:
            if not isinstance(self.model, SSLModel):
                raise ValueError(
                    f"{type(self.model).__name__} is no SSLModel, whose step keeps norms of "
                    "gradients. Leave gradient_norms out."
                )
            self._norms["gradient_norm"] = self._watch(GradientNorms(self.model))

    def on_train_end(self, logs: dict | None = None) -> None:
        """Lets later training go without norms."""
        if "gradient_norm" in self._norms:
            self._watch(None)

    def _watch(self, watch: GradientNorms | None) -> GradientNorms | None:
        self.model.gradient_watch = watch
        # The step of an earlier `fit` is compiled without, and that of this one with it.
        self.model.make_train_function(force=True)
        return watch

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
        if step > self._written:
            self._written = step
            for group, norms in self._norms.items():
                for name, value in norms.read().items():
                    self._board.scalar(f"{group}/{name}", value, step)
        self._board.lay_out(step)

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
        "learning_rate", "weight_decay" (when the optimizer has one), "teacher_momentum" of the last
        update (one entry a teacher, by its name, where they differ), and every temperature that is
        a schedule of the model or a scalar that trains, by its name; each a number.
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
    return found | _temperatures(model)


def _temperatures(model: keras.Model) -> dict[str, float]:
    """Those that move: a constant one stands in the model's config."""
    given = {name: value for name, value in vars(model).items() if callable(value)}
    trained = {v.name: v for v in model.trainable_variables if v.shape == ()}
    return {
        name: _now(value, model.optimizer)
        for name, value in (given | trained).items()
        if name.endswith("temperature")
    }


def _now(value: Any, optimizer: Any) -> float:
    """A number, a variable or a schedule of the update, as a number."""
    if callable(value) and not hasattr(value, "assign"):
        value = value(optimizer.iterations)
    return float(ops.convert_to_numpy(value))
