# SPDX-License-Identifier: Apache-2.0
"""A small convolutional encoder for small images."""

from __future__ import annotations

from collections.abc import Sequence

import keras

from keras_ssl.core.seeds import layer_seed
from keras_ssl.layers._batch_norm import batch_norm


def ConvNet(
    input_shape: tuple[int, int, int] = (32, 32, 3),
    widths: Sequence[int] = (32, 64, 128),
    *,
    stem_stride: int = 1,
    synchronized: bool = True,
    seed: int | None = None,
    name: str = "convnet",
) -> keras.Model:
    """Builds a plain convolutional encoder: 3x3 convolution, batch norm, ReLU, halved in between.

    Args:
        input_shape: `(height, width, channels)` of one image.
        widths: Channels of the convolutions; between two of them the image is max-pooled by 2.
        stem_stride: Stride of the first convolution in pixels; 2 makes it four times cheaper.
        synchronized: Whether batch statistics are shared between replicas (TensorFlow).
        seed: Integer that fixes the initial weights; `None` draws them from Keras's global seed.
        name: Name of the model.

    Returns:
        A functional model from `(batch, height, width, channels)` floats to
        `(batch, widths[-1])`.

    Raises:
        ValueError: If the input is not an image shape, or too small to be halved that often.

    Example:
        >>> ConvNet((16, 16, 1)).output_shape
        (None, 128)
    """
    shape = checked_image_shape(input_shape)
    widths = tuple(widths)
    if not widths or any(width < 1 for width in widths):
        raise ValueError(f"widths must be positive channel counts, received {widths!r}.")
    if stem_stride < 1:
        raise ValueError(f"stem_stride must be at least 1, received {stem_stride}.")
    smallest = stem_stride * 2 ** (len(widths) - 1)
    if min(shape[:2]) < smallest:
        raise ValueError(
            f"images of {shape[0]}x{shape[1]} cannot be halved {len(widths) - 1} times after a "
            f"stem of stride {stem_stride}; give at least {smallest} pixels a side or fewer widths "
            f"than {widths}."
        )
    inputs = keras.Input(shape, name="images")
    x = inputs
    for index, width in enumerate(widths):
        if index:
            x = keras.layers.MaxPooling2D(2, name=f"halve_{index}")(x)
        x = keras.layers.Conv2D(
            width,
            3,
            strides=1 if index else stem_stride,
            padding="same",
            use_bias=False,
            kernel_initializer=keras.initializers.HeNormal(layer_seed(seed, index)),
            name=f"conv_{index + 1}",
        )(x)
        x = batch_norm(synchronized=synchronized, name=f"norm_{index + 1}")(x)
        x = keras.layers.ReLU(name=f"relu_{index + 1}")(x)
    x = keras.layers.GlobalAveragePooling2D(name="average")(x)
    return keras.Model(inputs, x, name=name)


def checked_image_shape(input_shape: Sequence[int]) -> tuple[int, int, int]:
    """Returns an image shape as a tuple, or says what it should have been.

    Args:
        input_shape: What should be `(height, width, channels)`.

    Returns:
        The three positive integers.

    Raises:
        ValueError: If it is not three positive integers.
    """
    try:
        shape = tuple(int(size) for size in input_shape)
    except TypeError:
        shape = ()
    if len(shape) != 3 or min(shape) < 1:
        raise ValueError(
            f"input_shape must be (height, width, channels) with positive integers, such as "
            f"(32, 32, 3); received {input_shape!r}. The batch is not part of it."
        )
    return shape[0], shape[1], shape[2]
