# SPDX-License-Identifier: Apache-2.0
"""SimSiam."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras

from keras_ssl import losses
from keras_ssl.core import register
from keras_ssl.models.joint_embedding.engine import JointEmbedding


@register(
    paper="Exploring Simple Siamese Representation Learning",
    year=2020,
    family="self-distillation",
    modality="image",
)
class SimSiam(JointEmbedding):
    """Predicts the projection of the other view of the same network, with a stopped gradient.

    Args:
        encoder: any Keras model from image `(H, W, C)` to vector; a feature map is pooled.
        projector: widths of the head (Linear without bias and batch norm throughout, the last
            batch norm without affine parameters) or a layer. The paper has 3 layers of 2048,
            2 layers for CIFAR.
        predictor: widths of the bottleneck (512) and the output, or a layer.
        views: view recipe, a name or a layer; the paper uses MoCo v2's.
        **kwargs: `seed`, `name`, `dtype`.

    Source: Chen & He, 2020, algorithm 1; https://arxiv.org/abs/2011.10566. The predictor's
    learning rate is kept constant there: `optimizers.PartlyConstantSGD`.

    Example:

    ```python
    model = SimSiam(encoder)
    model.compile(keras.optimizers.SGD(0.05, momentum=0.9))
    model.fit(dataset)
    ```
    """

    loss_terms = ("negative_cosine",)

    def __init__(
        self,
        encoder: keras.Model,
        projector: Sequence[int] | keras.Layer = (2048, 2048, 2048),
        predictor: Sequence[int] | keras.Layer = (512, 2048),
        views: str | keras.Layer = "moco_v2",
        **kwargs: Any,
    ):
        super().__init__(encoder, projector, views, **kwargs)
        width = self.projector.compute_output_shape((None, self.width))[-1]
        self.predictor = super().build_head(predictor, width, 2, bias="last", name="predictor")

    def build_head(self, head, width, position, **options):
        """A head with the paper's projector layout."""
        options = {"bias": "none", "last_batch_norm": "plain", **options}
        return super().build_head(head, width, position, **options)

    def compute_losses(self, views: list, training: bool) -> dict[str, Any]:
        """Negative cosine between predictions and the other views' projections."""
        projections = [self.project(view, training) for view in views]
        predictions = [self.predictor(z, training=training) for z in projections]
        return {"negative_cosine": losses.simsiam(predictions, projections)}
