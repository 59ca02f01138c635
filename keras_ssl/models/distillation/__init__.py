# SPDX-License-Identifier: Apache-2.0
"""Objectives that distil a slowly moving teacher over prototypes."""

from keras_ssl.models.distillation.dino import DINO

__all__ = ["DINO"]
