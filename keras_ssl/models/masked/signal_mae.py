# SPDX-License-Identifier: Apache-2.0
"""MAE on signals."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras

from keras_ssl.backbones import TokenTransformer
from keras_ssl.core import register
from keras_ssl.models.masked.mae import MAE


@register(
    paper="Masked Autoencoders Are Scalable Vision Learners",
    year=2021,
    family="masked modelling",
    modality="signal",
    needs=("signal transformer",),
)
class SignalMAE(MAE):
    """MAE on signals and time series, `(steps, channels)`, cut into pieces.

    There is no one paper of this: it is MAE with patches along one axis. Standardise signals over
    the data set. Raw values are the target by default, for the level of a piece is often what
    tells signals apart, and standardising each piece removes it.

    Args:
        encoder: a `backbones.TokenTransformer` over signals.
        masking: share of hidden pieces, or a strategy of `masking`, such as
            `masking.SpanMasking`.
        decoder: `(width, depth, heads)` of a `tokens.TransformerDecoder`, or a layer.
        target: `"pixels"` (raw values) or `"normalized"`, or a layer of `targets`.
        views: a layer that makes one view; None for none.
        **kwargs: other arguments of `MAE`.

    Raises:
        ValueError: as `MAE`.

    Source: He et al., 2021, section 3, on one axis.

    Example:

    ```python
    tokenizer = tokens.PatchTokenizer((8,), 96)
    encoder = backbones.TokenTransformer(tokenizer, (96, 1), depth=4, heads=3)
    model = SignalMAE(encoder, decoder=(64, 2, 4))
    ```
    """

    def __init__(
        self,
        encoder: TokenTransformer,
        masking: float | keras.Layer = 0.75,
        decoder: Sequence[int] | keras.Layer = (96, 2, 3),
        target: str | keras.Layer = "pixels",
        views: str | keras.Layer | None = None,
        **kwargs: Any,
    ):
        super().__init__(encoder, masking, decoder, target, views, **kwargs)
