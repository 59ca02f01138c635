# SPDX-License-Identifier: Apache-2.0
"""LV-MAE."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras

from keras_ssl.backbones import TokenTransformer
from keras_ssl.core import register
from keras_ssl.masking import (
    GuidedMasking,
    RandomMasking,
    decode_part,
    only_real,
    predecessor_similarity,
)
from keras_ssl.models.masked.engine import MaskedModeling
from keras_ssl.targets import EmbeddingTarget


@register(
    paper="LV-MAE: Learning Long Video Representations through Masked-Embedding Autoencoders",
    year=2025,
    family="masked modelling",
    modality="sequence of embeddings",
    needs=("sequence transformer",),
)
class LVMAE(MaskedModeling):
    """Hides embeddings of the segments of a long video and predicts them from the others.

    Samples are sequences of vectors of a frozen model, `(length, features)`, or where lengths
    differ `{"vectors": (B, N, F), "real": (B, N)}` padded to N. Of every video the same share of
    its own segments is hidden; padding is neither seen nor predicted.

    Args:
        encoder: a `backbones.TokenTransformer` over a `tokens.EmbeddingTokenizer`.
        masking: share of hidden segments, or a strategy of `masking`.
        decoder: `(width, depth, heads)` of a `tokens.TransformerDecoder`, or a layer.
        loss: of an embedding, `"cosine"` or `"l2"`.
        importance: whether the segments that differ most from the one before stay visible, in
            place of random ones; the first counts as one of similarity 0.
        target: a layer of `targets`; None for the vectors themselves.
        **kwargs: `seed`, `name`, `dtype`.

    Raises:
        ValueError: as `MaskedModeling`.

    Source: Naiman et al., 2025, section 3; https://arxiv.org/abs/2504.03501.

    Example:

    ```python
    tokenizer = tokens.EmbeddingTokenizer(512)
    shapes = {"vectors": (256, 1024), "real": (256,)}
    encoder = backbones.TokenTransformer(tokenizer, shapes, depth=12, heads=8)
    model = LVMAE(encoder, importance=True)
    ```
    """

    def __init__(
        self,
        encoder: TokenTransformer,
        masking: float | keras.Layer = 0.5,
        decoder: Sequence[int] | keras.Layer = (512, 8, 16),
        loss: str = "cosine",
        importance: bool = False,
        target: keras.Layer | None = None,
        **kwargs: Any,
    ):
        self.importance = importance
        if isinstance(masking, float):
            guided = GuidedMasking(predecessor_similarity, masking, "low") if importance else None
            masking = guided or RandomMasking(masking)
        super().__init__(encoder, masking, decoder, target or EmbeddingTarget(), loss, **kwargs)

    def draw_plan(self, inputs: Any, encoder: TokenTransformer) -> Any:
        """Which segments are hidden, of each sample's own."""
        plan = super().draw_plan(inputs, encoder)
        if not isinstance(inputs, dict):
            return plan
        plan = only_real(plan, inputs["real"], self.masking.ratio, self.masking.rounding)
        return decode_part(plan, self.decode) if isinstance(self.decode, float) else plan
