# SPDX-License-Identifier: Apache-2.0
"""MixedAE."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_ssl import losses
from keras_ssl.backbones import TokenTransformer
from keras_ssl.core import register
from keras_ssl.core.seeds import layer_seed
from keras_ssl.masking import MaskPlan, PatchMixing
from keras_ssl.models.masked.engine import MaskedModeling


@register(
    paper="Mixed Autoencoder for Self-supervised Visual Representation Learning",
    year=2023,
    family="masked modelling",
    modality="image",
    needs=("vision transformer",),
)
class MixedAE(MaskedModeling):
    """MAE whose encoder sees what several images show of themselves as one mixed image.

    Each place of a mixed image belongs to one member of a group. Tokens must find those of their
    own image: each attends only to as many patches as an image gave, those of its greatest scores,
    and encoded tokens of one image are pulled together, away from the others'. Then every image
    gets its tokens back and a small decoder reconstructs the rest of it.

    A group is made of neighbouring rows, so that data should come shuffled; groups lie within one
    replica. Batches that make no whole groups are refused, and a short last batch of arrays is
    left out.

    Args:
        encoder: a `backbones.VisionTransformer`, in the paper with `positions="sincos"` and
            `kernel_initializer="glorot_uniform"`. Alone it is a plain transformer: mixing,
            segments and the choice of keys belong to the training.
        components: images of a group, 1 / r of the paper. With 1 there is nothing to hide, and
            with `recognition_weight=0` it is a plain autoencoder of all patches.
        decoder: `(width, depth, heads)` of a `tokens.TransformerDecoder`, or a layer.
        target: `"normalized"` or `"pixels"`, or a layer of `targets`.
        homologous_attention: whether tokens choose their keys; else they attend to all.
        recognition_weight: of the contrast between tokens, see `losses.token_sup_con`.
        temperature: of the contrast.
        views: name of views or a layer; None for none.
        **kwargs: `loss` and `decode` of `MaskedModeling`, `seed`, `name`, `dtype`.

    Raises:
        ValueError: for components that do not divide the number of patches, or batches.

    Source: Chen et al., 2023, abstract and introduction, which state mixing, homologous recognition
    and its cost; https://arxiv.org/abs/2303.17152. No code is published. Inferred: one mixed image
    a group, a learned segment for each member, keys chosen in all blocks (those of tokens in front
    besides), the contrast on encoded patches without a head, its weight and temperature, and
    errors of what an image did not show alone.

    Example:

    ```python
    options = {"positions": "sincos", "kernel_initializer": "glorot_uniform"}
    encoder = backbones.VisionTransformer("tiny", (32, 32, 3), patch=4, **options)
    model = MixedAE(encoder, decoder=(96, 2, 3))
    model.compile(optimizers.AdamW(1.5e-3, beta_2=0.95, weight_decay=0.05))
    model.fit(dataset)
    ```
    """

    loss_terms = ("reconstruction", "recognition")
    decoded_terms = ("reconstruction",)
    makes = ("masking",)

    def __init__(
        self,
        encoder: TokenTransformer,
        components: int = 4,
        decoder: Sequence[int] | keras.Layer = (512, 8, 16),
        target: str | keras.Layer = "normalized",
        homologous_attention: bool = True,
        recognition_weight: float = 0.1,
        temperature: float = 0.25,
        views: str | keras.Layer | None = "mae",
        **kwargs: Any,
    ):
        super().__init__(encoder, PatchMixing(components), decoder, target, views=views, **kwargs)
        self.components = self.rows_together = int(components)
        self.homologous_attention = bool(homologous_attention)
        self.recognition_weight, self.temperature = float(recognition_weight), float(temperature)
        start = keras.initializers.TruncatedNormal(stddev=0.02, seed=layer_seed(self.seed, 3))
        self.segments = self.add_weight(
            shape=(self.components, encoder.width), initializer=start, name="segments"
        )

    def compute_losses(self, views: dict, training: bool) -> dict[str, Any]:
        """How far predictions are from what images did not show, and tokens from their image's."""
        inputs, plan = views["inputs"], views["plan"]
        encoded = self.encode(inputs, plan, training)
        where = {"grid": self.encoder.grid_of(inputs), "training": training}
        if self.components == 1:
            predicted = self.decoder(encoded, plan=plan, seen=True, **where)
            plan = plan._replace(decode=plan.keep)
        else:
            predicted = self.decoder(encoded, plan=plan, **where)
        patches = self.mixed(encoded)[:, self.encoder.prefix.count :]
        contrast = losses.token_sup_con(patches, self.sources(plan), temperature=self.temperature)
        wanted = self.target(inputs, training=training)
        return {
            "reconstruction": self.compared(predicted, wanted, plan),
            "recognition": self.recognition_weight * contrast,
        }

    def encode(self, inputs: Any, plan: MaskPlan, training: bool = False) -> Any:
        """Tokens `(B, e + k, D)` that images gave to their mixtures, encoded there."""
        encoder, front = self.encoder, self.encoder.prefix.count
        x, options = encoder.first_tokens(inputs, plan)
        if options["angles"] is not None:
            turned = [self.mixed(part[:, 0]) for part in options["angles"]]
            options["angles"] = ops.expand_dims(ops.stack(turned), 2)
        if self.homologous_attention:
            options["top_keys"] = (front, plan.keep.shape[1])
        segments = ops.take(ops.cast(self.segments, x.dtype), self.sources(plan), axis=0)
        x = self.mixed(x) + ops.pad(segments, ((front, 0), (0, 0)))[None]
        for block in encoder.blocks:
            x = block(x, **options, training=training)
        return self.unmixed(encoder.norm(x))

    def sources(self, plan: MaskPlan) -> np.ndarray:
        """Which member of its group each patch of a mixed image is of, `(L,)`."""
        return np.repeat(np.arange(self.components, dtype="int32"), plan.keep.shape[1])

    def mixed(self, x: Any) -> Any:
        """Mixed images' tokens `(B / n, e + n · k, D)`, one member behind the other.

        They stand at their places by their positions, and a transformer knows no other order.

        Args:
            x: tokens that are shown of every image, `(B, e + k, D)`; those in front are alike.
        """
        front, width = self.encoder.prefix.count, x.shape[-1]
        count = self.components * (x.shape[1] - front)
        patches = ops.reshape(x[:, front:], (-1, count, width))
        return ops.concatenate([x[:: self.components, :front], patches], axis=1)

    def unmixed(self, x: Any) -> Any:
        """Tokens of every image, `(B, e + k, D)`: the reverse of `mixed`."""
        front, width = self.encoder.prefix.count, x.shape[-1]
        count = (x.shape[1] - front) // self.components
        patches = ops.reshape(x[:, front:], (-1, count, width))
        return ops.concatenate([ops.repeat(x[:, :front], self.components, axis=0), patches], axis=1)
