# SPDX-License-Identifier: Apache-2.0
"""DINO."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import keras
from keras import ops

from keras_ssl import losses
from keras_ssl.core import Teacher, register
from keras_ssl.core.seeds import layer_seed
from keras_ssl.layers import Center, PrototypeHead
from keras_ssl.models.joint_embedding.engine import JointEmbedding


@register(
    paper="Emerging Properties in Self-Supervised Vision Transformers",
    year=2021,
    family="self-distillation",
    modality="image",
    needs=("prototypes", "teacher", "multi-crop"),
)
class DINO(JointEmbedding):
    """Predicts, from every crop, a slowly moving teacher's distribution over prototypes.

    The teacher sees the two large crops. Its logits are centred, so that no prototype takes all,
    and sharpened, so that they are not even. The centre moves after the loss, the teacher after
    the optimizer's step.

    Args:
        encoder: any Keras model from image `(H, W, C)` to vector; a feature map is pooled.
        projector: widths of the head's MLP, the last is the bottleneck, or a layer that gives
            logits, such as a `layers.PrototypeHead` with batch norm.
        prototypes: number of prototypes, K.
        head_batch_norm: whether the hidden layers of a head given by widths are normalised; it
            helps a convolutional encoder in short runs.
        momentum: share of the old teacher, a float or a schedule of the optimizer's step. The
            paper ramps 0.996 to 1 by `schedules.CosineMomentum`; at batch 256 from 0.9995.
        student_temperature: divisor of the student's logits.
        teacher_temperature: divisor of the teacher's, a float or a schedule of the optimizer's
            step. Long runs rise from 0.04 to 0.07 by `schedules.LinearWarmup`.
        center_momentum: share of the old centre at each step.
        freeze_steps: optimizer steps in which the prototypes stand still: the first epoch in the
            paper, 1251 steps of 1024 images.
        batch_norm: teacher's policy for moving statistics, `"own"`, `"average"` or `"copy"`.
        views: view recipe, a name or a layer; the first two views are the teacher's.
        **kwargs: `seed`, `name`, `dtype`.

    Raises:
        ValueError: for fewer than two views, or a temperature of 0 or less.

    Source: Caron et al., 2021, algorithm 1; https://arxiv.org/abs/2104.14294.

    Example:

    ```python
    encoder = backbones.VisionTransformer("tiny", (32, 32, 3), patch=4, drop_path=0.1)
    model = DINO(encoder, prototypes=4096, freeze_steps=200)
    model.compile(optimizers.AdamW(5e-4, weight_decay=0.04, clipnorm=3.0))
    model.fit(dataset)
    ```
    """

    loss_terms = ("dino",)

    def __init__(
        self,
        encoder: keras.Model,
        projector: Sequence[int] | keras.Layer = (2048, 2048, 256),
        prototypes: int = 65536,
        head_batch_norm: bool = False,
        momentum: float | Callable = 0.996,
        student_temperature: float = 0.1,
        teacher_temperature: float | Callable = 0.04,
        center_momentum: float = 0.9,
        freeze_steps: int = 1251,
        batch_norm: str = "own",
        views: str | keras.Layer = "dino",
        **kwargs: Any,
    ):
        if not isinstance(projector, keras.Layer):
            seed = layer_seed(kwargs.get("seed"), 1)
            options = {"dtype": kwargs.get("dtype"), "name": "projector"}
            options |= {"batch_norm": head_batch_norm, "seed": seed}
            projector = PrototypeHead(projector, prototypes, **options)
        super().__init__(encoder, projector, views, **kwargs)
        count = getattr(self.views, "count", 2)
        if count < 2:
            raise ValueError(f"{type(self).__name__} compares views; the recipe gives {count}.")
        self.momentum, self.batch_norm = momentum, batch_norm
        self.head_batch_norm = head_batch_norm
        self.student_temperature = student_temperature
        self.teacher_temperature = teacher_temperature
        self.center_momentum, self.freeze_steps = center_momentum, freeze_steps
        self.prototypes = self.projector.compute_output_shape((None, self.width))[-1]
        self.teacher_encoder = Teacher(self.student_network(), momentum, batch_norm)
        self.teacher_projector = Teacher(self.projector, momentum, batch_norm)
        self.center = self.build_center(self.projector, center_momentum)

    def teachers(self):
        """Teacher encoder and projector follow the student's."""
        pairs = [(self.teacher_encoder, self.student_network())]
        return [*pairs, (self.teacher_projector, self.projector)]

    def student_network(self) -> keras.Model:
        """The network that the teacher copies and follows, below the heads."""
        return self.encoder

    def build_center(self, head: keras.Layer, momentum: float) -> Any:
        """The centre of a head's logits; None for a method that balances them in another way."""
        return Center(head.compute_output_shape((None, self.width))[-1], momentum)

    def frozen_variables(self):
        """The prototypes, in the first `freeze_steps` steps."""
        last = getattr(self.projector, "last", None)
        if last is None or not self.freeze_steps:
            return []
        return [(last.trainable_variables, self.optimizer.iterations < self.freeze_steps)]

    def target_projections(self, views: Sequence, training: bool = False) -> list:
        """The teacher's logits `(B, K)` of views of one size, from one call each."""
        features = self.teacher_encoder(ops.concatenate(views, axis=0), training=training)
        logits = self.teacher_projector(features, training=training)
        return ops.split(logits, len(views), axis=0)

    def prototype_probabilities(self, view: Any) -> Any:
        """The teacher's distributions, float32 `(B, K)`, over prototypes for one view."""
        (logits,) = self.target_projections([view])
        temperature = self.now(self.teacher_temperature)
        return losses.centered_softmax(logits, self.center.value, temperature)

    def compute_losses(self, views: list, training: bool) -> dict[str, Any]:
        """Cross-entropy of every crop with the teacher's distributions of the other large ones."""
        students = self.project_views(views, training)
        teachers = self.target_projections(views[:2], training)
        loss = losses.dino(
            students,
            teachers,
            self.center.value,
            student_temperature=self.student_temperature,
            teacher_temperature=self.now(self.teacher_temperature),
        )
        if training:
            self.center.observe(ops.concatenate(teachers, axis=0))
        return {"dino": loss}

    def after_update(self) -> None:
        """The centre and the teacher move."""
        self.center.move(self.stepped)
        super().after_update()
