# SPDX-License-Identifier: Apache-2.0
"""Vectors that were given."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import keras
from keras import ops

from keras_ssl.targets._target import Target


@keras.saving.register_keras_serializable(package="keras_ssl")
class EmbeddingTarget(Target):
    """The vectors of a sequence themselves, of samples that are embeddings of another model.

    Args:
        **kwargs: `name` and other arguments of `keras.layers.Layer`.

    Call: `(B, N, F)`, or `{"vectors": (B, N, F), …}` as `tokens.EmbeddingTokenizer` takes them →
    float32 `(B, N, F)`, without gradient.

    Source: LV-MAE, Naiman et al. 2025, section 3.

    Example:
        >>> EmbeddingTarget()(keras.ops.ones((2, 16, 8))).shape
        (2, 16, 8)
    """

    def call(self, inputs: Any) -> Any:
        """The vectors."""
        return ops.stop_gradient(ops.cast(_vectors(inputs), "float32"))

    def compute_output_shape(self, input_shape: Any) -> Any:
        """`(B, N, F)`."""
        return tuple(_vectors(input_shape))


def _vectors(samples: Any) -> Any:
    return samples["vectors"] if isinstance(samples, Mapping) else samples
