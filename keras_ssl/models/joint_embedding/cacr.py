# SPDX-License-Identifier: Apache-2.0
"""CACR."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras

from keras_ssl import losses
from keras_ssl.core import register
from keras_ssl.models.joint_embedding.engine import JointEmbedding


@register(
    paper="Contrastive Attraction and Contrastive Repulsion for Representation Learning",
    year=2023,
    family="contrastive",
    modality="image",
    needs=("negatives", "several views"),
)
class CACR(JointEmbedding):
    """Attracts far views of an image most and repels near images most.

    Args:
        encoder: any Keras model from image `(H, W, C)` to vector; a feature map is pooled.
        projector: widths of the head (Linear, BN, ReLU, Linear) or a layer.
        alpha: factor of the attraction.
        beta: factor of the repulsion.
        positive_temperature: of the attraction's weights.
        negative_temperature: of the repulsion's weights; 0.9 for CIFAR-10, 2.0 for CIFAR-100 and
            STL-10.
        views: view recipe, a name or a layer; any number of views from two, five in the paper.
        **kwargs: `seed`, `name`, `dtype`.

    Source: Zheng et al., 2023, equations 6 and 7; https://arxiv.org/abs/2105.03746. The authors'
    small networks have no head of their own; the form on MoCo v3 is `losses.cacr_momentum`.

    Example:

    ```python
    model = CACR(encoder, negative_temperature=0.9)
    model.compile(optimizers.SGD(0.06))
    model.fit(images, batch_size=128, epochs=200)
    ```
    """

    loss_terms = ("attraction", "repulsion")

    def __init__(
        self,
        encoder: keras.Model,
        projector: Sequence[int] | keras.Layer = (512, 128),
        alpha: float = 1.0,
        beta: float = 1.0,
        positive_temperature: float = 1.0,
        negative_temperature: float = 0.9,
        views: str | keras.Layer = "cacr",
        **kwargs: Any,
    ):
        super().__init__(encoder, projector, views, **kwargs)
        self.alpha, self.beta = alpha, beta
        self.positive_temperature = positive_temperature
        self.negative_temperature = negative_temperature

    def compute_losses(self, views: list, training: bool) -> dict[str, Any]:
        """Both transport costs of all views."""
        z = [self.project(view, training) for view in views]
        pull, push = self.positive_temperature, self.negative_temperature
        return {
            "attraction": losses.cacr_attraction(z, alpha=self.alpha, temperature=pull),
            "repulsion": losses.cacr_repulsion(z, beta=self.beta, temperature=push),
        }
