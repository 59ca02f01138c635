# SPDX-License-Identifier: Apache-2.0
"""Optimizers of the field, with decay rules that survive saving and weight decay that may ramp."""

from keras_ssl.optimizers.adamw import AdamW
from keras_ssl.optimizers.exclude import exclude_norm_and_bias
from keras_ssl.optimizers.lamb import LAMB
from keras_ssl.optimizers.lars import LARS
from keras_ssl.optimizers.layer_decay import decay_of_layer, layer_decay_scales
from keras_ssl.optimizers.partly_constant import PartlyConstantSGD
from keras_ssl.optimizers.sgd import SGD

__all__ = [
    "AdamW",
    "LAMB",
    "LARS",
    "PartlyConstantSGD",
    "SGD",
    "decay_of_layer",
    "exclude_norm_and_bias",
    "layer_decay_scales",
]
