# SPDX-License-Identifier: Apache-2.0
"""Hydra (SimLAP)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from keras_ssl import losses
from keras_ssl.core import distribution, register
from keras_ssl.core.seeds import layer_seed
from keras_ssl.layers import MLP, PairGate
from keras_ssl.models.joint_embedding.engine import JointEmbedding

PAIRS = ("arbitrary", "identical", "distinct")


@register(
    paper="Rethinking Positive Pairs in Contrastive Learning",
    year=2024,
    family="contrastive",
    modality="image",
    needs=("negatives", "labels"),
)
class Hydra(JointEmbedding):
    """Makes any two classes a positive pair, in the features that a gate selects for the pair.

    A linear classifier is trained beside it, on features without gradient. Images of label -1
    take no part.

    Args:
        encoder: any Keras model from image `(H, W, C)` to vector; a feature map is pooled.
        classes: number of classes.
        projector: widths of the head (Linear, BN, ReLU, Linear without bias, layer norm) or a
            layer.
        pairs: with which class an image is paired: `"arbitrary"` (that of another image of the
            batch), `"identical"` (its own) or `"distinct"` (any other, in the batch or not).
        temperature: divisor of the gated cosine similarities.
        gate: widths of the class embedding and of the hidden layer of `PairGate`.
        combine: `"mean"` or `"product"`, see `PairGate`.
        joint: whether the classifier trains the encoder too (`sup_loss` in the authors' code).
        views: view recipe, a name or a layer; any number of views, all rows of one batch.
        **kwargs: `seed`, `name`, `dtype`.

    Raises:
        ValueError: for an unknown `pairs`.

    Source: Wu et al., 2024; https://arxiv.org/abs/2410.18200 (version 1 calls it Hydra, version
    2 SimLAP). The loss was checked against the authors' code; that unlabelled images are left
    out, and the start of the class embeddings (standard normal), are this package's.

    Example:

    ```python
    model = Hydra(encoder, classes=10)
    model.compile(optimizers.AdamW(1e-3))
    model.fit(images, labels, batch_size=256)
    ```
    """

    loss_terms = ("simlap", "classification")
    uses_labels = True

    def __init__(
        self,
        encoder: keras.Model,
        classes: int,
        projector: Sequence[int] | keras.Layer = (2048, 256),
        pairs: str = "arbitrary",
        temperature: float = 0.1,
        gate: Sequence[int] = (512, 1024),
        combine: str = "mean",
        joint: bool = False,
        views: str | keras.Layer = "hydra",
        **kwargs: Any,
    ):
        if pairs not in PAIRS:
            raise ValueError(f"pairs is one of {PAIRS}; received {pairs!r}.")
        super().__init__(encoder, projector, views, **kwargs)
        self.classes, self.pairs, self.temperature = classes, pairs, temperature
        self.gate, self.combine, self.joint = tuple(gate), combine, joint
        policy, width = self.dtype_policy, self.projector.compute_output_shape((None, self.width))
        self.pair_gate = PairGate(
            classes,
            width[-1],
            hidden=gate,
            combine=combine,
            seed=layer_seed(self.seed, 3),
            dtype=policy,
        )
        self.classifier = self.build_head([classes], self.width, 2, bias="all")

    def build_head(self, head, width, position, **options):
        """A head with the released layout; the projector ends in a layer norm."""
        if position == 1 and not isinstance(head, keras.Layer):
            seed, policy = layer_seed(self.seed, position), self.dtype_policy
            widths = MLP(head, bias="hidden", seed=seed, dtype=policy)
            norm = keras.layers.LayerNormalization(epsilon=1e-5, dtype=policy)
            head = keras.Sequential([widths, norm], name="projector")
        return super().build_head(head, width, position, **options)

    def make_views(self, batch: Any) -> tuple:
        """Views of the images, their labels and the classes they are paired with."""
        images, labels = batch
        seed = self.draw_seed()
        self.check_images(images)
        views = self.views(images, seed=distribution.fold_in(seed, 0))
        labels = ops.cast(labels, "int32")
        # Drawn view by view: rows of several views stand in another order on several replicas.
        partners = [
            self.partners(labels, distribution.fold_in(seed, 1 + view))
            for view in range(len(views))
        ]
        return views, ops.tile(labels, (len(views),)), ops.concatenate(partners, axis=0)

    def partners(self, labels: Any, seed: Any) -> Any:
        """The classes `(B,)` int32 with which rows of `labels` are paired."""
        rows = ops.shape(labels)[0]
        if self.pairs == "identical":
            return labels
        if self.pairs == "distinct":
            step = distribution.uniform_rows(seed, rows) * (self.classes - 1)
            step = 1 + ops.minimum(ops.cast(step, "int32"), self.classes - 2)
            return ops.where(labels < 0, labels, ops.mod(labels + step, self.classes))
        everyone = distribution.all_gather(labels)
        order = ops.argsort(distribution.uniform_batch(seed, (ops.shape(everyone)[0],)))
        return distribution.own_rows(ops.take(everyone, order, axis=0), rows)

    def compute_losses(self, views: tuple, training: bool) -> dict[str, Any]:
        """Contrast under gates, and the classifier's cross-entropy."""
        images, labels, partners = views
        features = [self.encoder(view, training=training) for view in images]
        features = ops.concatenate(features, axis=0)
        projections = self.projector(features, training=training)
        gates = self.pair_gate(labels, partners, training=training)
        logits = self.classifier(features if self.joint else ops.stop_gradient(features))
        contrast = losses.simlap(projections, gates, labels, partners, temperature=self.temperature)
        return {"simlap": contrast, "classification": losses.classification(logits, labels)}

    def classify(self, images: Any) -> Any:
        """Class logits `(B, classes)` of raw images `(B, H, W, C)`."""
        return self.classifier(self(images, training=False))
