# SPDX-License-Identifier: Apache-2.0
"""Residual networks (He et al., 2016) for small images and for ImageNet."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import keras

from keras_ssl.backbones._convnet import checked_image_shape
from keras_ssl.core.seeds import layer_seed
from keras_ssl.layers._batch_norm import batch_norm

BLOCKS = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3)}
STEMS = ("small", "imagenet")


def ResNet(
    depth: int = 18,
    input_shape: tuple[int, int, int] = (32, 32, 3),
    stem: str = "small",
    *,
    width: int = 64,
    blocks: Sequence[int] | None = None,
    zero_init_residual: bool = True,
    synchronized: bool = True,
    seed: int | None = None,
    name: str | None = None,
) -> keras.Model:
    """Builds a residual network that ends in global average pooling.

    Deep Residual Learning for Image Recognition (He et al., 2016), with the stride of bottleneck
    blocks in the 3x3 convolution and symmetric padding, as in the published self-supervised
    codes. Layers are Keras's own, so the saved encoder loads without this package.

    Args:
        depth: 18 or 34 (two 3x3 convolutions a block) or 50 (bottleneck blocks).
        input_shape: `(height, width, channels)` of one image.
        stem: `"small"`: one 3x3 convolution, stride 1, no pooling (SimCLR, appendix B.9);
            `"imagenet"`: 7x7 convolution with stride 2, then 3x3 max-pooling with stride 2.
        width: Channels of the first stage; each later stage doubles them.
        blocks: Blocks in each stage; `None` takes the depth's own. `(1, 1, 1, 1)` is a network
            of four blocks.
        zero_init_residual: Whether the last batch norm of each block starts with scale 0, so
            that every block starts as the identity (Goyal et al., 2017).
        synchronized: Whether batch statistics are shared between replicas (TensorFlow).
        seed: Integer that fixes the initial weights; `None` draws them from Keras's global seed.
        name: Name of the model; `None` gives `resnet18`, `resnet34` or `resnet50`.

    Returns:
        A functional model from `(batch, height, width, channels)` floats to
        `(batch, features)`: features is 8 times `width`, for depth 50 32 times.

    Raises:
        ValueError: If an argument is not one of those listed.

    Example:
        >>> ResNet(18, (32, 32, 3), width=32, blocks=(1, 1, 1, 1)).output_shape
        (None, 256)
    """
    shape = checked_image_shape(input_shape)
    if depth not in BLOCKS:
        raise ValueError(f"depth must be one of {sorted(BLOCKS)}, received {depth!r}.")
    if stem not in STEMS:
        raise ValueError(
            f"stem must be one of {list(STEMS)}, received {stem!r}. 'small' suits images up to "
            "about 96 pixels a side."
        )
    stages = tuple(BLOCKS[depth] if blocks is None else blocks)
    if not stages or any(count < 1 for count in stages) or width < 1:
        raise ValueError(
            f"blocks must be positive counts, one for each stage, and width positive; received "
            f"blocks={blocks!r}, width={width!r}."
        )
    make = _Make(synchronized, zero_init_residual, seed)
    block: Callable[..., Any] = _bottleneck_block if depth >= 50 else _basic_block
    inputs = keras.Input(shape, name="images")
    x = _stem(make, inputs, stem, width)
    for stage, count in enumerate(stages):
        for index in range(count):
            stride = 2 if stage > 0 and index == 0 else 1
            prefix = f"stage{stage + 1}_block{index + 1}"
            x = block(make, x, width * 2**stage, stride, prefix)
    x = keras.layers.GlobalAveragePooling2D(name="average")(x)
    return keras.Model(inputs, x, name=name or f"resnet{depth}")


@dataclass
class _Make:
    """Makes layers that share their settings, each with a seed of its own."""

    synchronized: bool
    zero_init_residual: bool
    seed: int | None
    count: int = field(default=0)

    def conv(self, x: Any, width: int, size: int, stride: int, name: str) -> Any:
        """Convolution without bias, padded alike on both sides also when strided."""
        self.count += 1
        if stride > 1 and size > 1:
            x = keras.layers.ZeroPadding2D(size // 2, name=f"{name}_pad")(x)
            padding = "valid"
        else:
            padding = "same"
        return keras.layers.Conv2D(
            width,
            size,
            strides=stride,
            padding=padding,
            use_bias=False,
            kernel_initializer=keras.initializers.HeNormal(layer_seed(self.seed, self.count)),
            name=name,
        )(x)

    def norm(self, x: Any, name: str, last: bool = False) -> Any:
        """Batch normalization; the last of a residual branch may start at zero."""
        gamma = "zeros" if last and self.zero_init_residual else "ones"
        return batch_norm(synchronized=self.synchronized, gamma_initializer=gamma, name=name)(x)


def _relu(x: Any, name: str) -> Any:
    return keras.layers.ReLU(name=name)(x)


def _stem(make: _Make, x: Any, stem: str, width: int) -> Any:
    size, stride = (3, 1) if stem == "small" else (7, 2)
    x = make.conv(x, width, size, stride, "stem_conv")
    x = _relu(make.norm(x, "stem_norm"), "stem_relu")
    if stem == "imagenet":
        # After a ReLU, padding with zeros is the same as padding with minus infinity.
        x = keras.layers.ZeroPadding2D(1, name="stem_pool_pad")(x)
        x = keras.layers.MaxPooling2D(3, 2, name="stem_pool")(x)
    return x


def _shortcut(make: _Make, x: Any, width: int, stride: int, prefix: str) -> Any:
    if stride == 1 and x.shape[-1] == width:
        return x
    x = make.conv(x, width, 1, stride, f"{prefix}_shortcut_conv")
    return make.norm(x, f"{prefix}_shortcut_norm")


def _basic_block(make: _Make, x: Any, width: int, stride: int, prefix: str) -> Any:
    shortcut = _shortcut(make, x, width, stride, prefix)
    y = make.conv(x, width, 3, stride, f"{prefix}_conv1")
    y = _relu(make.norm(y, f"{prefix}_norm1"), f"{prefix}_relu1")
    y = make.norm(make.conv(y, width, 3, 1, f"{prefix}_conv2"), f"{prefix}_norm2", last=True)
    return _relu(keras.layers.Add(name=f"{prefix}_add")([shortcut, y]), f"{prefix}_relu2")


def _bottleneck_block(make: _Make, x: Any, width: int, stride: int, prefix: str) -> Any:
    shortcut = _shortcut(make, x, 4 * width, stride, prefix)
    y = make.conv(x, width, 1, 1, f"{prefix}_conv1")
    y = _relu(make.norm(y, f"{prefix}_norm1"), f"{prefix}_relu1")
    y = make.conv(y, width, 3, stride, f"{prefix}_conv2")
    y = _relu(make.norm(y, f"{prefix}_norm2"), f"{prefix}_relu2")
    y = make.norm(make.conv(y, 4 * width, 1, 1, f"{prefix}_conv3"), f"{prefix}_norm3", last=True)
    return _relu(keras.layers.Add(name=f"{prefix}_add")([shortcut, y]), f"{prefix}_relu3")
