# SPDX-License-Identifier: Apache-2.0
"""Self-supervised learning in Keras: every objective is a `keras.Model` that trains with `fit`."""

from keras_ssl import (
    backbones,
    callbacks,
    core,
    data,
    evaluation,
    layers,
    losses,
    masking,
    metrics,
    models,
    optimizers,
    recipes,
    schedules,
    targets,
    tokens,
    views,
)
from keras_ssl.core import SSLModel, Teacher, load_model

__version__ = "0.1.0"

__all__ = [
    "SSLModel",
    "Teacher",
    "backbones",
    "callbacks",
    "core",
    "data",
    "evaluation",
    "layers",
    "load_model",
    "losses",
    "masking",
    "metrics",
    "models",
    "optimizers",
    "recipes",
    "schedules",
    "targets",
    "tokens",
    "views",
]
