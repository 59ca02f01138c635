# SPDX-License-Identifier: Apache-2.0
"""What a joint-embedding model sees: batched, compiled augmentation, per sample and per view."""

from keras_ssl.views._transform import Transform
from keras_ssl.views.colour import (
    ColorJitter,
    GaussianNoise,
    Grayscale,
    Normalize,
    Solarize,
)
from keras_ssl.views.geometry import (
    Affine,
    GaussianBlur,
    HorizontalFlip,
    RandomResizedCrop,
    Rotate,
)
from keras_ssl.views.known import SequenceWithParameters, WithParameters
from keras_ssl.views.label_augmentation import LabelAugmentation, quarter_turns
from keras_ssl.views.multi import MultiCrop, Nested, TwoViews
from keras_ssl.views.pipeline import Pipeline
from keras_ssl.views.preprocessing import Preprocessing
from keras_ssl.views.show import show
from keras_ssl.views.styles import BatchStylesStandardization
from keras_ssl.views.tables import get
from keras_ssl.views.wrap import Wrap

__all__ = [
    "Affine",
    "BatchStylesStandardization",
    "ColorJitter",
    "GaussianBlur",
    "GaussianNoise",
    "Grayscale",
    "HorizontalFlip",
    "LabelAugmentation",
    "MultiCrop",
    "Nested",
    "Normalize",
    "Pipeline",
    "Preprocessing",
    "RandomResizedCrop",
    "Rotate",
    "SequenceWithParameters",
    "Solarize",
    "Transform",
    "TwoViews",
    "WithParameters",
    "Wrap",
    "get",
    "quarter_turns",
    "show",
]
