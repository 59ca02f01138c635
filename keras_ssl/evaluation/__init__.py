# SPDX-License-Identifier: Apache-2.0
"""Labelled quality of frozen representations: features first, then a probe on them."""

from keras_ssl.evaluation.features import extract_features
from keras_ssl.evaluation.knn import knn_accuracy, knn_scores
from keras_ssl.evaluation.objects import object_similarity, patch_labels, prompt_iou
from keras_ssl.evaluation.probes import few_label_accuracy, linear_probe
from keras_ssl.evaluation.prompts import (
    patch_tokens,
    prompt_picture,
    prompt_segmentation,
    prompt_similarity,
)
from keras_ssl.evaluation.token_picture import patch_colours, token_picture

__all__ = [
    "extract_features",
    "few_label_accuracy",
    "knn_accuracy",
    "knn_scores",
    "linear_probe",
    "object_similarity",
    "patch_colours",
    "patch_labels",
    "patch_tokens",
    "prompt_iou",
    "prompt_picture",
    "prompt_segmentation",
    "prompt_similarity",
    "token_picture",
]
