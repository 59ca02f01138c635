# SPDX-License-Identifier: Apache-2.0
"""SimCLR."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras

from keras_ssl import losses
from keras_ssl.core import register
from keras_ssl.models.joint_embedding.engine import JointEmbedding


@register(
    paper="A Simple Framework for Contrastive Learning of Visual Representations",
    year=2020,
    family="contrastive",
    modality="image",
    needs=("negatives", "large batch"),
)
class SimCLR(JointEmbedding):
    """Pulls two views of an image together and pushes all other images of the batch away.

    Args:
        encoder: any Keras model from image `(H, W, C)` to vector; a feature map is pooled.
        projector: widths of the head, by default those of the paper's ResNet-50 (2 layers,
            Linear without bias and batch norm; the last batch norm without offset), or a layer.
        temperature: divisor of the cosine similarities; 0.1 for ImageNet, 0.5 for CIFAR.
        views: view recipe, a name or a layer; any number of views from two.
        decoupled: `"dcl"` or `"dclw"`: the positive stands outside of the denominator (Yeh et
            al., 2021; the class `DCL` has that paper's settings); None for NT-Xent.
        positives: with more than two views, `"outside"` or `"inside"` (see `nt_xent`).
        **kwargs: `seed`, `name`, `dtype`.

    Source: Chen et al., 2020, eq. 1 and algorithm 1; https://arxiv.org/abs/2002.05709.

    Example:

    ```python
    model = SimCLR(backbones.ResNet(18, input_shape=(32, 32, 3)), temperature=0.5)
    model.compile("adam")
    model.fit(images, batch_size=256, epochs=10)
    representation = model.predict(images)
    ```
    """

    loss_terms = ("nt_xent",)

    def __init__(
        self,
        encoder: keras.Model,
        projector: Sequence[int] | keras.Layer = (2048, 128),
        temperature: float = 0.1,
        views: str | keras.Layer = "simclr",
        positives: str = "outside",
        decoupled: str | None = None,
        **kwargs: Any,
    ):
        if decoupled not in (None, "dcl", "dclw"):
            raise ValueError(f'decoupled is None, "dcl" or "dclw"; received {decoupled!r}.')
        super().__init__(encoder, projector, views, **kwargs)
        self.temperature = temperature
        self.positives = positives
        self.decoupled = decoupled

    def build_head(self, head, width, position, **options):
        """A head with the paper's biases and batch norms."""
        options = {"bias": "none", "last_batch_norm": "scale", **options}
        return super().build_head(head, width, position, **options)

    def compute_losses(self, views: list, training: bool) -> dict[str, Any]:
        """NT-Xent over the projections of all views."""
        projections = [self.project(view, training) for view in views]
        if self.decoupled is not None:
            decoupled = losses.dcl if self.decoupled == "dcl" else losses.dclw
            return {"nt_xent": decoupled(projections, temperature=self.temperature)}
        loss = losses.nt_xent(projections, temperature=self.temperature, positives=self.positives)
        return {"nt_xent": loss}
