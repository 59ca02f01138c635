# SPDX-License-Identifier: Apache-2.0
"""GMML."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from keras_ssl import losses
from keras_ssl.backbones import TokenTransformer
from keras_ssl.core import distribution, register
from keras_ssl.core.seeds import layer_seed
from keras_ssl.masking import GroupCorruption, MaskPlan
from keras_ssl.models.masked.engine import MASKS, MaskedModeling
from keras_ssl.targets import PixelTarget
from keras_ssl.tokens import MLPDecoder

# Of twelve blocks: the sixth, eighth, tenth and last.
DEPTHS = (1 / 2, 2 / 3, 5 / 6, 1.0)


@register(
    paper="GMML is All you Need",
    year=2022,
    family="masked modelling",
    modality="image",
    needs=("vision transformer",),
)
class GMML(MaskedModeling):
    """Overwrites connected groups of pixels and regresses what was there.

    Rectangles of an image are filled with noise or with another image, not bound to patches. The
    loss is the mean absolute error of overwritten pixels, each of the global batch weighing the
    same.

    Args:
        encoder: a `backbones.VisionTransformer`.
        masking: a `masking.GroupCorruption`; None for the paper's.
        blocks: blocks, counted from 1, whose mean is decoded; None for the paper's, of twelve the
            6th, 8th, 10th and 12th.
        decoder: layer from tokens to pixels; None for three hidden layers of the encoder's width.
        target: `"pixels"`, or a layer of `targets`.
        loss: `"l1"` or `"l2"`.
        views: name of views or a layer, of one or several views; None for none.
        **kwargs: `seed`, `name`, `dtype`.

    Raises:
        ValueError: for blocks that are not there, or an encoder without tokens.

    Source: Atito et al., 2022, section 3; https://arxiv.org/abs/2205.14986.

    Example:

    ```python
    encoder = backbones.VisionTransformer("tiny", (32, 32, 3), patch=4)
    model = GMML(encoder)
    model.compile(optimizers.AdamW(5e-4, weight_decay=0.04, clipnorm=3.0))
    model.fit(dataset)
    ```
    """

    several_views = True

    def __init__(
        self,
        encoder: TokenTransformer,
        masking: keras.Layer | None = None,
        blocks: Sequence[int] | None = None,
        decoder: keras.Layer | None = None,
        target: str | keras.Layer = "pixels",
        loss: str = "l1",
        views: str | keras.Layer | None = "gmml",
        **kwargs: Any,
    ):
        depth = len(self.checked_encoder(encoder).blocks)
        self.blocks = tuple(blocks or sorted({max(round(d * depth), 1) for d in DEPTHS}))
        masking = GroupCorruption() if masking is None else masking
        if decoder is None:
            options = {"seed": layer_seed(kwargs.get("seed"), 2), "dtype": kwargs.get("dtype")}
            decoder = MLPDecoder(hidden=(encoder.width,) * 3, **options)
        super().__init__(encoder, masking, decoder, target, loss, views=views, **kwargs)

    def make_views(self, batch: Any) -> dict[str, Any]:
        """Clean views one after the other, corrupted ones, and where they differ."""
        return self.corrupt(self.all_views(batch))

    def corrupt(self, clean: Sequence) -> dict[str, Any]:
        """What `make_views` gives, of clean views `(B, H, W, C)`."""
        seed = distribution.fold_in(self.draw_seed(), MASKS)
        # View by view: together, rows of other devices would lie between those of two views.
        made = [
            self.masking(view, seed=distribution.fold_in(seed, index))
            for index, view in enumerate(clean)
        ]
        parts = (clean, *zip(*made, strict=True))
        joined = [ops.concatenate(list(part), axis=0) for part in parts]
        return dict(zip(("inputs", "corrupted", "mask"), joined, strict=True))

    def encode_corrupted(self, images: Any, training: bool = False) -> Any:
        """Tokens `(B, e + L, D)` of corrupted images."""
        return self.encoder.encode(images, blocks=self.blocks, training=training)

    def predict_tokens(self, images: Any, training: bool = False, encoded: Any = None) -> Any:
        """Predicted values `(B, L, P)` of all patches of corrupted images, or of their tokens."""
        encoded = self.encode_corrupted(images, training) if encoded is None else encoded
        plan = MaskPlan(encoded[:, self.encoder.prefix.count :, 0])
        grid = self.encoder.grid_of(images)
        return self.decoder(encoded, plan=plan, grid=grid, training=training)

    def compute_losses(self, views: dict, training: bool) -> dict[str, Any]:
        """How far predictions are from overwritten pixels."""
        encoded = self.encode_corrupted(views["corrupted"], training)
        return {"reconstruction": self.reconstruction(encoded, views, training)}

    def reconstruction(self, encoded: Any, views: dict, training: bool) -> Any:
        """The error of overwritten pixels as tokens of the corrupted views predict them."""
        predicted = self.predict_tokens(views["corrupted"], training, encoded)
        values = PixelTarget(self.encoder.patch)
        weight = values(ops.broadcast_to(views["mask"], ops.shape(views["inputs"])))
        wanted = self.target(views["inputs"], training=training)
        return losses.token_error(predicted, wanted, weight, self.loss)

    def reconstruct(self, samples: Any, seed: int = 0) -> dict[str, Any]:
        """What the model sees of images and what it makes of it; see `MaskedModeling`."""
        inputs = self.preprocess(samples)
        corrupted, mask = self.masking(inputs, seed=distribution.fixed_seed(seed))
        made = self.target.to_pixels(self.predict_tokens(corrupted), inputs)
        shown = ops.where(mask > 0.5, made, inputs)
        return {"original": inputs, "masked": corrupted, "reconstruction": shown}
