# SPDX-License-Identifier: Apache-2.0
"""What a model of tokens sees and is made of: tokenizers, positions, transformer blocks."""

from keras_ssl.tokens._aggregator import SequenceAggregator
from keras_ssl.tokens._attentive import AttentivePooling
from keras_ssl.tokens._blocks import FeedForward, SelfAttention, TransformerBlock
from keras_ssl.tokens._branches import Dropout, DropPath, LayerScale
from keras_ssl.tokens._chunk import ActionChunkDecoder, FutureChunkPredictor
from keras_ssl.tokens._cross import CrossAttention, CrossSelfBlock, CrossSelfDecoder, PostNormBlock
from keras_ssl.tokens._decoder import MLPDecoder, TransformerDecoder, attended
from keras_ssl.tokens._features import EmbeddingTokenizer, FeatureTokenizer
from keras_ssl.tokens._latent import LatentDecoder, LatentRegressor, RegressorBlock
from keras_ssl.tokens._patches import PatchTokenizer, patchify, spread, unpatchify
from keras_ssl.tokens._positions import (
    LearnedPositions,
    RotaryPositions,
    SinCosPositions,
    angles_at,
    rotate,
)
from keras_ssl.tokens._predictor import LatentPredictor
from keras_ssl.tokens._recordings import RecordingTokenizer
from keras_ssl.tokens._sequence import (
    DistillationToken,
    MaskToken,
    PrefixTokens,
    front_and_patches,
    gather_tokens,
    tokens_at,
)
from keras_ssl.tokens._sincos import interpolate_positions, resize_matrix, sincos_table

__all__ = [
    "ActionChunkDecoder",
    "AttentivePooling",
    "CrossAttention",
    "CrossSelfBlock",
    "CrossSelfDecoder",
    "DistillationToken",
    "DropPath",
    "Dropout",
    "EmbeddingTokenizer",
    "FeatureTokenizer",
    "FeedForward",
    "FutureChunkPredictor",
    "LatentDecoder",
    "LatentPredictor",
    "LatentRegressor",
    "LayerScale",
    "LearnedPositions",
    "MLPDecoder",
    "MaskToken",
    "PatchTokenizer",
    "PostNormBlock",
    "PrefixTokens",
    "RecordingTokenizer",
    "RegressorBlock",
    "RotaryPositions",
    "SelfAttention",
    "SequenceAggregator",
    "SinCosPositions",
    "TransformerBlock",
    "TransformerDecoder",
    "angles_at",
    "attended",
    "front_and_patches",
    "gather_tokens",
    "interpolate_positions",
    "patchify",
    "resize_matrix",
    "rotate",
    "sincos_table",
    "spread",
    "tokens_at",
    "unpatchify",
]
