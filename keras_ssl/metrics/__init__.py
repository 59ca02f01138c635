# SPDX-License-Identifier: Apache-2.0
"""Label-free quality of embeddings: functions of a matrix of rows, nothing to train."""

from keras_ssl.metrics.alignment_uniformity import alignment, uniformity
from keras_ssl.metrics.rank_me import rank_me
from keras_ssl.metrics.spread import feature_std, mean_cosine

__all__ = ["alignment", "feature_std", "mean_cosine", "rank_me", "uniformity"]
