# SPDX-License-Identifier: Apache-2.0
"""Objectives that assign images to prototypes."""

from keras_ssl.models.clustering.deepcluster_v2 import DeepClusterV2
from keras_ssl.models.clustering.swav import SwAV

__all__ = ["DeepClusterV2", "SwAV"]
