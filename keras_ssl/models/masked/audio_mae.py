# SPDX-License-Identifier: Apache-2.0
"""Audio-MAE."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras

from keras_ssl.backbones import TokenTransformer
from keras_ssl.core import register
from keras_ssl.core.seeds import layer_seed
from keras_ssl.models.masked.mae import MAE
from keras_ssl.tokens import TransformerDecoder


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
    does: `(x - mean) / (2 · standard deviation)`. The decoder attends within windows of time and
    frequency, which move in every other block.

    Args:
        encoder: a `backbones.VisionTransformer` or `backbones.TokenTransformer` over
            spectrograms, in the paper ViT-B, patches of 16 frames by 16 bands,
            `positions="sincos"`.
        masking: share of hidden patches, or a strategy of `masking`.
        decoder: `(width, depth, heads)` of a `tokens.TransformerDecoder`, or a layer, such as one
            with `global_blocks` (the paper's hybrid).
        window: patches of a window in time and in frequency, of a decoder given by its sizes; None
            attends to all. It moves by half its length in time, not in frequency.
        views: a layer that makes one view; None for none.
        **kwargs: other arguments of `MAE`.

    Raises:
        ValueError: as `MAE`.

    Source: Huang et al., 2022, section 3; https://arxiv.org/abs/2207.06405. Shift in time alone:
    their code, whose blocks besides are Swin V2's (normalised behind, cosine attention, biases of
    relative position); these are MAE's.

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
        window: Sequence[int] | None = (4, 4),
        views: str | keras.Layer | None = None,
        **kwargs: Any,
    ):
        self.window = window
        if window is not None and not isinstance(decoder, keras.Layer):
            width, depth, heads = decoder
            decoder = TransformerDecoder(
                None,
                width,
                depth,
                heads,
                window=window,
                shift=(window[0] // 2, *[0] * (len(window) - 1)),
                seed=layer_seed(kwargs.get("seed"), 2, 0),
                dtype=kwargs.get("dtype"),
            )
        super().__init__(encoder, masking, decoder, views=views, **kwargs)
