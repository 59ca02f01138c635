# SPDX-License-Identifier: Apache-2.0
"""SimMIM."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras

from keras_ssl.backbones import TokenTransformer
from keras_ssl.core import register
from keras_ssl.core.seeds import layer_seed
from keras_ssl.masking import GroupedMasking
from keras_ssl.models.masked.engine import MaskedModeling
from keras_ssl.tokens import MLPDecoder


@register(
    paper="SimMIM: A Simple Framework for Masked Image Modeling",
    year=2021,
    family="masked modelling",
    modality="image",
    needs=("vision transformer",),
)
class SimMIM(MaskedModeling):
    """Replaces square units of patches by a mask token and regresses their pixels linearly.

    The encoder sees all places, so a step costs what a whole image does. The loss is the mean
    absolute error of hidden pixels as the views normalise them.

    Args:
        encoder: a `backbones.VisionTransformer`.
        masking: share of hidden units, or a strategy of `masking`.
        unit: sides of a unit in pixels, multiples of the patch; the paper's is 32 at 192 to 224
            pixels, so the default is a seventh of the image's side, in whole patches.
        decoder: layer from tokens to pixels; None for a linear map.
        target: `"pixels"` or `"normalized"`, or a layer of `targets`.
        loss: see `MaskedModeling`.
        views: name of views or a layer; None for none.
        **kwargs: `seed`, `name`, `dtype`.

    Raises:
        ValueError: for units that do not tile the image, or an encoder without tokens.

    Source: Xie et al., 2021, section 3; https://arxiv.org/abs/2111.09886.

    Example:

    ```python
    encoder = backbones.VisionTransformer("tiny", (32, 32, 3), patch=4)
    model = SimMIM(encoder, unit=(8, 8))
    model.compile(optimizers.AdamW(1e-3, weight_decay=0.05, clipnorm=5.0))
    model.fit(dataset)
    ```
    """

    layout = "replace"

    def __init__(
        self,
        encoder: TokenTransformer,
        masking: float | keras.Layer = 0.6,
        unit: Sequence[int] | None = None,
        decoder: keras.Layer | None = None,
        target: str | keras.Layer = "pixels",
        loss: str = "l1",
        views: str | keras.Layer | None = "simmim",
        **kwargs: Any,
    ):
        if isinstance(masking, float):
            patch, shape = self.checked_encoder(encoder).patch, encoder.sample_shape
            steps = zip(shape, patch, strict=False)
            unit = tuple(unit or (max(side // 7 // step, 1) * step for side, step in steps))
            group = [side // step for side, step in zip(unit, patch, strict=True)]
            masking = GroupedMasking(group, masking)
        self.unit = unit
        if decoder is None:
            options = {"seed": layer_seed(kwargs.get("seed"), 2), "dtype": kwargs.get("dtype")}
            decoder = MLPDecoder(**options)
        super().__init__(encoder, masking, decoder, target, loss, views=views, **kwargs)
