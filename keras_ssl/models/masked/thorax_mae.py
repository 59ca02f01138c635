# SPDX-License-Identifier: Apache-2.0
"""MAE for chest X-rays."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras

from keras_ssl.backbones import TokenTransformer
from keras_ssl.core import register
from keras_ssl.models.masked.mae import MAE


@register(
    paper="Delving into Masked Autoencoders for Multi-Label Thorax Disease Classification",
    year=2022,
    family="masked modelling",
    modality="medical image",
    needs=("vision transformer",),
)
class ThoraxMAE(MAE):
    """MAE as chest X-rays want it: 90 % hidden, crops of at least half the image, two blocks.

    Radiographs look more alike than photographs, so more can be hidden and less cropped away.
    `evaluation.fine_tune(..., recipe="thorax")` has the fine-tuning of the same paper.

    Args:
        encoder: a `backbones.VisionTransformer`, in the paper `"small"`, `positions="sincos"`.
        masking: share of hidden patches, or a strategy of `masking`.
        decoder: `(width, depth, heads)` of a `tokens.TransformerDecoder`, or a layer.
        views: name of views or a layer; None for none.
        **kwargs: other arguments of `MAE`.

    Raises:
        ValueError: as `MAE`.

    Source: Xiao et al., 2022, section 3; https://arxiv.org/abs/2210.12843.

    Example:

    ```python
    encoder = backbones.VisionTransformer("small", (224, 224, 1), positions="sincos")
    model = ThoraxMAE(encoder)
    ```
    """

    def __init__(
        self,
        encoder: TokenTransformer,
        masking: float | keras.Layer = 0.9,
        decoder: Sequence[int] | keras.Layer = (512, 2, 16),
        views: str | keras.Layer | None = "thorax_mae",
        **kwargs: Any,
    ):
        super().__init__(encoder, masking, decoder, views=views, **kwargs)
