# SPDX-License-Identifier: Apache-2.0
"""Reusable Keras layers and model surgery: heads, batch normalization, encoders."""

from keras_ssl.layers._batch_norm import (
    batch_norm,
    synchronize_batch_norm,
    unsynchronized_batch_norms,
)
from keras_ssl.layers._encoder import as_encoder
from keras_ssl.layers._mlp import MLP

__all__ = [
    "MLP",
    "as_encoder",
    "batch_norm",
    "synchronize_batch_norm",
    "unsynchronized_batch_norms",
]
