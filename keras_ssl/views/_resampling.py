# SPDX-License-Identifier: Apache-2.0
"""Resampling and blurring as linear maps: dense matrices for small images, bands for large ones."""

import math

from keras import ops


def triangle(distance):
    """Linear interpolation kernel.

    Args:
        distance: Distances in (scaled) pixels, float32 of any shape.

    Returns:
        Weights of the same shape, zero from distance 1 on.
    """
    return ops.relu(1.0 - ops.abs(distance))


def cubic(distance):
    """Keys' cubic convolution kernel with a = -0.5, the one PIL calls bicubic (Keys, 1981).

    Args:
        distance: Distances in (scaled) pixels, float32 of any shape.

    Returns:
        Weights of the same shape, zero from distance 2 on.
    """
    x = ops.minimum(ops.abs(distance), 2.0)
    near = (1.5 * x - 2.5) * x * x + 1.0
    far = ((-0.5 * x + 2.5) * x - 4.0) * x + 2.0
    return ops.where(x < 1.0, near, far)


KERNELS = {"bilinear": (triangle, 1.0), "bicubic": (cubic, 2.0)}


def sample_centres(start, extent, out):
    """Where the centre of every output pixel lies on the input axis.

    Args:
        start: (B,) float32, first edge of the box, in input pixels.
        extent: (B,) float32, length of the box, in input pixels.
        out: Number of output pixels.

    Returns:
        (B, out) float32 positions; 0 is the centre of the first input pixel.
    """
    steps = ops.arange(out, dtype="float32") + 0.5
    return start[:, None] + steps[None] * (extent / out)[:, None] - 0.5


def crop_matrix(start, extent, out, size, interpolation="bilinear", confine=False):
    """Antialiased resampling of a box of one axis, as a matrix per sample.

    Args:
        start: (B,) float32, first edge of the box, in input pixels.
        extent: (B,) float32, length of the box, in input pixels.
        out: Number of output pixels.
        size: Number of input pixels.
        interpolation: "bilinear" or "bicubic"; the kernel widens by the scale when it shrinks.
        confine: Use pixels inside the box only, as PIL does after cropping.

    Returns:
        (B, out, size) float32, every row sums to 1.
    """
    kernel, _ = KERNELS[interpolation]
    centres = sample_centres(start, extent, out)
    widen = ops.maximum(extent / out, 1.0)[:, None, None]
    pixels = ops.arange(size, dtype="float32")[None, None]
    weights = kernel((pixels - centres[:, :, None]) / widen)
    if confine:
        first, last = start[:, None, None], (start + extent)[:, None, None]
        inside = ops.logical_and(pixels >= first - 1e-3, pixels < last - 1e-3)
        weights = ops.where(inside, weights, 0.0)
    return weights / ops.sum(weights, axis=-1, keepdims=True)


def shift_matrix(scale, shift, size, fill="constant"):
    """Magnification about the centre and translation of one axis, bilinear, as a matrix per sample.

    Args:
        scale: (B,) float32 magnification.
        shift: (B,) float32 displacement in pixels.
        size: Number of pixels of the axis.
        fill: "constant" (zero outside) or "nearest".

    Returns:
        (B, size, size) float32.
    """
    middle = (size - 1) / 2.0
    pixels = ops.arange(size, dtype="float32")
    source = (pixels[None] - middle - shift[:, None]) / scale[:, None] + middle
    if fill == "nearest":
        source = ops.clip(source, 0.0, size - 1.0)
    return triangle(pixels[None, None] - source[:, :, None])


def gaussian_weights(sigma, radius):
    """Normalised Gaussian taps.

    Args:
        sigma: (B,) float32 standard deviations in pixels, positive.
        radius: Taps on either side of the centre.

    Returns:
        (B, 2 * radius + 1) float32, every row sums to 1.
    """
    taps = ops.arange(-radius, radius + 1, dtype="float32")[None]
    weights = ops.exp(-0.5 * ops.square(taps / sigma[:, None]))
    return weights / ops.sum(weights, axis=-1, keepdims=True)


def blur_matrix(weights, size):
    """The blur of one axis with its edge pixels repeated, as a matrix per sample.

    Args:
        weights: (B, taps) float32, an odd number of taps.
        size: Number of pixels of the axis.

    Returns:
        (B, size, size) float32, every row sums to the sum of the taps.
    """
    taps = weights.shape[-1]
    radius = taps // 2
    pixels = ops.arange(size, dtype="int32")
    offsets = ops.arange(-radius, radius + 1, dtype="int32")
    source = ops.clip(pixels[None] + offsets[:, None], 0, size - 1)
    table = ops.cast(source[:, :, None] == pixels[None, None], "float32")
    matrix = ops.matmul(weights, ops.reshape(table, (taps, size * size)))
    return ops.reshape(matrix, (-1, size, size))


def blur_separable(images, weights):
    """Blurs both axes by shifted sums, edge pixels repeated.

    Args:
        images: (B, H, W, C) float32.
        weights: (B, taps) float32, an odd number of taps.

    Returns:
        (B, H, W, C) float32.
    """
    return blur_pass(blur_pass(images, weights, 1), weights, 2)


def blur_pass(images, weights, axis):
    """Blurs one axis by shifted sums, edge pixels repeated.

    Args:
        images: (B, H, W, C) float32.
        weights: (B, taps) float32, an odd number of taps.
        axis: 1 for the rows, 2 for the columns.

    Returns:
        (B, H, W, C) float32.
    """
    size, taps = images.shape[axis], weights.shape[-1]
    weights = weights[:, :, None, None, None]
    wide = repeat_edges(images, taps // 2, axis)
    if axis == 1:
        return sum(wide[:, t : t + size] * weights[:, t] for t in range(taps))
    return sum(wide[:, :, t : t + size] * weights[:, t] for t in range(taps))


def repeat_edges(images, radius, axis):
    """Extends one axis by repeating its first and last entry.

    Args:
        images: (B, H, W, C) tensor.
        radius: How many entries to add on either side.
        axis: The axis to extend, 1 or 2.

    Returns:
        The extended tensor.
    """
    size = images.shape[axis]
    first = images[:, :1] if axis == 1 else images[:, :, :1]
    last = images[:, size - 1 :] if axis == 1 else images[:, :, size - 1 :]
    before, after = (ops.repeat(edge, radius, axis=axis) for edge in (first, last))
    return ops.concatenate([before, images, after], axis=axis)


def apply_matrices(images, rows, columns):
    """Resamples both axes by dense matrices.

    Args:
        images: (B, H, W, C) float32.
        rows: (B, h, H) float32.
        columns: (B, w, W) float32.

    Returns:
        (B, h, w, C) float32.
    """
    images = ops.einsum("brj,bjkc->brkc", rows, images)
    return ops.einsum("bsk,brkc->brsc", columns, images)


def blur_radius(sigma):
    """Taps on either side that hold a Gaussian up to three standard deviations."""
    return max(1, math.ceil(3.0 * sigma))
