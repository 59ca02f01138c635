# SPDX-License-Identifier: Apache-2.0
"""MoCo v3."""

from __future__ import annotations

from typing import Any

from keras_ssl import losses
from keras_ssl.core import register
from keras_ssl.models.joint_embedding.byol import BYOL


@register(
    paper="An Empirical Study of Training Self-Supervised Vision Transformers",
    year=2021,
    family="contrastive",
    modality="image",
    needs=("negatives", "teacher", "large batch"),
)
class MoCoV3(BYOL):
    """Predicts a slowly moving teacher's key of the other view among the keys of the batch.

    The networks of BYOL with a contrastive loss. The teacher moves before the forward pass.

    Args:
        encoder: any Keras model from image `(H, W, C)` to vector; a feature map is pooled.
        projector: widths of the head (Linear, BN, ReLU, Linear, BN without scale and offset; no
            biases) or a layer. The paper's ViT head has three widths.
        predictor: widths of the predictor (Linear, BN, ReLU, Linear) or a layer. The paper's ViT
            predictor ends in a batch norm: give `MLP(..., last_batch_norm="plain")`.
        momentum: share of the old teacher, a float or a schedule of the optimizer's step. The
            paper ramps 0.99 to 1 by `schedules.CosineMomentum`.
        temperature: divisor of the cosine similarities; 1.0 for ResNet, 0.2 for ViT.
        batch_norm: teacher's policy for moving statistics, `"own"`, `"average"` or `"copy"`.
        views: view recipe, a name or a layer.
        **kwargs: `seed`, `name`, `dtype`.

    Source: Chen et al., 2021, algorithm 1; https://arxiv.org/abs/2104.02057.

    Example:

    ```python
    model = MoCoV3(encoder, momentum=schedules.CosineMomentum(0.99, total_steps=10_000))
    model.compile(optimizers.LARS(0.3))
    model.fit(dataset)
    ```
    """

    loss_terms = ("info_nce",)
    teachers_move = "before"

    def __init__(
        self,
        encoder,
        projector=(4096, 256),
        predictor=(4096, 256),
        momentum=0.99,
        temperature: float = 1.0,
        batch_norm: str = "own",
        views="byol",
        **kwargs: Any,
    ):
        super().__init__(encoder, projector, predictor, momentum, batch_norm, views, **kwargs)
        self.temperature = temperature

    def build_head(self, head, width, position, **options):
        """Heads without biases; the projector ends in a plain batch norm."""
        options = {"bias": "none", "last_batch_norm": "plain" if position == 1 else False} | options
        return super().build_head(head, width, position, **options)

    def compute_losses(self, views: list, training: bool) -> dict[str, Any]:
        """InfoNCE of both directions, times twice the temperature."""
        queries = [self.predict_projection(view, training) for view in views]
        keys = [self.target_projection(view, training) for view in views]
        return {"info_nce": losses.moco_v3(queries, keys, temperature=self.temperature)}
