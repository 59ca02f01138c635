# SPDX-License-Identifier: Apache-2.0
"""BYOL."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import keras

from keras_ssl import losses
from keras_ssl.core import Teacher, register
from keras_ssl.models.joint_embedding.engine import JointEmbedding


@register(
    paper="Bootstrap Your Own Latent: A New Approach to Self-Supervised Learning",
    year=2020,
    family="self-distillation",
    modality="image",
    needs=("teacher",),
)
class BYOL(JointEmbedding):
    """Predicts a slowly moving teacher's projection of the other view; no negatives.

    The teacher moves after the optimizer's step; its batch norms use and track their own
    batches, as in the released code.

    Args:
        encoder: any Keras model from image `(H, W, C)` to vector; a feature map is pooled.
        projector: widths of the head (Linear, BN, ReLU, Linear) or a layer.
        predictor: widths of the predictor, same layout, or a layer; its output width must be
            the projector's. `None` leaves it out, which collapses.
        momentum: share of the old teacher, a float or a schedule of the optimizer's step. The
            paper ramps 0.996 to 1 by `schedules.CosineMomentum` in its 1000-epoch run.
        batch_norm: teacher's policy for moving statistics, `"own"`, `"average"` or `"copy"`.
        views: view recipe, a name or a layer.
        **kwargs: `seed`, `name`, `dtype`.

    Source: Grill et al., 2020, eq. 1–2; https://arxiv.org/abs/2006.07733.

    Example:

    ```python
    model = BYOL(encoder, momentum=schedules.CosineMomentum(0.99, total_steps=10_000))
    model.compile(optimizers.LARS(0.2))
    model.fit(dataset)
    ```
    """

    loss_terms = ("byol",)

    def __init__(
        self,
        encoder: keras.Model,
        projector: Sequence[int] | keras.Layer = (4096, 256),
        predictor: Sequence[int] | keras.Layer | None = (4096, 256),
        momentum: float | Callable = 0.996,
        batch_norm: str = "own",
        views: str | keras.Layer = "byol",
        **kwargs: Any,
    ):
        super().__init__(encoder, projector, views, **kwargs)
        self.momentum = momentum
        self.batch_norm = batch_norm
        width = self.projector.compute_output_shape((None, self.width))[-1]
        self.predictor = None if predictor is None else self.build_head(predictor, width, 2)
        self.teacher_encoder = Teacher(self.encoder, momentum, batch_norm)
        self.teacher_projector = Teacher(self.projector, momentum, batch_norm)

    def build_head(self, head, width, position, **options):
        """A head with the released layout: only hidden layers have a bias."""
        return super().build_head(head, width, position, **{"bias": "hidden", **options})

    def teachers(self):
        """Teacher encoder and projector follow the online ones."""
        return [(self.teacher_encoder, self.encoder), (self.teacher_projector, self.projector)]

    def predict_projection(self, view: Any, training: bool) -> Any:
        """Predictions `(B, D)` of the teacher's projections, from one view."""
        projection = self.project(view, training)
        if self.predictor is None:
            return projection
        return self.predictor(projection, training=training)

    def target_projection(self, view: Any, training: bool) -> Any:
        """The teacher's projections `(B, D)` of one view, without gradient."""
        return self.teacher_projector(
            self.teacher_encoder(view, training=training), training=training
        )

    def compute_losses(self, views: list, training: bool) -> dict[str, Any]:
        """Regression of the teacher's projections, summed over both directions."""
        predictions = [self.predict_projection(view, training) for view in views]
        targets = [self.target_projection(view, training) for view in views[:2]]
        return {"byol": losses.byol(predictions, targets)}
