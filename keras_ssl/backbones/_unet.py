# SPDX-License-Identifier: Apache-2.0
"""A small U-Net, from image to image."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras

from keras_ssl.core.seeds import layer_seed


def UNet(
    input_shape: Sequence[int | None] = (32, 32, 3),
    widths: Sequence[int] = (32, 48, 64),
    *,
    outputs: int | None = None,
    seed: int | None = None,
    name: str = "unet",
) -> keras.Model:
    """Builds a network that gives an image for an image and sees fine detail and the whole.

    Every width is two 3x3 convolutions with leaky ReLUs; average pooling halves the sides between
    them. On the way back maps are doubled, joined with those of their size and convolved twice
    again. No batch norm: where it is trained on noise, the level of noise must not be normalised.

    Args:
        input_shape: `(height, width, channels)` of one image; sides may be None. Where they are
            known they must be multiples of 2 for every width but the first.
        widths: channels, from the full size down.
        outputs: channels of the result; None for those of the input.
        seed: integer that fixes initial weights; `None` draws from Keras's global seed.
        name: name of the model.

    Returns:
        A functional model from `(batch, height, width, channels)` floats to the same shape with
        `outputs` channels, linear at the end.

    Raises:
        ValueError: if the shape or the widths do not fit.

    Source: after the networks of Noise2Noise (Lehtinen et al., 2018), which Noise2Score takes over,
    smaller.

    Example:
        >>> UNet((28, 28, 1), (16, 32)).output_shape
        (None, 28, 28, 1)
    """
    *sides, channels = input_shape
    widths = tuple(widths)
    if not widths or min(widths) < 1 or not channels:
        raise ValueError(
            "UNet needs positive widths and a known number of channels; received "
            f"input_shape={tuple(input_shape)} and widths={widths}."
        )
    step = 2 ** (len(widths) - 1)
    if len(sides) != 2 or any(side is not None and side % step for side in sides):
        raise ValueError(
            f"UNet halves the sides {len(widths) - 1} times, so they must be multiples of {step}; "
            f"received input_shape={tuple(input_shape)}. Pad the images or give fewer widths."
        )
    count = 0

    def convolution(x: Any, filters: int, size: int = 3) -> Any:
        nonlocal count
        count += 1
        start = keras.initializers.HeNormal(seed=layer_seed(seed, count))
        return keras.layers.Conv2D(filters, size, padding="same", kernel_initializer=start)(x)

    def twice(x: Any, filters: int) -> Any:
        for _ in range(2):
            x = keras.layers.LeakyReLU(0.1)(convolution(x, filters))
        return x

    inputs = keras.Input((*sides, channels), name="images")
    x, maps = inputs, []
    for filters in widths[:-1]:
        x = twice(x, filters)
        maps.append(x)
        x = keras.layers.AveragePooling2D(2)(x)
    x = twice(x, widths[-1])
    for filters, skipped in zip(reversed(widths[:-1]), reversed(maps), strict=True):
        x = keras.layers.UpSampling2D()(x)
        x = twice(keras.layers.Concatenate()([x, skipped]), filters)
    # The noisy pixel itself takes the shortest way.
    x = keras.layers.Concatenate()([x, inputs])
    return keras.Model(inputs, convolution(x, outputs or channels, 1), name=name)
