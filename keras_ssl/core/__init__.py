# SPDX-License-Identifier: Apache-2.0
"""The engine: the training step, teachers, replicas, and the catalogue of methods."""

from keras_ssl.core.loading import load_model
from keras_ssl.core.model import SSLModel
from keras_ssl.core.registry import find, methods, register
from keras_ssl.core.teacher import Teacher

__all__ = ["SSLModel", "Teacher", "find", "load_model", "methods", "register"]
