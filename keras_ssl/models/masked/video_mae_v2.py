# SPDX-License-Identifier: Apache-2.0
"""VideoMAE V2."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras

from keras_ssl.backbones import TokenTransformer
from keras_ssl.core import register
from keras_ssl.masking import RunningCellMasking, TubeMasking
from keras_ssl.models.masked.engine import MaskedModeling
from keras_ssl.targets import PixelTarget
from keras_ssl.tokens import TransformerDecoder

# One sine-cosine code of the index of a cube, sines and cosines in turn.
POSITIONS = {"flat": True, "interleaved": True}


@register(
    paper="VideoMAE V2: Scaling Video Masked Autoencoders with Dual Masking",
    year=2023,
    family="masked modelling",
    modality="video",
    needs=("vision transformer",),
)
class VideoMAEV2(MaskedModeling):
    """Hides tubes of a video from the encoder, and half of the cubes from the decoder as well.

    The encoder sees a tenth of the cubes, the same places in every frame. Running cells decide
    which cubes are predicted; of those the hidden ones count. With `decode=None` all hidden ones
    are predicted, which is VideoMAE.

    Args:
        encoder: a `backbones.TokenTransformer` over videos `(frames, rows, columns, channels)`, in
            the paper cubes of `(2, 16, 16)`, without a class token, with
            `positions=VideoMAEV2.positions`.
        masking: share of hidden tubes, or a strategy of `masking`.
        decoder: `(width, depth, heads)`, or a layer.
        decode: share of cubes that are not predicted of every cell, a strategy whose visible cubes
            are, or None.
        target: a layer of `targets`; None for pixels standardised over each channel of a cube.
        **kwargs: `views`, `seed`, `name`, `dtype`.

    Raises:
        ValueError: for cells that do not tile the grid, or as `MaskedModeling`.

    Source: Wang et al., 2023, section 3.2; https://arxiv.org/abs/2303.16727; VideoMAE, Tong et
    al., 2022.

    Example:

    ```python
    tokenizer = tokens.PatchTokenizer((2, 16, 16), 384)
    encoder = backbones.TokenTransformer(
        tokenizer, (16, 224, 224, 3), 12, 6, class_token=False, positions=VideoMAEV2.positions
    )
    model = VideoMAEV2(encoder)
    ```
    """

    positions = POSITIONS

    def __init__(
        self,
        encoder: TokenTransformer,
        masking: float | keras.Layer = 0.9,
        decoder: Sequence[int] | keras.Layer = (384, 4, 6),
        decode: float | keras.Layer | None = 0.5,
        target: keras.Layer | None = None,
        **kwargs: Any,
    ):
        if isinstance(masking, float):
            masking = TubeMasking(masking)
        if isinstance(decode, float):
            decode = RunningCellMasking(decode)
        if not isinstance(decoder, keras.Layer):
            options = {"seed": kwargs.get("seed"), "dtype": kwargs.get("dtype")}
            decoder = TransformerDecoder(
                None, *decoder, positions=POSITIONS, embed_bias=False, **options
            )
        if target is None:
            target = PixelTarget(encoder.patch, normalize="channel", epsilon_inside=False)
        super().__init__(encoder, masking, decoder, target, decode=decode, **kwargs)
