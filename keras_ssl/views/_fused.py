# SPDX-License-Identifier: Apache-2.0
"""Runs of members that are one linear map of space and one affine map of colour."""

import numpy as np
from keras import ops

from keras_ssl.views import _colour, _resampling
from keras_ssl.views.colour import ColorJitter

FUSIBLE = ("resample", "flip", "blur", "colour")


def split_runs(members):
    """Groups consecutive members that may be computed as one.

    A run holds at most one resampling, first, and at most one blur; a jitter never follows a blur
    in it, so the mean that contrast pulls towards is always that of the unblurred image.

    Args:
        members: List of transforms.

    Returns:
        List of lists of transforms; one of length 1 for every member that does not fuse.
    """
    runs = []
    for member in members:
        kinds = [other.kind for other in runs[-1]] if runs else []
        joins = (
            member.kind in FUSIBLE
            and bool(kinds)
            and kinds[-1] in FUSIBLE
            and member.kind != "resample"
            and not (member.kind == "blur" and "blur" in kinds)
            and not (isinstance(member, ColorJitter) and "blur" in kinds)
        )
        if joins:
            runs[-1].append(member)
        else:
            runs.append([member])
    return runs


def needs_clip(run) -> bool:
    """Whether a run may leave 0..1: after colour, or after a cubic kernel."""
    cubic = any(getattr(member, "interpolation", None) == "bicubic" for member in run)
    return cubic or any(member.kind == "colour" for member in run)


def apply_sequential(run, params, images, exact=False):
    """Applies a run member by member; this defines its meaning.

    Args:
        run: List of transforms.
        params: Their parameters, in order.
        images: (B, H, W, C) float32 in 0..1.
        exact: As in `Transform.apply`.

    Returns:
        (B, h, w, C) float32.
    """
    for member, drawn in zip(run, params, strict=True):
        images = member.apply(images, drawn, exact)
    return ops.clip(images, 0.0, 1.0) if needs_clip(run) else images


def apply_fused(run, params, images):
    """Applies a run as two resampling matrices and one colour matrix per sample.

    Args:
        run: List of transforms of a fusible kind.
        params: Their parameters, in order.
        images: (B, H, W, C) float32 in 0..1, or uint8.

    Returns:
        (B, h, w, C) float32.
    """
    pairs = list(zip(run, params, strict=True))
    rows, columns = spatial_matrices(pairs, images.shape[1:])
    blurred = [(member, drawn) for member, drawn in pairs if member.kind == "blur"]
    jittered = any(isinstance(member, ColorJitter) for member in run)
    planes = ops.transpose(images, (0, 1, 3, 2))
    mean = image_mean(planes, rows, columns) if jittered else None
    for member, drawn in blurred:
        weights = member.weights(drawn)
        rows, columns = (blur_axis(matrix, weights) for matrix in (rows, columns))
    planes = resample_planes(planes, rows, columns)
    colours = [(member, drawn) for member, drawn in pairs if member.kind == "colour"]
    if colours:
        matrix, bias = colour_map(colours, mean, images.shape[-1], ops.shape(images)[0])
        channels = [planes[:, :, c] for c in range(images.shape[-1])]
        result = ops.stack(_colour.mix_planes(channels, matrix, bias), axis=-1)
    else:
        result = ops.transpose(planes, (0, 1, 3, 2))
    return ops.clip(result, 0.0, 1.0) if needs_clip(run) else result


def spatial_matrices(pairs, image_shape):
    """Row and column matrices of the resampling and the flips of a run.

    Args:
        pairs: List of (transform, parameters).
        image_shape: (height, width, channels).

    Returns:
        (B, h, H) and (B, w, W) float32; identities broadcast over the batch where nothing acts.
    """
    rows, columns = (np.eye(size, dtype="float32")[None] for size in image_shape[:2])
    for member, drawn in pairs:
        if member.kind == "resample":
            rows, columns = member.matrices(drawn, image_shape)
        if member.kind == "flip":
            flip = drawn["flip"][:, None, None]
            columns = ops.where(flip, ops.flip(columns, axis=1), columns)
    return rows, columns


def blur_axis(matrix, weights):
    """Composes a resampling matrix (B, out, size) with the blur of its output."""
    return ops.matmul(_resampling.blur_matrix(weights, matrix.shape[1]), matrix)


def image_mean(planes, rows, columns):
    """Channel means of the resampled image without computing it.

    Args:
        planes: (B, H, C, W) float32.
        rows: (B, h, H) float32.
        columns: (B, w, W) float32.

    Returns:
        (B, C) float32.
    """
    row_share = ops.mean(rows, axis=1)[:, :, None, None]
    column_share = ops.mean(columns, axis=1)[:, None, :]
    return ops.sum(ops.sum(planes * row_share, axis=1) * column_share, axis=-1)


def resample_planes(planes, rows, columns):
    """Applies the two matrices.

    Args:
        planes: (B, H, C, W) float32.
        rows: (B or 1, h, H) float32.
        columns: (B or 1, w, W) float32.

    Returns:
        (B, h, C, w) float32.
    """
    height, channels, width = planes.shape[1:]
    out_height, out_width = rows.shape[1], columns.shape[1]
    planes = ops.reshape(planes, (-1, height, channels * width))
    planes = ops.matmul(rows, planes)
    planes = ops.reshape(planes, (-1, out_height * channels, width))
    planes = ops.matmul(planes, ops.transpose(columns, (0, 2, 1)))
    return ops.reshape(planes, (-1, out_height, channels, out_width))


def colour_map(colours, mean, channels, rows):
    """The affine colour map of a run.

    Args:
        colours: List of (transform, parameters) of kind "colour".
        mean: (B, C) float32 channel means of the unblurred images, or None without a jitter.
        channels: Number of channels.
        rows: Number of samples.

    Returns:
        (B, C, C) matrix and (B, C) bias.
    """
    matrix = ops.broadcast_to(np.eye(channels, dtype="float32")[None], (rows, channels, channels))
    bias = ops.zeros((rows, channels), dtype="float32")
    for member, drawn in colours:
        matrix, bias = member.compose(drawn, matrix, bias, mean)
    return matrix, bias
