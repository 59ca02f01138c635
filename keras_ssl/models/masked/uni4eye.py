# SPDX-License-Identifier: Apache-2.0
"""Uni4Eye."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import keras

from keras_ssl.backbones import TokenTransformer
from keras_ssl.core import register
from keras_ssl.core.seeds import layer_seed
from keras_ssl.models.masked.engine import MaskedModeling
from keras_ssl.targets import GradientTarget, PixelTarget
from keras_ssl.tokens import PatchTokenizer


@register(
    paper="Uni4Eye: Unified 2D and 3D Self-supervised Pre-training via Masked Image Modeling "
    "Transformer for Ophthalmic Image Classification",
    year=2022,
    family="masked modelling",
    modality="image and volume",
    needs=("vision transformer",),
)
class Uni4Eye(MaskedModeling):
    """One network for images and volumes, which reconstructs both their values and their gradients.

    Images and volumes have tokenizers of their own and share everything behind. Two decoders
    predict hidden patches: one their values, one how steep they are.

    Args:
        encoder: a `backbones.VisionTransformer` for the images, with `positions="sincos"`.
        volume_shape: `(depth, rows, columns, channels)` of a volume.
        volume_patch: sizes of a volume's patch.
        masking: share of hidden patches, or a strategy of `masking`.
        decoder_size: `(width, depth, heads)` of each decoder.
        **kwargs: `seed`, `name`, `dtype`.

    Call: representations `(B, D)` of images `(B, H, W, C)` or volumes `(B, Z, H, W, C)`, or of a
    dict of both.

    Batches are `{"image": …, "volume": …}`, or images or volumes alone by their rank.

    Raises:
        ValueError: for volumes that the patch does not tile, a batch without one of the two, or as
            `MaskedModeling`.

    Source: Cai et al., 2022, section 2; https://arxiv.org/abs/2203.04614. Sobel gradients and equal
    weights are inferred.

    Example:

    ```python
    encoder = backbones.VisionTransformer("base", (224, 224, 3), positions="sincos")
    model = Uni4Eye(encoder, (112, 224, 224, 1), (16, 16, 16))
    model.compile(optimizers.AdamW(1.5e-4))
    model.fit(pairs)  # {"image": …, "volume": …}
    ```
    """

    loss_terms = ("pixels", "gradients")
    makes = ("decoder", "target")

    def __init__(
        self,
        encoder: TokenTransformer,
        volume_shape: Sequence[int],
        volume_patch: Sequence[int] = (16, 16, 16),
        masking: float | keras.Layer = 0.75,
        decoder_size: Sequence[int] = (512, 8, 16),
        **kwargs: Any,
    ):
        targets = {"pixels": PixelTarget(encoder.patch), "gradients": GradientTarget(encoder.patch)}
        super().__init__(encoder, masking, decoder_size, targets, **kwargs)
        self.decoder_size = tuple(decoder_size)
        self.volume_shape, self.volume_patch = tuple(volume_shape), tuple(volume_patch)
        seed = layer_seed(self.seed, 3)
        tokenizer = PatchTokenizer(volume_patch, encoder.width, seed=seed, dtype=self.dtype_policy)
        self.volume_encoder = TokenTransformer(
            tokenizer, self.volume_shape, share=encoder, pooling="mean", name="volumes"
        )
        volume = {"pixels": PixelTarget(volume_patch), "gradients": GradientTarget(volume_patch)}
        self.volume_target = volume
        self.volume_decoder = {
            name: self.build_decoder(decoder_size, volume[name], self.volume_encoder, 2 + position)
            for position, name in enumerate(self.loss_terms)
        }

    def modalities(self, samples: Any) -> dict[str, tuple[Any, TokenTransformer, Any, Any]]:
        """Samples, encoder, decoders and targets of what a batch holds.

        Raises:
            ValueError: for a batch that is neither, or lacks one.
        """
        networks = {
            "image": (self.encoder, self.decoder, self.target),
            "volume": (self.volume_encoder, self.volume_decoder, self.volume_target),
        }
        if not isinstance(samples, Mapping):
            ranks = {4: "image", 5: "volume"}
            samples = {ranks.get(len(samples.shape), "neither"): samples}
        elif set(samples) != set(networks):
            raise ValueError(f'Uni4Eye needs "image" and "volume"; the batch has {list(samples)}.')
        if "neither" in samples:
            raise ValueError(
                "Uni4Eye takes images (batch, rows, columns, channels) or volumes (batch, depth, "
                f"rows, columns, channels); received shape {tuple(samples['neither'].shape)}."
            )
        return {name: (x, *networks[name]) for name, x in samples.items()}

    def make_views(self, batch: Any) -> dict[str, Any]:
        """Samples of each kind, and which of their tokens are hidden."""
        views = {}
        for name, (samples, encoder, *_) in self.modalities(batch).items():
            inputs = self.preprocess(samples)
            views[name] = {"inputs": inputs, "plan": self.draw_plan(inputs, encoder)}
        return views

    def compute_losses(self, views: dict, training: bool) -> dict[str, Any]:
        """How far predicted values and gradients are from what was hidden, mean of both kinds."""
        inputs = {name: view["inputs"] for name, view in views.items()}
        if len(inputs) == 1:
            inputs = next(iter(inputs.values()))
        found = [
            self.terms(views[name]["inputs"], views[name]["plan"], *parts, training)
            for name, (_, *parts) in self.modalities(inputs).items()
        ]
        return {term: sum(one[term] for one in found) / len(found) for term in self.loss_terms}

    def call(self, inputs: Any, training: bool = False) -> Any:
        """Representations of images, of volumes, or a dict of both."""
        found = {
            name: encoder(self.preprocess(samples), training=training)
            for name, (samples, encoder, *_) in self.modalities(inputs).items()
        }
        return found if isinstance(inputs, Mapping) else next(iter(found.values()))

    def fit(self, x: Any = None, *args: Any, **kwargs: Any):
        """Trains on pairs, images or volumes; arguments as `SSLModel.fit`."""
        self._retrace_for(x)
        return super().fit(x, *args, **kwargs)

    def evaluate(self, x: Any = None, *args: Any, **kwargs: Any):
        """Losses on data; arguments as `SSLModel.evaluate`."""
        self._retrace_for(x)
        return super().evaluate(x, *args, **kwargs)

    def predict(self, x: Any, *args: Any, **kwargs: Any):
        """Representations of data; arguments as `keras.Model.predict`."""
        self._retrace_for(x)
        return super().predict(x, *args, **kwargs)

    def _retrace_for(self, x: Any) -> None:
        # One traced function that got images first and volumes then is traced a second time for
        # tensors of any rank, which have no shape to choose an encoder by.
        parts = keras.tree.flatten(getattr(x, "element_spec", x))
        ranks = [len(getattr(part, "shape", ())) for part in parts]
        if ranks != getattr(self, "_ranks", ranks):
            self.train_function = self.test_function = self.predict_function = None
        self._ranks = ranks
