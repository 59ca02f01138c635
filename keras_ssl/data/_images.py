# SPDX-License-Identifier: Apache-2.0
"""Any picture to a square uint8 array."""

from typing import Any

import numpy as np

_MODES = {1: "L", 3: "RGB", 4: "RGBA"}


def check_channels(channels: int) -> None:
    """Raises a ValueError unless there is a conversion to this number of channels."""
    if channels not in _MODES:
        raise ValueError(f"channels={channels} is not supported; expected 1, 3 or 4.")


def to_square(picture: Any, size: int, channels: int) -> np.ndarray:
    """Centre-crops to a square, resizes bilinearly (antialiased) and converts the channels.

    Transparent pixels are laid on white unless four channels are asked for.

    Args:
        picture: PIL image, or uint8 array (H, W), (H, W, 1), (H, W, 3) or (H, W, 4).
        size: Side of the result in pixels.
        channels: 1 (luminance), 3 (RGB) or 4 (RGBA).

    Returns:
        (size, size, channels) uint8.

    Raises:
        ValueError: For pixels that have no known range.
    """
    from PIL import Image, ImageOps

    if isinstance(picture, np.ndarray):
        flat = picture[..., 0] if picture.ndim == 3 and picture.shape[-1] == 1 else picture
        picture = Image.fromarray(np.ascontiguousarray(flat))
    else:
        picture = ImageOps.exif_transpose(picture)
    picture = _eight_bit(picture)
    transparent = "A" in picture.getbands() or "transparency" in picture.info
    if transparent and channels != 4:
        picture = picture.convert("RGBA")
        white = Image.new("RGBA", picture.size, (255, 255, 255, 255))
        picture = Image.alpha_composite(white, picture).convert("RGB")
    picture = picture.convert(_MODES[channels])
    # Cropping first gives the same square as resizing the short side first, and costs less.
    side = min(picture.size)
    left, top = (picture.width - side) // 2, (picture.height - side) // 2
    picture = picture.crop((left, top, left + side, top + side))
    if side != size:
        picture = picture.resize((size, size), Image.Resampling.BILINEAR)
    return np.asarray(picture, np.uint8).reshape(size, size, channels)


def read_square(path: str, size: int, channels: int) -> np.ndarray:
    """Reads an image file; see `to_square`.

    Args:
        path: Image file in any format Pillow reads.
        size: Side of the result in pixels.
        channels: 1, 3 or 4.

    Returns:
        (size, size, channels) uint8.

    Raises:
        OSError, ValueError, SyntaxError: When the file cannot be decoded.
    """
    from PIL import Image

    with Image.open(path) as picture:
        return to_square(picture, size, channels)


def _eight_bit(picture: Any) -> Any:
    from PIL import Image

    if picture.mode != "F" and not picture.mode.startswith("I"):
        return picture
    values = np.asarray(picture).astype(np.float64)
    low, high = float(values.min()), float(values.max())
    if picture.mode == "F" and low >= 0 and high <= 1:
        values = values * 255
    elif picture.mode == "F" and not (low >= 0 and high <= 255):
        raise ValueError(f"floating-point pixels in {low:g}..{high:g}; expected 0..1 or 0..255")
    elif picture.mode != "F" and not (low >= 0 and high <= 65535):
        raise ValueError(f"integer pixels in {low:g}..{high:g}; expected at most 16 bit")
    elif picture.mode != "F":
        # Pillow's own conversion clips at 255 and turns most 16-bit images white.
        values = values / 257
    return Image.fromarray(np.rint(values).astype(np.uint8))
