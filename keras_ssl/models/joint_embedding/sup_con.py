# SPDX-License-Identifier: Apache-2.0
"""SupCon."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras

from keras_ssl import losses
from keras_ssl.core import register
from keras_ssl.models.joint_embedding.engine import JointEmbedding


@register(
    paper="Supervised Contrastive Learning",
    year=2020,
    family="contrastive",
    modality="image",
    needs=("negatives", "labels", "large batch"),
)
class SupCon(JointEmbedding):
    """Pulls all images of a class together; images without label have their own views only.

    Args:
        encoder: any Keras model from image `(H, W, C)` to vector; a feature map is pooled.
        projector: widths of the head (Linear, ReLU, Linear, no batch norm) or a layer.
        temperature: divisor of the cosine similarities; 0.1 for CIFAR and ImageNet.
        base_temperature: scale of the loss is `temperature / base_temperature`, as in the
            authors' code; None for no scale, as in the paper.
        positives: `"outside"` (the paper's L_out) or `"inside"`, see `losses.sup_con`.
        views: view recipe, a name or a layer; any number of views.
        **kwargs: `seed`, `name`, `dtype`.

    Source: Khosla et al., 2020, equation 2; https://arxiv.org/abs/2004.11362.

    Example:

    ```python
    model = SupCon(encoder, temperature=0.1)
    model.compile(optimizers.SGD(0.5))
    model.fit(images, labels, batch_size=512)  # label -1: unlabelled
    ```
    """

    loss_terms = ("sup_con",)
    uses_labels = True

    def __init__(
        self,
        encoder: keras.Model,
        projector: Sequence[int] | keras.Layer = (2048, 128),
        temperature: float = 0.1,
        base_temperature: float | None = 0.07,
        positives: str = "outside",
        views: str | keras.Layer = "moco_v2",
        **kwargs: Any,
    ):
        super().__init__(encoder, projector, views, **kwargs)
        self.temperature = temperature
        self.base_temperature = base_temperature
        self.positives = positives

    def build_head(self, head, width, position, **options):
        """A head without batch norm."""
        options = {"bias": "all", "batch_norm": False, **options}
        return super().build_head(head, width, position, **options)

    def make_views(self, batch: Any) -> tuple:
        """Views of the images, and their labels."""
        images, labels = batch
        return super().make_views(images), labels

    def compute_losses(self, views: tuple, training: bool) -> dict[str, Any]:
        """SupCon over the projections of all views."""
        views, labels = views
        loss = losses.sup_con(
            [self.project(view, training) for view in views],
            labels,
            temperature=self.temperature,
            base_temperature=self.base_temperature,
            positives=self.positives,
        )
        return {"sup_con": loss}
