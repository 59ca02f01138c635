# SPDX-License-Identifier: Apache-2.0
"""NNCLR."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras

from keras_ssl import losses
from keras_ssl.core import register
from keras_ssl.layers import Queue
from keras_ssl.models.joint_embedding.engine import JointEmbedding


@register(
    paper="With a Little Help from My Friends: Nearest-Neighbor Contrastive Learning of Visual "
    "Representations",
    year=2021,
    family="contrastive",
    modality="image",
    needs=("negatives", "queue"),
)
class NNCLR(JointEmbedding):
    """Contrasts the nearest neighbour of one view, among earlier images, with the other view.

    The projections of the first view enter the support set after the loss.

    Args:
        encoder: any Keras model from image `(H, W, C)` to vector; a feature map is pooled.
        projector: widths of the head (Linear and BN throughout, ReLU between) or a layer.
        predictor: widths of the predictor (Linear, BN, ReLU, Linear) or a layer.
        queue_size: vectors in the support set.
        temperature: divisor of the cosine similarities.
        negatives: `"other view"` (the paper) or `"both"`, see `losses.nnclr`.
        decoupled: `"dcl"` or `"dclw"`, see `losses.info_nce`.
        views: view recipe, a name or a layer; two views.
        **kwargs: `seed`, `name`, `dtype`.

    Source: Dwibedi et al., 2021, equations 3 to 5; https://arxiv.org/abs/2104.14548. No code of
    the authors was found; the heads are those of solo-learn.

    Example:

    ```python
    model = NNCLR(encoder, queue_size=16384)
    model.compile(optimizers.LARS(0.3))
    model.fit(dataset)
    ```
    """

    loss_terms = ("nnclr",)

    def __init__(
        self,
        encoder: keras.Model,
        projector: Sequence[int] | keras.Layer = (2048, 2048, 256),
        predictor: Sequence[int] | keras.Layer = (4096, 256),
        queue_size: int = 98304,
        temperature: float = 0.1,
        negatives: str = "other view",
        decoupled: str | None = None,
        views: str | keras.Layer = "byol",
        **kwargs: Any,
    ):
        super().__init__(encoder, projector, views, **kwargs)
        self.queue_size, self.temperature = queue_size, temperature
        self.negatives, self.decoupled = negatives, decoupled
        width = self.projector.compute_output_shape((None, self.width))[-1]
        self.predictor = self.build_head(predictor, width, position=2)
        self.queue = Queue(queue_size, width, seed=self.seed)

    def build_head(self, head, width, position, **options):
        """Biases throughout; the projector ends in a batch norm."""
        options = {"bias": "all", "last_batch_norm": "affine" if position == 1 else False} | options
        return super().build_head(head, width, position, **options)

    def compute_losses(self, views: list, training: bool) -> dict[str, Any]:
        """Neighbours of both views, from the support set as it was before this batch."""
        projections = [self.project(view, training) for view in views]
        loss = losses.nnclr(
            [self.queue(projection) for projection in projections],
            [self.predictor(projection, training=training) for projection in projections],
            temperature=self.temperature,
            negatives=self.negatives,
            decoupled=self.decoupled,
        )
        if training:
            self.queue.enqueue(losses.normalize(projections[0]))
        return {"nnclr": loss}
