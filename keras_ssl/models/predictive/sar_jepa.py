# SPDX-License-Identifier: Apache-2.0
"""SAR-JEPA."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras

from keras_ssl.backbones import TokenTransformer
from keras_ssl.core import register
from keras_ssl.masking import WindowMasking
from keras_ssl.models.masked.engine import MaskedModeling
from keras_ssl.targets import RatioGradientTarget


@register(
    paper="Predicting Gradient is Better: Exploring Self-Supervised Learning for SAR ATR with a "
    "Joint-Embedding Predictive Architecture",
    year=2024,
    family="joint-embedding prediction",
    modality="radar image",
    needs=("vision transformer",),
)
class SARJEPA(MaskedModeling):
    """Predicts ratio gradients of hidden patches of radar images, in small windows.

    Radar images are full of speckle, noise that multiplies; ratios of means of several sizes hardly
    feel it and still show edges. They are fixed features in place of a teacher's latents, so
    nothing can collapse. Windows of the image are sequences of their own, with mask tokens in the
    encoder, so that small targets in large scenes are seen closely.

    Args:
        encoder: a `backbones.VisionTransformer`, as a rule of one channel. The authors tell places
            by their distance; `positions="rotary"` is nearest to that.
        masking: a `masking.WindowMasking`, or another strategy with windows; None for 4 windows of
            7 x 7 patches, of which 80 % are hidden.
        decoder: `(width, depth, heads)` of a `tokens.TransformerDecoder` over a window's tokens, or
            a layer called as it is.
        target: a layer of `targets`; None for `targets.RatioGradientTarget` of radii 5, 9, 13, 17.
        views: name of views or a layer; None for none. Samples stay in 0..1: ratios of standardised
            values mean nothing.
        **kwargs: `loss` of `MaskedModeling`, `seed`, `name`, `dtype`.

    Raises:
        ValueError: for a grid smaller than the windows, images no larger than a radius, or as
            `MaskedModeling`.

    Source: Li et al., 2024, section 3; https://arxiv.org/abs/2311.15153; released code
    (waterdisappear/SAR-JEPA). It shifts attention by learned distances, where we add or turn by
    positions.

    Example:

    ```python
    encoder = backbones.VisionTransformer("base", (224, 224, 1), patch=16, positions="rotary")
    model = SARJEPA(encoder)
    model.compile(optimizers.AdamW(1e-3, weight_decay=0.05))
    model.fit(images)
    ```
    """

    def __init__(
        self,
        encoder: TokenTransformer,
        masking: keras.Layer | None = None,
        decoder: Sequence[int] | keras.Layer = (512, 8, 16),
        target: keras.Layer | None = None,
        views: str | keras.Layer | None = "sar_jepa",
        **kwargs: Any,
    ):
        if target is None:
            target = RatioGradientTarget(self.checked_encoder(encoder).patch)
        masking = WindowMasking() if masking is None else masking
        super().__init__(encoder, masking, decoder, target, views=views, **kwargs)

    def decoder_for(self, views: dict, training: bool = False) -> Any:
        """What maps the tokens of a window, mask tokens among them, to their gradients."""

        def predict(encoded: Any, plan: Any, grid: Sequence[int], training: bool) -> Any:
            # Nothing is added: hidden places are among the tokens.
            window = plan._replace(decode=plan.keep[:, :0], asked=None)
            options = {"plan": window, "grid": grid, "seen": True, "training": training}
            return self.decoder(encoded, **options)

        return predict

    def idle_variables(self) -> list:
        """The decoder's mask token: hidden places have the encoder's."""
        token = getattr(self.decoder, "mask_token", None)
        return [] if token is None else [token]
