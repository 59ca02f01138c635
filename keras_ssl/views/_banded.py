# SPDX-License-Identifier: Apache-2.0
"""The fused path for large images: bands of taps in place of dense matrices, in stages.

An output row touches a few input rows only, so a crop gathers and weights those. Every pass over
the pixels is a stage that compiles on its own: XLA would otherwise fuse the gathers of one pass
into those of the next and compute each value many times.
"""

import math

from keras import ops

from keras_ssl.views import _colour, _fused, _resampling
from keras_ssl.views.colour import ColorJitter

LARGE_SIDE = 96
# Samples blurred at a time.
CHUNK = 4


def is_large(shapes) -> bool:
    """Whether any of the image shapes (height, width, channels) is beyond dense matrices."""
    return any(max(shape[:2]) > LARGE_SIDE for shape in shapes)


def crop_taps(start, extent, out, size, interpolation):
    """The band of `_resampling.crop_matrix`: which input pixels an output pixel reads.

    Args:
        start: (B,) float32, first edge of the box, in input pixels.
        extent: (B,) float32, length of the box, in input pixels.
        out: Number of output pixels.
        size: Number of input pixels.
        interpolation: "bilinear" or "bicubic".

    Returns:
        int32 indices (B, out, taps) and float32 weights of the same shape that sum to 1.
    """
    kernel, support = _resampling.KERNELS[interpolation]
    centres = _resampling.sample_centres(start, extent, out)
    widen = ops.maximum(extent / out, 1.0)[:, None]
    taps = math.ceil(2.0 * support * max(size / out, 1.0) + 1e-3)
    first = ops.floor(centres - support * widen) + 1.0
    pixels = first[:, :, None] + ops.arange(taps, dtype="float32")
    weights = kernel((pixels - centres[:, :, None]) / widen[:, :, None])
    inside = ops.logical_and(pixels >= 0.0, pixels <= size - 1.0)
    weights = ops.where(inside, weights, 0.0)
    weights = weights / ops.sum(weights, axis=-1, keepdims=True)
    return ops.cast(ops.clip(pixels, 0, size - 1), "int32"), weights


def gather_rows(images, indices, weights):
    """Weighted sums of rows.

    Args:
        images: (B, H, W, C) float32.
        indices: (B, h, taps) int32.
        weights: (B, h, taps) float32.

    Returns:
        (B, h, W, C) float32.
    """
    height, width, channels = images.shape[1:]
    flat = ops.reshape(images, (-1, width, channels))
    offset = ops.arange(ops.shape(images)[0], dtype="int32")[:, None] * height
    return sum(
        ops.take(flat, indices[:, :, tap] + offset, axis=0) * weights[:, :, tap, None, None]
        for tap in range(indices.shape[-1])
    )


def stages(run) -> list:
    """The passes of a run.

    Args:
        run: List of transforms of a fusible kind.

    Returns:
        Functions of ((images, mean), params) that return the next (images, mean); mean is (B, C).
    """
    blurs = any(member.kind == "blur" for member in run)
    crops = hasattr(run[0], "boxes")
    first = [_crop_rows(run), _crop_columns(run)] if crops else [_whole(run)]
    return [*first, *([_blur(run, 1), _blur(run, 2)] if blurs else []), _colours(run)]


def _crop_rows(run):
    """Crops vertically and swaps the axes, so that the next pass gathers rows again."""

    def stage(state, params):
        images, mean = state
        rows, _ = run[0].boxes(params[0], images.shape[1:])
        taps = crop_taps(*rows, run[0].size[0], images.shape[1], run[0].interpolation)
        # The width is read before the crop, so it travels along as it is.
        return ops.transpose(gather_rows(images, *taps), (0, 2, 1, 3)), mean

    return stage


def _crop_columns(run):
    def stage(state, params):
        images, mean = state
        width, crop = images.shape[1], run[0]
        _, columns = crop.boxes(params[0], (width, width, images.shape[3]))
        indices, weights = crop_taps(*columns, crop.size[1], width, crop.interpolation)
        for member, drawn in zip(run, params, strict=True):
            if member.kind == "flip":
                flip = drawn["flip"][:, None, None]
                indices = ops.where(flip, ops.flip(indices, axis=1), indices)
                weights = ops.where(flip, ops.flip(weights, axis=1), weights)
        return ops.transpose(gather_rows(images, indices, weights), (0, 2, 1, 3)), mean

    return stage


def _whole(run):
    def stage(state, params):
        images, mean = state
        for member, drawn in zip(run, params, strict=True):
            if member.kind in ("resample", "flip"):
                images = member.apply(images, drawn)
        return images, mean

    return stage


def _blur(run, axis):
    def stage(state, params):
        images, mean = state
        if axis == 1:
            mean = ops.mean(images, axis=(1, 2))
        for member, drawn in zip(run, params, strict=True):
            if member.kind == "blur":
                images = _blur_drawn(images, member.weights(drawn), drawn["applied"], axis)
        return images, mean

    return stage


def _blur_drawn(images, weights, applied, axis):
    """Blurs one axis of the chosen samples alone, a few at a time.

    A loop of a few samples keeps shapes static for XLA while the number of chosen ones varies.
    """
    rows = ops.shape(images)[0]
    # The chosen ones first. Wrapping around at the end blurs some twice, from the same source.
    order = ops.argsort(ops.where(applied, 0, 1))
    chosen = ops.sum(ops.cast(applied, "int32"))

    def step(start, result):
        at = ops.take(order, ops.mod(start + ops.arange(CHUNK, dtype="int32"), rows))
        part = ops.take(images, at, axis=0)
        part = _resampling.blur_pass(part, ops.take(weights, at, axis=0), axis)
        return start + CHUNK, ops.scatter_update(result, at[:, None], part)

    start = ops.cast(0, "int32")
    return ops.while_loop(lambda start, _: start < chosen, step, (start, images))[1]


def _colours(run):
    blurs = any(member.kind == "blur" for member in run)
    jitters = any(isinstance(member, ColorJitter) for member in run)

    def stage(state, params):
        images, mean = state
        if jitters and not blurs:
            mean = ops.mean(images, axis=(1, 2))
        pairs = zip(run, params, strict=True)
        colours = [(member, drawn) for member, drawn in pairs if member.kind == "colour"]
        if colours:
            matrix, bias = _fused.colour_map(colours, mean, images.shape[-1], ops.shape(images)[0])
            images = _colour.mix_channels(images, matrix, bias)
        return (ops.clip(images, 0.0, 1.0) if _fused.needs_clip(run) else images), mean

    return stage
