# SPDX-License-Identifier: Apache-2.0
"""Autoencoders that train by themselves."""

from keras_ssl.models.autoencoding.noise2score import Noise2Score
from keras_ssl.models.autoencoding.sparse_autoencoder import SparseAutoencoder

__all__ = ["Noise2Score", "SparseAutoencoder"]
