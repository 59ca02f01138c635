# SPDX-License-Identifier: Apache-2.0
"""Optimizers of the field, with decay rules that survive saving and weight decay that may ramp."""

from keras_ssl.optimizers.adamw import AdamW
from keras_ssl.optimizers.exclude import exclude_norm_and_bias
from keras_ssl.optimizers.lars import LARS
from keras_ssl.optimizers.partly_constant import PartlyConstantSGD
from keras_ssl.optimizers.sgd import SGD

__all__ = ["AdamW", "LARS", "PartlyConstantSGD", "SGD", "exclude_norm_and_bias"]
