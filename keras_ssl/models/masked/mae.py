# SPDX-License-Identifier: Apache-2.0
"""MAE."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras

from keras_ssl.backbones import TokenTransformer
from keras_ssl.core import register
from keras_ssl.models.masked.engine import MaskedModeling


@register(
    paper="Masked Autoencoders Are Scalable Vision Learners",
    year=2021,
    family="masked modelling",
    modality="image",
    needs=("vision transformer",),
)
class MAE(MaskedModeling):
    """Hides most patches of an image and reconstructs them with a small decoder.

    The encoder sees visible patches only, so a step costs what is visible. The loss is the mean
    squared error of hidden patches, by default each standardised by its own mean and unbiased
    variance.

    Args:
        encoder: a `backbones.VisionTransformer`, in the paper with `positions="sincos"` and
            `kernel_initializer="glorot_uniform"`.
        masking: share of hidden patches, or a strategy of `masking`.
        decoder: `(width, depth, heads)` of a `tokens.TransformerDecoder`, or a layer.
        target: `"normalized"` or `"pixels"`, or a layer of `targets`.
        views: name of views or a layer; None for none.
        **kwargs: `loss` and `decode` of `MaskedModeling`, `seed`, `name`, `dtype`.

    Raises:
        ValueError: for an encoder without tokens, or a ratio that leaves nothing visible or hidden.

    Source: He et al., 2021, section 3; https://arxiv.org/abs/2111.06377.

    Example:

    ```python
    options = {"positions": "sincos", "kernel_initializer": "glorot_uniform"}
    encoder = backbones.VisionTransformer("tiny", (32, 32, 3), patch=4, **options)
    model = MAE(encoder, decoder=(96, 2, 3))
    model.compile(optimizers.AdamW(1.5e-3, beta_2=0.95, weight_decay=0.05))
    model.fit(dataset)
    ```
    """

    def __init__(
        self,
        encoder: TokenTransformer,
        masking: float | keras.Layer = 0.75,
        decoder: Sequence[int] | keras.Layer = (512, 8, 16),
        target: str | keras.Layer = "normalized",
        views: str | keras.Layer | None = "mae",
        **kwargs: Any,
    ):
        super().__init__(encoder, masking, decoder, target, views=views, **kwargs)
