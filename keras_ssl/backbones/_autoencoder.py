# SPDX-License-Identifier: Apache-2.0
"""A convolutional denoising autoencoder."""

from __future__ import annotations

from collections.abc import Sequence

import keras

from keras_ssl.backbones._convnet import checked_image_shape
from keras_ssl.core.seeds import layer_seed


def DenoisingAutoencoder(
    input_shape: tuple[int, int, int] = (32, 32, 3),
    widths: Sequence[int] = (32, 64, 128),
    *,
    noise: float = 0.01,
    seed: int | None = None,
    name: str = "denoising_autoencoder",
) -> keras.Model:
    """Builds an autoencoder that is shown noisy images and gives the clean ones.

    Each width is a 3x3 convolution, batch norm, ReLU and a halving by max-pooling; the decoder
    mirrors them. The output of the layer named `"bottleneck"`, averaged over space, is the code
    by which G-SimCLR (Chakraborty et al., 2020) clusters images.

    Args:
        input_shape: `(height, width, channels)` of one image.
        widths: Channels of the encoder's convolutions.
        noise: Standard deviation of the Gaussian noise on images in 0..1; training only.
        seed: Integer that fixes initial weights and noise; `None` draws from Keras's global seed.
        name: Name of the model.

    Returns:
        A functional model from `(batch, height, width, channels)` floats in 0..1 to
        reconstructions of that shape.

    Raises:
        ValueError: If the shape or the widths are not positive.

    Example:
        >>> DenoisingAutoencoder((28, 28, 1)).get_layer("bottleneck").output.shape
        (None, 4, 4, 128)
    """
    height, width, channels = checked_image_shape(input_shape)
    widths = tuple(widths)
    if not widths or min(widths) < 1:
        raise ValueError(f"widths must be positive counts of channels; received {widths}.")

    def convolution(x, filters, index):
        start = keras.initializers.GlorotUniform(seed=layer_seed(seed, index))
        x = keras.layers.Conv2D(filters, 3, padding="same", kernel_initializer=start)(x)
        return keras.layers.ReLU()(keras.layers.BatchNormalization()(x))

    inputs = keras.Input((height, width, channels), name="images")
    x = keras.layers.GaussianNoise(noise, seed=layer_seed(seed, 100))(inputs)
    for index, filters in enumerate(widths):
        role = "bottleneck" if index == len(widths) - 1 else f"pool_{index + 1}"
        x = convolution(x, filters, index)
        x = keras.layers.MaxPooling2D(padding="same", name=role)(x)
    for index, filters in enumerate(reversed(widths)):
        x = convolution(keras.layers.UpSampling2D()(x), filters, len(widths) + index)
    last = keras.initializers.GlorotUniform(seed=layer_seed(seed, 2 * len(widths)))
    x = keras.layers.Conv2D(
        channels, 3, padding="same", activation="sigmoid", kernel_initializer=last
    )(x)
    # Halving rounds up, so sides that are no multiple come back a little larger.
    extra = (x.shape[1] - height, x.shape[2] - width)
    x = keras.layers.Cropping2D(((0, extra[0]), (0, extra[1])), name="reconstruction")(x)
    return keras.Model(inputs, x, name=name)
