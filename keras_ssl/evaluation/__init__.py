# SPDX-License-Identifier: Apache-2.0
"""Labelled quality: features of a frozen encoder with a probe on them, and fine-tuning."""

from keras_ssl.evaluation._fine_tune_recipe import FINE_TUNE_RECIPES, FineTuneRecipe
from keras_ssl.evaluation.clusters import ClusterScores, cluster_scores
from keras_ssl.evaluation.comparison import Comparison, compare
from keras_ssl.evaluation.deep_linear import (
    deep_linear_end,
    deep_linear_learning,
    deep_linear_start,
)
from keras_ssl.evaluation.features import extract_features
from keras_ssl.evaluation.fine_tune import FineTuned, fine_tune
from keras_ssl.evaluation.knn import knn_accuracy, knn_scores
from keras_ssl.evaluation.layers import (
    LayerProbe,
    last_blocks_features,
    layer_encoder,
    layer_features,
    layer_probe,
)
from keras_ssl.evaluation.map_picture import map_picture, map_points
from keras_ssl.evaluation.neighbour_picture import neighbour_picture
from keras_ssl.evaluation.objects import object_similarity, patch_labels, prompt_iou
from keras_ssl.evaluation.preprocessing import preprocessing_of, with_preprocessing
from keras_ssl.evaluation.probes import few_label_accuracy, linear_probe
from keras_ssl.evaluation.prompts import (
    patch_tokens,
    prompt_picture,
    prompt_segmentation,
    prompt_similarity,
)
from keras_ssl.evaluation.prototype_picture import prototype_picture
from keras_ssl.evaluation.reconstruction_picture import reconstruction_picture
from keras_ssl.evaluation.retrieval import RetrievalScores, retrieval_scores
from keras_ssl.evaluation.subsets import labelled_subset
from keras_ssl.evaluation.swept_probe import SweptProbe, swept_linear_probe
from keras_ssl.evaluation.token_picture import patch_colours, token_picture
from keras_ssl.evaluation.token_probes import TokenProbe, attentive_probe, prototypical_probe

__all__ = [
    "ClusterScores",
    "Comparison",
    "FINE_TUNE_RECIPES",
    "FineTuneRecipe",
    "FineTuned",
    "LayerProbe",
    "RetrievalScores",
    "SweptProbe",
    "TokenProbe",
    "attentive_probe",
    "cluster_scores",
    "compare",
    "deep_linear_end",
    "deep_linear_learning",
    "deep_linear_start",
    "extract_features",
    "few_label_accuracy",
    "fine_tune",
    "knn_accuracy",
    "knn_scores",
    "labelled_subset",
    "last_blocks_features",
    "layer_encoder",
    "layer_features",
    "layer_probe",
    "linear_probe",
    "map_picture",
    "map_points",
    "neighbour_picture",
    "object_similarity",
    "patch_colours",
    "patch_labels",
    "patch_tokens",
    "preprocessing_of",
    "prompt_iou",
    "prompt_picture",
    "prompt_segmentation",
    "prompt_similarity",
    "prototype_picture",
    "prototypical_probe",
    "reconstruction_picture",
    "retrieval_scores",
    "swept_linear_probe",
    "token_picture",
    "with_preprocessing",
]
