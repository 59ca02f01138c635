# SPDX-License-Identifier: Apache-2.0
"""ColorMAE."""

from __future__ import annotations

from typing import Any

import keras

from keras_ssl.backbones import TokenTransformer
from keras_ssl.core import register
from keras_ssl.masking import ColoredMasking
from keras_ssl.models.masked.mae import MAE


@register(
    paper="ColorMAE: Exploring data-independent masking strategies in Masked AutoEncoders",
    year=2024,
    family="masked modelling",
    modality="image",
    needs=("vision transformer",),
)
class ColorMAE(MAE):
    """MAE whose masks come from noise of a colour, so that they are clumped by a chosen size.

    Args:
        encoder: a `backbones.VisionTransformer`.
        masking: share of hidden patches, or a strategy of `masking`.
        color: `"red"`, `"blue"`, `"green"` (the paper's best) or `"purple"`, see
            `masking.ColoredMasking`, which also says what of the filters is ours.
        **kwargs: other arguments of `MAE`.

    Raises:
        ValueError: for an unknown colour, or as `MAE`.

    Source: Hinojosa et al., 2024, section 3.2; https://arxiv.org/abs/2407.13036.

    Example:

    ```python
    options = {"positions": "sincos", "kernel_initializer": "glorot_uniform"}
    encoder = backbones.VisionTransformer("tiny", (32, 32, 3), patch=4, **options)
    model = ColorMAE(encoder, color="green", decoder=(96, 2, 3))
    ```
    """

    def __init__(
        self,
        encoder: TokenTransformer,
        masking: float | keras.Layer = 0.75,
        color: str = "green",
        **kwargs: Any,
    ):
        self.color = color
        if isinstance(masking, float):
            masking = ColoredMasking(color, masking)
        super().__init__(encoder, masking, **kwargs)
