# SPDX-License-Identifier: Apache-2.0
"""Objectives that distil a slowly moving teacher over prototypes."""

from keras_ssl.models.distillation.dino import DINO
from keras_ssl.models.distillation.franca import Franca
from keras_ssl.models.distillation.ibot import IBOT
from keras_ssl.models.distillation.mmc import MMC

__all__ = ["DINO", "Franca", "IBOT", "MMC"]
