# SPDX-License-Identifier: Apache-2.0
"""Cells that pictures of tokens are made of."""

from typing import Any

import numpy as np

CELL = 96


def as_rgb(images: Any) -> np.ndarray:
    """Images as they are shown.

    Args:
        images: `(N, H, W, C)` uint8 of 0..255 or float of 0..1, C of 1 or 3.

    Returns:
        float32 `(N, H, W, 3)` in 0..1.
    """
    images = np.asarray(images)
    shown = images.astype("float32") / (255.0 if images.dtype == "uint8" else 1.0)
    return np.repeat(shown, 3, axis=-1) if shown.shape[-1] == 1 else shown


def enlarge(picture: np.ndarray) -> np.ndarray:
    """A picture of 0..1, `(h, w, 3)`, at the size of a cell in uint8, pixels square and sharp."""
    from PIL import Image

    whole = Image.fromarray(np.uint8(np.clip(picture, 0, 1) * 255 + 0.5))
    return np.asarray(whole.resize((CELL, CELL), Image.Resampling.NEAREST))


def cell(picture: np.ndarray) -> np.ndarray:
    """A picture of 0..1 as a cell with a white line around it."""
    return np.pad(enlarge(picture), ((1, 1), (1, 1), (0, 0)), constant_values=255)
