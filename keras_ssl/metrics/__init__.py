# SPDX-License-Identifier: Apache-2.0
"""Label-free quality of embeddings and dictionaries: functions of rows, nothing to train."""

from keras_ssl.metrics.alignment_uniformity import alignment, uniformity
from keras_ssl.metrics.dictionary import (
    active_latents,
    dead_fraction,
    explained_variance,
    loss_recovered,
    mean_max_cosine,
)
from keras_ssl.metrics.rank_me import rank_me
from keras_ssl.metrics.spread import feature_std, mean_cosine

__all__ = [
    "active_latents",
    "alignment",
    "dead_fraction",
    "explained_variance",
    "feature_std",
    "loss_recovered",
    "mean_cosine",
    "mean_max_cosine",
    "rank_me",
    "uniformity",
]
