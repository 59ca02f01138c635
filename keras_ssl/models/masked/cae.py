# SPDX-License-Identifier: Apache-2.0
"""CAE."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from keras_ssl import losses
from keras_ssl.backbones import TokenTransformer
from keras_ssl.core import register
from keras_ssl.core.seeds import layer_seed
from keras_ssl.masking import BlockMasking, MaskPlan
from keras_ssl.models.masked.engine import MaskedModeling
from keras_ssl.targets import PatchCodeTarget
from keras_ssl.tokens import LatentDecoder, LatentRegressor


@register(
    paper="Context Autoencoder for Self-Supervised Representation Learning",
    year=2022,
    family="masked modelling",
    modality="image",
    needs=("vision transformer",),
)
class CAE(MaskedModeling):
    """Predicts what the encoder would make of hidden patches, and from that their codes.

    The encoder gets visible patches only. A regressor predicts the latents of hidden ones; they are
    to meet those that the same encoder gives for the hidden patches alone, without gradient. A
    decoder, which sees nothing but these latents, predicts the patches' codes in a codebook. So the
    encoder need not solve the task itself.

    Args:
        encoder: a `backbones.VisionTransformer`, in the paper with
            `positions={"order": (0, 1)}`, `kernel_initializer="glorot_uniform"` and
            `layer_scale=0.1`.
        target: codes of patches, a `targets.CodeTarget` of a frozen tokenizer or a
            `targets.PatchCodeTarget`; None for the latter, which `fit` adapts to its data. With
            another `loss` any other target.
        codes: number of codes where `target` is None.
        masking: a strategy of `masking` whose plans have indices, or a ratio of single patches;
            None for the paper's blocks over half of the patches.
        regressor: `(depth, heads)` of a `tokens.LatentRegressor`, or such a layer.
        decoder: `(depth, heads)` of a `tokens.LatentDecoder`, or such a layer.
        layer_scale: start of the `LayerScale` in both.
        drop_path: rate of dropped paths in the last block of both.
        alignment_weight: of the squared error of latents.
        loss: of a patch, `"cross_entropy"` where the target are codes.
        views: name of views or a layer; None for none.
        **kwargs: `decode` of `MaskedModeling`, `seed`, `name`, `dtype`.

    Raises:
        ValueError: for a masking without indices, or as `MaskedModeling`.

    Source: Chen et al., 2022, section 3; https://arxiv.org/abs/2202.03026. As released: the encoder
    of hidden patches has the weights of the encoder itself, not their moving average. The paper's
    codes are those of DALL-E's tokenizer; dropped paths are off where latents are to be met.

    Example:

    ```python
    options = {"positions": {"order": (0, 1)}, "layer_scale": 0.1}
    encoder = backbones.VisionTransformer("tiny", (32, 32, 3), patch=4, **options)
    model = CAE(encoder, codes=512, regressor=(4, 3), decoder=(4, 3))
    model.compile(optimizers.AdamW(1e-3, weight_decay=0.05))
    model.fit(dataset)
    ```
    """

    loss_terms = ("reconstruction", "alignment")
    decoded_terms = ("reconstruction",)

    def __init__(
        self,
        encoder: TokenTransformer,
        target: str | keras.Layer | None = None,
        codes: int = 8192,
        masking: float | keras.Layer | None = None,
        regressor: Sequence[int] | keras.Layer = (4, 12),
        decoder: Sequence[int] | keras.Layer = (4, 12),
        layer_scale: float = 0.1,
        drop_path: float = 0.0,
        alignment_weight: float = 2.0,
        loss: str = "cross_entropy",
        views: str | keras.Layer | None = "cae",
        **kwargs: Any,
    ):
        if target is None:
            target = PatchCodeTarget(
                self.checked_encoder(encoder).patch, codes, seed=kwargs.get("seed")
            )
        if masking is None:
            masking = BlockMasking((0.5, 0.5), exact=True)
        self.layer_scale, self.drop_path = layer_scale, drop_path
        super().__init__(encoder, masking, decoder, target, loss, views=views, **kwargs)
        if self.mask_token is not None:
            raise ValueError(
                f"CAE's encoder gets visible patches only; {type(self.masking).__name__} replaces "
                "hidden ones. Give a masking whose plans have indices, such as "
                "BlockMasking((0.5, 0.5), exact=True)."
            )
        self.codes, self.alignment_weight = codes, alignment_weight
        self.regressor: Any = regressor
        if not isinstance(regressor, keras.Layer):
            options: dict[str, Any] = {"layer_scale": layer_scale, "drop_path": drop_path}
            options |= {"seed": layer_seed(self.seed, 3), "dtype": self.dtype_policy}
            depth, heads = regressor
            self.regressor = LatentRegressor(depth, heads, **options)
        if not self.regressor.built:
            self.regressor.build((None, None, encoder.width))

    def make_decoder(self, size: Any, values: int, **options: Any) -> keras.Layer:
        """A decoder of `(depth, heads)`."""
        scale = {"layer_scale": self.layer_scale, "drop_path": self.drop_path}
        return LatentDecoder(values, *size, **scale, **options)

    def compute_losses(self, views: dict, training: bool) -> dict[str, Any]:
        """How far codes are from those of hidden patches, and latents from the encoder's."""
        inputs, plan = views["inputs"], views["plan"]
        where = {"plan": plan, "grid": self.encoder.grid_of(inputs), "training": training}
        latents = self.regressor(self.encode(inputs, plan, training), **where)
        predicted = self.decoder(latents, **where)
        aligned = losses.token_error(latents, self.alignment_target(inputs, plan), plan.weight)
        codes = self.target(inputs, training=training)
        return {
            "reconstruction": self.compared(predicted, codes, plan),
            "alignment": self.alignment_weight * aligned,
        }

    def alignment_target(self, inputs: Any, plan: MaskPlan) -> Any:
        """What the encoder makes of the hidden patches alone, `(B, q, D)`, without gradient."""
        others = MaskPlan(1.0 - plan.mask, keep=plan.decode, shown=plan.asked)
        latents = self.encode(inputs, others)[:, self.encoder.prefix.count :]
        return ops.stop_gradient(latents)

    def decoder_for(self, views: dict, training: bool = False) -> Any:
        """Regressor and decoder, one behind the other."""

        def decode(encoded: Any, **where: Any) -> Any:
            return self.decoder(self.regressor(encoded, **where), **where)

        return decode
