# SPDX-License-Identifier: Apache-2.0
"""VICReg."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras

from keras_ssl import losses
from keras_ssl.core import register
from keras_ssl.models.joint_embedding.engine import JointEmbedding


@register(
    paper="VICReg: Variance-Invariance-Covariance Regularization for Self-Supervised Learning",
    year=2021,
    family="redundancy reduction",
    modality="image",
    needs=("wide projector",),
)
class VICReg(JointEmbedding):
    """Keeps the variance of every feature, decorrelates features and makes views agree.

    Args:
        encoder: any Keras model from image `(H, W, C)` to vector; a feature map is pooled.
        projector: widths of the expander (Linear, BN, ReLU; last Linear alone) or a layer;
            8192 three times in the paper, 2048 suits CIFAR.
        invariance: weight of the mean squared distance between views.
        variance: weight of the hinge on each feature's standard deviation.
        covariance: weight of the squared off-diagonal covariances.
        variance_scale: 1 for the released code, which halves the two views' hinges; 2 for the
            sum of both.
        views: view recipe, a name or a layer; any number of views from two.
        **kwargs: `seed`, `name`, `dtype`.

    Source: Bardes et al., 2021, eq. 1–6; https://arxiv.org/abs/2105.04906.

    Example:

    ```python
    model = VICReg(encoder, projector=(2048, 2048, 2048))
    model.compile("adam")
    model.fit(dataset)
    ```
    """

    loss_terms = ("invariance", "variance", "covariance")

    def __init__(
        self,
        encoder: keras.Model,
        projector: Sequence[int] | keras.Layer = (8192, 8192, 8192),
        invariance: float = 25.0,
        variance: float = 25.0,
        covariance: float = 1.0,
        variance_scale: float = 1.0,
        views: str | keras.Layer = "vicreg",
        **kwargs: Any,
    ):
        super().__init__(encoder, projector, views, **kwargs)
        self.invariance = invariance
        self.variance = variance
        self.covariance = covariance
        self.variance_scale = variance_scale

    def build_head(self, head, width, position, **options):
        """A head with the paper's layout; only hidden layers have a bias."""
        return super().build_head(head, width, position, **{"bias": "hidden", **options})

    def compute_losses(self, views: list, training: bool) -> dict[str, Any]:
        """The three weighted terms, each logged."""
        return losses.vicreg(
            [self.project(view, training) for view in views],
            invariance=self.invariance,
            variance=self.variance,
            covariance=self.covariance,
            variance_scale=self.variance_scale,
        )
