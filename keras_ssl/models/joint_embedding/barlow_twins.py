# SPDX-License-Identifier: Apache-2.0
"""Barlow Twins."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras

from keras_ssl import losses
from keras_ssl.core import register
from keras_ssl.models.joint_embedding.engine import JointEmbedding


@register(
    paper="Barlow Twins: Self-Supervised Learning via Redundancy Reduction",
    year=2021,
    family="redundancy reduction",
    modality="image",
    needs=("wide projector",),
)
class BarlowTwins(JointEmbedding):
    """Makes the cross-correlation of two views' projections the identity matrix.

    Args:
        encoder: any Keras model from image `(H, W, C)` to vector; a feature map is pooled.
        projector: widths of the head (Linear without bias, BN, ReLU; last Linear alone) or a
            layer. The paper uses 8192 three times, and gains from more; 2048 suits CIFAR.
        lambd: weight of the off-diagonal correlations.
        scale: factor of the whole loss (0.1 on CIFAR in solo-learn, 1 in the paper).
        variance: `"biased"` (the released code) or `"unbiased"` standardisation.
        views: view recipe, a name or a layer.
        **kwargs: `seed`, `name`, `dtype`.

    Source: Zbontar et al., 2021, eq. 1–2; https://arxiv.org/abs/2103.03230.

    Example:

    ```python
    model = BarlowTwins(encoder, projector=(2048, 2048, 2048))
    model.compile("adam")
    model.fit(dataset)
    ```
    """

    loss_terms = ("barlow_twins",)

    def __init__(
        self,
        encoder: keras.Model,
        projector: Sequence[int] | keras.Layer = (8192, 8192, 8192),
        lambd: float = 0.0051,
        scale: float = 1.0,
        variance: str = "biased",
        views: str | keras.Layer = "barlow_twins",
        **kwargs: Any,
    ):
        super().__init__(encoder, projector, views, **kwargs)
        self.lambd = lambd
        self.scale = scale
        self.variance = variance

    def build_head(self, head, width, position, **options):
        """A head with the paper's layout, without biases."""
        return super().build_head(head, width, position, **{"bias": "none", **options})

    def compute_losses(self, views: list, training: bool) -> dict[str, Any]:
        """Distance of the cross-correlation matrix from the identity."""
        first, second = (self.project(view, training) for view in views)
        loss = losses.barlow_twins(
            first, second, lambd=self.lambd, scale=self.scale, variance=self.variance
        )
        return {"barlow_twins": loss}
