# SPDX-License-Identifier: Apache-2.0
"""What a masked model predicts: pixels, gradients, a teacher's features, codes, places."""

from keras_ssl.targets._codes import CodeTarget, PatchCodeTarget
from keras_ssl.targets._embeddings import EmbeddingTarget
from keras_ssl.targets._gradients import GradientTarget, sobel
from keras_ssl.targets._hog import HOGTarget
from keras_ssl.targets._labels import PositionTarget, RotationTarget
from keras_ssl.targets._pixels import PixelTarget
from keras_ssl.targets._ratio_gradients import RatioGradientTarget, ratio_gradient
from keras_ssl.targets._target import PatchTarget, Target
from keras_ssl.targets._teacher_features import (
    TeacherFeatureTarget,
    standardized,
    token_transformer,
)

__all__ = [
    "CodeTarget",
    "EmbeddingTarget",
    "GradientTarget",
    "HOGTarget",
    "PatchCodeTarget",
    "PatchTarget",
    "PixelTarget",
    "PositionTarget",
    "RatioGradientTarget",
    "RotationTarget",
    "Target",
    "TeacherFeatureTarget",
    "ratio_gradient",
    "sobel",
    "standardized",
    "token_transformer",
]
