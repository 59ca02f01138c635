# SPDX-License-Identifier: Apache-2.0
"""Labelled quality of frozen representations: features first, then a probe on them."""

from keras_ssl.evaluation.features import extract_features
from keras_ssl.evaluation.knn import knn_accuracy, knn_scores
from keras_ssl.evaluation.probes import few_label_accuracy, linear_probe
from keras_ssl.evaluation.token_picture import patch_colours, token_picture

__all__ = [
    "extract_features",
    "few_label_accuracy",
    "knn_accuracy",
    "knn_scores",
    "linear_probe",
    "patch_colours",
    "token_picture",
]
