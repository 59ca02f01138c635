# SPDX-License-Identifier: Apache-2.0
"""DCL and DCLW."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras

from keras_ssl import losses
from keras_ssl.core import register
from keras_ssl.models.joint_embedding.engine import JointEmbedding

PAPER = {"paper": "Decoupled Contrastive Learning", "year": 2021}


@register(**PAPER, family="contrastive", modality="image", needs=("negatives",))
class DCL(JointEmbedding):
    """SimCLR without the positive pair in the denominator: works at small batches.

    Args:
        encoder: any Keras model from image `(H, W, C)` to vector; a feature map is pooled.
        projector: widths of the head (Linear without bias, BN, ReLU, Linear) or a layer.
        temperature: divisor of the cosine similarities.
        views: view recipe, a name or a layer; two views.
        **kwargs: `seed`, `name`, `dtype`.

    Source: Yeh et al., 2021, equation 6; https://arxiv.org/abs/2110.06848.

    Example:

    ```python
    model = DCL(encoder, temperature=0.1)
    model.compile("adam")
    model.fit(images, batch_size=32, epochs=10)
    ```
    """

    loss_terms = ("dcl",)

    def __init__(
        self,
        encoder: keras.Model,
        projector: Sequence[int] | keras.Layer = (512, 128),
        temperature: float = 0.1,
        views: str | keras.Layer = "simclr",
        **kwargs: Any,
    ):
        super().__init__(encoder, projector, views, **kwargs)
        self.temperature = temperature

    def compute_losses(self, views: list, training: bool) -> dict[str, Any]:
        """The decoupled loss of two views."""
        projections = [self.project(view, training) for view in views]
        return {"dcl": losses.dcl(projections, temperature=self.temperature)}


@register(**PAPER, family="contrastive", modality="image", needs=("negatives",))
class DCLW(DCL):
    """DCL with a von Mises-Fisher weight: pairs far apart attract more.

    Args:
        encoder: any Keras model from image `(H, W, C)` to vector; a feature map is pooled.
        projector: widths of the head (Linear without bias, BN, ReLU, Linear) or a layer.
        temperature: divisor of the cosine similarities.
        sigma: divisor of the similarities in the weight.
        views: view recipe, a name or a layer; two views.
        **kwargs: `seed`, `name`, `dtype`.

    Source: Yeh et al., 2021, equations 6 and 7; https://arxiv.org/abs/2110.06848.

    Example:

    ```python
    model = DCLW(backbones.ResNet(18, input_shape=(32, 32, 3)), sigma=0.5)
    model.compile("adam")
    model.fit(images, batch_size=256, epochs=10)
    ```
    """

    loss_terms = ("dclw",)

    def __init__(
        self,
        encoder: keras.Model,
        projector: Sequence[int] | keras.Layer = (512, 128),
        temperature: float = 0.1,
        sigma: float = 0.5,
        views: str | keras.Layer = "simclr",
        **kwargs: Any,
    ):
        super().__init__(encoder, projector, temperature, views, **kwargs)
        self.sigma = sigma

    def compute_losses(self, views: list, training: bool) -> dict[str, Any]:
        """The weighted decoupled loss of two views."""
        projections = [self.project(view, training) for view in views]
        loss = losses.dclw(projections, temperature=self.temperature, sigma=self.sigma)
        return {"dclw": loss}
