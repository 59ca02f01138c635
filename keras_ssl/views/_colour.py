# SPDX-License-Identifier: Apache-2.0
"""Colour arithmetic: luma, hue rotation, HSV, and the composition of a jitter into one matrix."""

import math

import numpy as np
from keras import ops

LUMA = (0.299, 0.587, 0.114)

# NTSC (FCC 1953) luma-chroma transform; its first row is LUMA.
_RGB_TO_YIQ = np.array(
    [
        [0.299, 0.587, 0.114],
        [0.59590059, -0.27455667, -0.32134392],
        [0.21153661, -0.52273617, 0.31119955],
    ],
    dtype="float32",
)
_YIQ_TO_RGB = np.linalg.inv(_RGB_TO_YIQ).astype("float32")


def luma_weights(channels):
    """Weights of the channels in the grey value.

    Args:
        channels: 1 or 3.

    Returns:
        A NumPy array of shape (channels,) that sums to 1.
    """
    return np.array(LUMA if channels == 3 else (1.0 / channels,) * channels, dtype="float32")


def grey(images):
    """Grey value of every pixel.

    Args:
        images: (B, H, W, C) float32.

    Returns:
        (B, H, W, 1) float32.
    """
    weights = luma_weights(images.shape[-1])
    return ops.sum(images * weights, axis=-1, keepdims=True)


def hue_matrix(turn):
    """Hue shift as a rotation of the chroma plane in YIQ, as NVIDIA DALI does it.

    Args:
        turn: (B,) float32, shift as a fraction of the colour circle.

    Returns:
        (B, 3, 3) float32 matrices that act on RGB columns.
    """
    angle = (2.0 * math.pi) * turn
    cos, sin = ops.cos(angle), ops.sin(angle)
    zero, one = ops.zeros_like(cos), ops.ones_like(cos)
    rotation = ops.stack([one, zero, zero, zero, cos, -sin, zero, sin, cos], axis=-1)
    rotation = ops.reshape(rotation, (-1, 3, 3))
    return ops.matmul(_YIQ_TO_RGB[None], ops.matmul(rotation, _RGB_TO_YIQ[None]))


def mix_channels(images, matrix, bias=None):
    """Applies one colour matrix per sample to every pixel.

    Args:
        images: (B, H, W, C) float32.
        matrix: (B, C, C) float32.
        bias: (B, C) float32 or None.

    Returns:
        (B, H, W, C) float32.
    """
    planes = [images[..., c] for c in range(images.shape[-1])]
    return ops.stack(mix_planes(planes, matrix, bias), axis=-1)


def mix_planes(planes, matrix, bias=None):
    """Applies one colour matrix per sample to planes.

    Args:
        planes: List of C tensors (B, H, W), float32.
        matrix: (B, C, C) float32.
        bias: (B, C) float32 or None.

    Returns:
        List of C tensors (B, H, W).
    """
    mixed = []
    for d in range(len(planes)):
        value = sum(plane * matrix[:, d, c, None, None] for c, plane in enumerate(planes))
        mixed.append(value if bias is None else value + bias[:, d, None, None])
    return mixed


def rgb_to_hsv(images):
    """RGB to hue, saturation and value, all in 0..1.

    Args:
        images: (B, H, W, 3) float32 in 0..1.

    Returns:
        Three tensors (B, H, W).
    """
    red, green, blue = images[..., 0], images[..., 1], images[..., 2]
    value = ops.maximum(ops.maximum(red, green), blue)
    chroma = value - ops.minimum(ops.minimum(red, green), blue)
    # The guarded divisor keeps grey pixels finite; their hue is 0 by convention.
    safe = ops.where(chroma > 0, chroma, 1.0)
    sixths = ops.where(
        value == red,
        (green - blue) / safe,
        ops.where(value == green, 2.0 + (blue - red) / safe, 4.0 + (red - green) / safe),
    )
    hue = ops.mod(sixths / 6.0, 1.0)
    saturation = chroma / ops.where(value > 0, value, 1.0)
    return ops.where(chroma > 0, hue, 0.0), saturation, value


def hsv_to_rgb(hue, saturation, value):
    """Inverse of `rgb_to_hsv`.

    Args:
        hue: (B, H, W) float32, fraction of the colour circle.
        saturation: (B, H, W) float32 in 0..1.
        value: (B, H, W) float32 in 0..1.

    Returns:
        (B, H, W, 3) float32.
    """
    channels = []
    for offset in (5.0, 3.0, 1.0):
        k = ops.mod(offset + hue * 6.0, 6.0)
        ramp = ops.clip(ops.minimum(k, 4.0 - k), 0.0, 1.0)
        channels.append(value - value * saturation * ramp)
    return ops.stack(channels, axis=-1)
