# SPDX-License-Identifier: Apache-2.0
"""Autoencoders that train by themselves."""

from keras_ssl.models.autoencoding.sparse_autoencoder import SparseAutoencoder

__all__ = ["SparseAutoencoder"]
