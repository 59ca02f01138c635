# SPDX-License-Identifier: Apache-2.0
"""What a model of tokens sees and is made of: tokenizers, positions, transformer blocks."""

from keras_ssl.tokens._blocks import (
    DropPath,
    FeedForward,
    LayerScale,
    SelfAttention,
    TransformerBlock,
)
from keras_ssl.tokens._patches import PatchTokenizer, patchify, unpatchify
from keras_ssl.tokens._positions import (
    LearnedPositions,
    RotaryPositions,
    SinCosPositions,
    rotate,
)
from keras_ssl.tokens._sequence import MaskToken, PrefixTokens, gather_tokens
from keras_ssl.tokens._sincos import interpolate_positions, resize_matrix, sincos_table

__all__ = [
    "DropPath",
    "FeedForward",
    "LayerScale",
    "LearnedPositions",
    "MaskToken",
    "PatchTokenizer",
    "PrefixTokens",
    "RotaryPositions",
    "SelfAttention",
    "SinCosPositions",
    "TransformerBlock",
    "gather_tokens",
    "interpolate_positions",
    "patchify",
    "resize_matrix",
    "rotate",
    "sincos_table",
    "unpatchify",
]
