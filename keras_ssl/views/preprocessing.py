# SPDX-License-Identifier: Apache-2.0
"""How raw images become what an encoder was trained on."""

import keras
from keras import ops

from keras_ssl.views._transform import register
from keras_ssl.views.colour import Normalize

RESIZE_RULES = ("crop", "stretch", "pad")
INTERPOLATIONS = ("nearest", "bilinear", "bicubic", "lanczos3", "lanczos5")


def to_unit(images):
    """Integers of 0..255 to float32 of 0..1; floats are taken as 0..1 already."""
    if "int" in keras.backend.standardize_dtype(images.dtype):
        return ops.cast(images, "float32") / 255.0
    return ops.cast(images, "float32")


def check_images(images):
    """Raises unless images are (B, H, W, C) with a known height, width and channel count."""
    shape = tuple(images.shape)
    if len(shape) != 4 or None in shape[1:]:
        raise ValueError(
            f"Views need images of shape (batch, height, width, channels) with known height, "
            f"width and channels, got {shape}. Add a channel axis to grey images "
            f"(images[..., None]) and resize images of varying size first."
        )


@register
class Preprocessing(keras.layers.Layer):
    """Brings raw images to what an encoder was trained on: 0..1, one size, normalised.

    It belongs to the weights, not to the data set: the same encoder behind another normalisation
    or resize rule is a worse one. What `standalone_encoder` gives has it inside, and in its file;
    `evaluation.with_preprocessing` puts one into any encoder.

    Args:
        size: (height, width) of the result, or None to keep the images' own.
        mean: per channel, of images of 0..1; None for no normalisation.
        std: per channel; None for no normalisation.
        resize: how images of another size fit: "crop" (the shorter side fits, the middle of the
            longer one stays), "stretch" (both sides fit) or "pad" (the longer side fits, zeros
            around).
        crop_fraction: share of the shorter side that "crop" keeps, above 0 and at most 1: 0.875 is
            the middle 224 of 256 pixels.
        interpolation: "nearest", "bilinear", "bicubic", "lanczos3" or "lanczos5", antialiased.
        **kwargs: `name` and other arguments of `keras.layers.Layer`.

    Raises:
        ValueError: for an unknown rule, a share outside of its range, a share without "crop" or
            without a size, or mean and std that are not given together.

    Example:
        >>> import numpy as np
        >>> Preprocessing((8, 8), mean=(0.5,), std=(0.25,))(np.zeros((2, 16, 12, 1), "uint8")).shape
        TensorShape([2, 8, 8, 1])
    """

    def __init__(
        self,
        size=None,
        mean=None,
        std=None,
        *,
        resize="crop",
        crop_fraction=1.0,
        interpolation="bilinear",
        **kwargs,
    ):
        kwargs.setdefault("dtype", "float32")
        super().__init__(**kwargs)
        if resize not in RESIZE_RULES or interpolation not in INTERPOLATIONS:
            raise ValueError(
                f"Preprocessing resizes by one of {RESIZE_RULES} and {INTERPOLATIONS}, got "
                f"{resize!r} and {interpolation!r}."
            )
        useless = crop_fraction != 1.0 and (resize != "crop" or size is None)
        if not 0.0 < crop_fraction <= 1.0 or useless:
            raise ValueError(
                f"crop_fraction is {crop_fraction}, expected above 0 and at most 1, with a size "
                'and resize="crop".'
            )
        if (mean is None) != (std is None):
            raise ValueError("Preprocessing takes mean and std together, or neither.")
        self.size = None if size is None else tuple(size)
        self.mean, self.std = mean, std
        self.resize, self.crop_fraction = resize, float(crop_fraction)
        self.interpolation = interpolation

    def call(self, images):
        """Preprocesses (B, H, W, C) uint8 or float images to (B, h, w, C) float32."""
        check_images(images)
        images = to_unit(images)
        if self.size is not None and (
            tuple(images.shape[1:3]) != self.size or self.crop_fraction != 1.0
        ):
            images = self._resized(images, self.size)
        if self.mean is not None:
            images = Normalize(self.mean, self.std).apply(images, {})
        return images

    def _resized(self, images, size):
        height, width = images.shape[1:3]
        if self.resize == "stretch":
            return self._scaled(images, size)
        sides = size[0] / height, size[1] / width
        if self.resize == "pad":
            scale = min(sides)
            inner = tuple(
                max(1, min(s, round(x * scale)))
                for s, x in zip(size, images.shape[1:3], strict=True)
            )
            return _padded(self._scaled(images, inner), size)
        scale = max(sides) / self.crop_fraction
        inner = max(size[0], round(height * scale)), max(size[1], round(width * scale))
        images = self._scaled(images, inner)
        top, left = (inner[0] - size[0]) // 2, (inner[1] - size[1]) // 2
        return images[:, top : top + size[0], left : left + size[1]]

    def _scaled(self, images, size):
        if tuple(images.shape[1:3]) == size:
            return images
        return ops.image.resize(
            images,
            size,
            interpolation=self.interpolation,
            antialias=True,
            data_format="channels_last",
        )

    def compute_output_shape(self, input_shape):
        """The shape of the result."""
        size = self.size or input_shape[1:3]
        return (input_shape[0], *size, input_shape[3])

    def changed(self, **changes):
        """A copy with other arguments.

        Args:
            **changes: arguments of the constructor.

        Returns:
            Another `Preprocessing`.
        """
        return type(self)(**{**self._arguments(), **changes})

    def get_config(self):
        """The constructor's arguments."""
        return {**super().get_config(), **self._arguments()}

    def _arguments(self):
        return {
            "size": self.size,
            "mean": self.mean,
            "std": self.std,
            "resize": self.resize,
            "crop_fraction": self.crop_fraction,
            "interpolation": self.interpolation,
        }


def _padded(images, size):
    spare = [outer - inner for outer, inner in zip(size, images.shape[1:3], strict=True)]
    around = [(room // 2, room - room // 2) for room in spare]
    return ops.pad(images, [(0, 0), *around, (0, 0)])


# Files that were written before it had a resize rule name it so.
keras.saving.get_custom_objects()["keras_ssl>Preprocess"] = Preprocessing
