# SPDX-License-Identifier: Apache-2.0
"""Audio-MAE."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras

from keras_ssl.backbones import TokenTransformer
from keras_ssl.core import register
from keras_ssl.models.masked.mae import MAE


@register(
    paper="Masked Autoencoders that Listen",
    year=2022,
    family="masked modelling",
    modality="audio",
    needs=("spectrogram transformer",),
)
class AudioMAE(MAE):
    """MAE on log-mel spectrograms, `(frames, bands, 1)`, of which 80 % are hidden.

    Spectrograms are not cropped or mirrored; standardise them over the data set, as the paper
    does: `(x - mean) / (2 · standard deviation)`. The decoder attends globally, one of the two of
    the paper.

    Args:
        encoder: a `backbones.VisionTransformer` or `backbones.TokenTransformer` over
            spectrograms, in the paper ViT-B, patches of 16 frames by 16 bands,
            `positions="sincos"`.
        masking: share of hidden patches, or a strategy of `masking`.
        decoder: `(width, depth, heads)` of a `tokens.TransformerDecoder`, or a layer.
        views: a layer that makes one view; None for none.
        **kwargs: other arguments of `MAE`.

    Raises:
        ValueError: as `MAE`.

    Source: Huang et al., 2022, section 3; https://arxiv.org/abs/2207.06405.

    Example:

    ```python
    encoder = backbones.VisionTransformer("base", (1024, 128, 1), positions="sincos")
    model = AudioMAE(encoder)
    ```
    """

    def __init__(
        self,
        encoder: TokenTransformer,
        masking: float | keras.Layer = 0.8,
        decoder: Sequence[int] | keras.Layer = (512, 16, 16),
        views: str | keras.Layer | None = None,
        **kwargs: Any,
    ):
        super().__init__(encoder, masking, decoder, views=views, **kwargs)
