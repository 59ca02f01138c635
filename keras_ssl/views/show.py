# SPDX-License-Identifier: Apache-2.0
"""A picture of images beside their views."""

import keras
import numpy as np

from keras_ssl.views.multi import MultiCrop
from keras_ssl.views.pipeline import Pipeline
from keras_ssl.views.preprocessing import to_unit


def show(views, images, count=8, *, seed=0, cell=64):
    """Draws originals (first row) and their views (one row each).

    Args:
        views: A `Pipeline`, `TwoViews` or `MultiCrop`, also with parameters.
        images: (B, H, W, C) uint8 of 0..255 or float of 0..1.
        count: How many images, at most B.
        seed: Seed of the views.
        cell: Side of one cell in pixels; images of at least that side keep it as well.

    Returns:
        A `PIL.Image.Image` in RGB.

    Example:
        >>> show(get("simclr"), images).save("views.png")
    """
    from PIL import Image

    images = images[:count]
    # Those with parameters are made of others, with the same seed.
    views = getattr(views, "views", views)
    made = views(images, seed=seed)
    made = made if isinstance(made, (list, tuple)) else [made]
    originals = keras.ops.convert_to_numpy(to_unit(keras.ops.convert_to_tensor(images)))
    rows = [originals]
    for view, pipeline in zip(made, _pipelines(views, len(made)), strict=True):
        if pipeline is not None and pipeline.normalize is not None:
            view = pipeline.normalize.inverse(view)
        rows.append(keras.ops.convert_to_numpy(view))
    gap, columns = 2, len(originals)
    width, height = columns * (cell + gap) + gap, len(rows) * (cell + gap) + gap
    picture = Image.new("RGB", (width, height), "white")
    for i, row in enumerate(rows):
        for j, pixels in enumerate(row):
            tile = Image.fromarray(_to_rgb(pixels)).resize((cell, cell), Image.Resampling.NEAREST)
            picture.paste(tile, (gap + j * (cell + gap), gap + i * (cell + gap)))
    return picture


def _pipelines(views, count):
    """The pipeline of every view, None where the layer is not one of ours."""
    if isinstance(views, Pipeline):
        return [views]
    if isinstance(views, MultiCrop):
        return views.each()
    return [None] * count


def _to_rgb(pixels):
    """(H, W, C) float of 0..1 to (H, W, 3) uint8; other channel counts show their first."""
    pixels = np.round(np.clip(pixels, 0.0, 1.0) * 255.0).astype("uint8")
    return pixels if pixels.shape[-1] == 3 else np.repeat(pixels[..., :1], 3, axis=-1)
