# SPDX-License-Identifier: Apache-2.0
"""Every image under all of a set of transformations (self-supervised label augmentation)."""

import itertools

import keras
from keras import ops

from keras_ssl.views._transform import register

# Released names: rotations by quarter turns, and permutations of the colour channels.
_QUARTERS = {"none": (0,), "half": (0, 2), "quarter": (0, 1, 2, 3)}
_IDENTITY = ((0, 1, 2),)
_CYCLES = ((0, 1, 2), (1, 2, 0), (2, 0, 1))
_ALL = ((0, 1, 2), (0, 2, 1), (1, 0, 2), (1, 2, 0), (2, 0, 1), (2, 1, 0))
TRANSFORMS = {
    "rotation": ("quarter", _IDENTITY),
    "rotation2": ("half", _IDENTITY),
    "color_perm": ("none", _ALL),
    "color_perm3": ("none", _CYCLES),
    "rot_color_perm6": ("half", _CYCLES),
    "rot_color_perm12": ("quarter", _CYCLES),
    "rot_color_perm24": ("quarter", _ALL),
}


@register
class LabelAugmentation(keras.layers.Layer):
    """Gives every image under each of M transformations; the first is the image itself.

    Args:
        transforms: `"rotation"` (four quarter turns), `"rotation2"` (two half turns),
            `"color_perm"` (six orders of the channels), `"color_perm3"` (three), or the products
            `"rot_color_perm6"`, `"rot_color_perm12"` and `"rot_color_perm24"`.
        **kwargs: Arguments of `keras.layers.Layer`.

    Raises:
        ValueError: For an unknown name, quarter turns of images that are not square, or
            permutations of other than three channels.

    Source: Lee et al., 2020, section 4.1; https://arxiv.org/abs/1910.05872.

    Example:
        >>> LabelAugmentation("rotation")(np.zeros((2, 8, 8, 3))).shape
        (8, 8, 8, 3)
    """

    def __init__(self, transforms="rotation", **kwargs):
        super().__init__(**kwargs)
        if transforms not in TRANSFORMS:
            raise ValueError(f"transforms is one of {list(TRANSFORMS)}; received {transforms!r}.")
        self.transforms = transforms
        turns, orders = TRANSFORMS[transforms]
        self.members = list(itertools.product(_QUARTERS[turns], orders))
        self.built = True

    @property
    def count(self) -> int:
        """Number of transformations, M."""
        return len(self.members)

    def call(self, images):
        """Transforms images.

        Args:
            images: (B, H, W, C).

        Returns:
            (B·M, H, W, C); the M copies of an image are neighbours.
        """
        height, width, channels = images.shape[1:]
        if height != width and any(turn % 2 for turn, _ in self.members):
            raise ValueError(
                f"{self.transforms!r} turns images by 90 degrees, so they must be square; "
                f'received {height} x {width}. Use "rotation2" or "color_perm".'
            )
        if channels != 3 and any(order != _IDENTITY[0] for _, order in self.members):
            raise ValueError(
                f"{self.transforms!r} permutes three colour channels; received {channels}. Use "
                '"rotation".'
            )
        copies = []
        for turn, order in self.members:
            copy = _turned(images, turn)
            if order != _IDENTITY[0]:
                copy = ops.take(copy, order, axis=-1)
            copies.append(copy)
        return ops.reshape(ops.stack(copies, axis=1), (-1, height, width, channels))

    def compute_output_shape(self, input_shape):
        """(B·M, H, W, C)."""
        rows = None if input_shape[0] is None else input_shape[0] * self.count
        return (rows, *input_shape[1:])

    def get_config(self):
        """The constructor's arguments."""
        return {**super().get_config(), "transforms": self.transforms}


def _turned(images, quarters: int):
    """Images turned counter-clockwise by quarter turns."""
    if quarters == 2:
        return ops.flip(images, axis=(1, 2))
    if quarters == 0:
        return images
    swapped = ops.transpose(images, (0, 2, 1, 3))
    return ops.flip(swapped, axis=1 if quarters == 1 else 2)


def quarter_turns(images, quarters):
    """Turns every image counter-clockwise by quarter turns of its own.

    Args:
        images: (B, H, H, C).
        quarters: (B,) integers of 0..3.

    Returns:
        Images of the same shape.

    Raises:
        ValueError: For images that are not square.
    """
    if images.shape[1] != images.shape[2]:
        raise ValueError(
            f"images turned by 90 degrees must be square; received {tuple(images.shape[1:3])}."
        )
    quarters = ops.reshape(quarters, (-1, 1, 1, 1))
    made = images
    for count in (1, 2, 3):
        made = ops.where(quarters == count, _turned(images, count), made)
    return made
