# SPDX-License-Identifier: Apache-2.0
"""Encoders by name."""

from __future__ import annotations

import difflib
from typing import Any

import keras

from keras_ssl.backbones._adapters import from_keras_applications
from keras_ssl.backbones._convnet import ConvNet, checked_image_shape
from keras_ssl.backbones._resnet import BLOCKS, ResNet
from keras_ssl.backbones._vision_transformer import SIZES, VisionTransformer

APPLICATIONS = "applications:"
SMALL_IMAGE = 96


def names() -> list[str]:
    """Returns the names that `get` knows, `applications:NAME` aside."""
    residual = [f"resnet{depth}" for depth in BLOCKS]
    return ["convnet", *residual, *(f"vit_{size}" for size in SIZES)]


def get(name: str, input_shape: tuple[int, int, int] = (32, 32, 3), **options: Any) -> keras.Model:
    """Builds an encoder by its name.

    Args:
        name: `"convnet"`, `"resnet18"`, `"resnet34"`, `"resnet50"`, `"vit_tiny"`, `"vit_small"`,
            `"vit_base"`, `"vit_large"`, or `"applications:NAME"` for a network of
            `keras.applications`, such as `"applications:MobileNetV2"`.
        input_shape: `(height, width, channels)` of one image.
        **options: Arguments of the builder, such as `width=32` or `seed=0`. A ResNet's `stem` is
            the small one up to 96 pixels a side unless it is given, a ViT's `patch` 4 instead of
            16.

    Returns:
        A model from images to `(batch, features)`.

    Raises:
        ValueError: If the name is unknown; the nearest names are shown.

    Example:
        >>> get("resnet18", (32, 32, 3), width=16).output_shape
        (None, 128)
    """
    key = str(name).lower()
    if key.startswith(APPLICATIONS):
        return from_keras_applications(name[len(APPLICATIONS) :], input_shape, **options)
    if key == "convnet":
        return ConvNet(input_shape, **options)
    if key in names():
        side = max(checked_image_shape(input_shape)[:2])
        if key.startswith("vit_"):
            options.setdefault("patch", 4 if side <= SMALL_IMAGE else 16)
            return VisionTransformer(key.removeprefix("vit_"), input_shape, **options)
        options.setdefault("stem", "small" if side <= SMALL_IMAGE else "imagenet")
        return ResNet(int(key.removeprefix("resnet")), input_shape, **options)
    near = difflib.get_close_matches(key, names(), n=3, cutoff=0.4) or names()
    raise ValueError(
        f"unknown backbone {name!r}. Nearest: {', '.join(near)}. Known: {', '.join(names())}, or "
        "applications:NAME for a network of keras.applications."
    )
