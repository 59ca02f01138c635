# SPDX-License-Identifier: Apache-2.0
"""Label-free quality of embeddings and dictionaries: functions of rows, nothing to train."""

from keras_ssl.metrics.alignment_uniformity import (
    Alignment,
    Uniformity,
    alignment,
    uniformity,
)
from keras_ssl.metrics.alpha_req import AlphaReQ, PowerLaw, alpha_req, power_law
from keras_ssl.metrics.dictionary import (
    active_latents,
    dead_fraction,
    explained_variance,
    loss_recovered,
    mean_max_cosine,
)
from keras_ssl.metrics.lidar import LiDAR, lidar, lidar_spectrum
from keras_ssl.metrics.rank_me import RankMe, rank_me
from keras_ssl.metrics.spectrum import show_spectrum, singular_spectrum
from keras_ssl.metrics.spread import feature_std, mean_cosine

__all__ = [
    "Alignment",
    "AlphaReQ",
    "LiDAR",
    "PowerLaw",
    "RankMe",
    "Uniformity",
    "active_latents",
    "alignment",
    "alpha_req",
    "dead_fraction",
    "explained_variance",
    "feature_std",
    "lidar",
    "lidar_spectrum",
    "loss_recovered",
    "mean_cosine",
    "mean_max_cosine",
    "power_law",
    "rank_me",
    "show_spectrum",
    "singular_spectrum",
    "uniformity",
]
