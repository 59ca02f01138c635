# SPDX-License-Identifier: Apache-2.0
"""Objectives that assign images to prototypes."""

from keras_ssl.models.clustering.swav import SwAV

__all__ = ["SwAV"]
