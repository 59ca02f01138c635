# SPDX-License-Identifier: Apache-2.0
"""Fine-tuning by a teacher: a classifier with a second head that learns its answers."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from keras_ssl import losses
from keras_ssl.core import Teacher, distribution
from keras_ssl.views import Preprocessing

DISTILLATION = ("hard", "nkd")


class Distilled(keras.Model):
    """Trains the two heads of a classifier with labels and a frozen teacher's answers.

    Args:
        heads: model from images to logits of both heads, `(B, 2, classes)`.
        teacher: what `on_batches` gives.
        kind: `"hard"` (the class token learns labels, the distillation token the teacher's
            classes, and they answer together) or `"nkd"` (the class token learns both).
        label_smoothing: share of the labels that is spread over all classes, of `"hard"`.
    """

    def __init__(self, heads: keras.Model, teacher: keras.Model, kind: str, label_smoothing: float):
        super().__init__(heads.input, heads.output, name=heads.name)
        self.dtype_policy = heads.dtype_policy
        self.kind, self.label_smoothing = kind, label_smoothing
        self.frozen = Teacher(teacher, None)

    def compute_loss(
        self, x: Any = None, y: Any = None, y_pred: Any = None, *args: Any, **kwargs: Any
    ) -> Any:
        """The loss of a batch, this replica's share of it."""
        own, imitation = y_pred[:, 0], y_pred[:, 1]
        taught = self.frozen(x)
        if self.kind == "nkd":
            # The second head has a part in it, or its variables would have no gradient.
            loss = losses.nkd(own + 0.0 * imitation, taught, y)
        else:
            smoothing = self.label_smoothing
            loss = losses.hard_distillation(own, imitation, y, taught, label_smoothing=smoothing)
        return loss / distribution.replica_count()

    def compute_metrics(self, x, y, y_pred, sample_weight=None) -> dict[str, Any]:
        """Metrics of what both heads answer."""
        return super().compute_metrics(x, y, self.answer(y_pred), sample_weight)

    def answer(self, logits: Any) -> Any:
        """Logits `(B, classes)` of those of both heads."""
        return logits[:, 0] if self.kind == "nkd" else ops.mean(logits, axis=1)

    def answering(self) -> keras.Model:
        """The trained classifier without its teacher, from images to logits."""
        return keras.Model(self.input, self.answer(self.output), name=self.name)


def on_batches(teacher: Any, size: tuple[int, int], channels: int, outputs: int) -> keras.Model:
    """A classifier of raw images as one of the batches that fine-tuning makes.

    Args:
        teacher: what `fine_tune` gives, its `model`, or any Keras model from images, uint8 or of
            0..1, to logits.
        size: height and width of the batches.
        channels: of the batches.
        outputs: number of classes.

    Returns:
        Model from float32 images of 0..1, `(B, *size, channels)`, to `(B, outputs)`.

    Raises:
        TypeError: if it is no Keras model.
        ValueError: for another number of classes.
    """
    model = getattr(teacher, "model", teacher)
    if not isinstance(model, keras.Model) or not getattr(model, "inputs", None):
        raise TypeError(
            "teacher is a fine-tuned classifier, what fine_tune gives or a Keras model from images "
            f"to logits; received {type(teacher).__name__}."
        )
    if tuple(model.output_shape) != (None, outputs):
        raise ValueError(
            f"the teacher gives {tuple(model.output_shape)}, expected logits of the {outputs} "
            "classes of the labels."
        )
    parts = [layer for layer in model.layers if not isinstance(layer, keras.layers.InputLayer)]
    if (
        len(parts) == 2
        and isinstance(parts[0], Preprocessing)
        and isinstance(parts[1], keras.Model)
    ):
        # It scales raw images, which those of a batch are no more.
        model = parts[1]
    images = keras.Input((*size, channels))
    wanted, x = tuple(model.input_shape[1:3]), images
    if None not in wanted:
        x = Preprocessing(wanted)(x)
    if "int" in keras.backend.standardize_dtype(model.inputs[0].dtype):
        x = ops.cast(ops.round(255.0 * x), "uint8")
    return keras.Model(images, model(x, training=False), name="teacher")
