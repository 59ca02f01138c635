# SPDX-License-Identifier: Apache-2.0
"""Encoders: convolutional and residual networks, transformers, adapters to other libraries."""

from keras_ssl.backbones._adapters import from_keras_applications, from_keras_cv
from keras_ssl.backbones._autoencoder import DenoisingAutoencoder
from keras_ssl.backbones._convnet import ConvNet
from keras_ssl.backbones._get import get, names
from keras_ssl.backbones._resnet import ResNet
from keras_ssl.backbones._token_transformer import TokenTransformer
from keras_ssl.backbones._unet import UNet
from keras_ssl.backbones._vision_transformer import VisionTransformer

__all__ = [
    "ConvNet",
    "DenoisingAutoencoder",
    "ResNet",
    "TokenTransformer",
    "UNet",
    "VisionTransformer",
    "from_keras_applications",
    "from_keras_cv",
    "get",
    "names",
]
