# SPDX-License-Identifier: Apache-2.0
"""Transforms of space: crop, flip, affine maps and blur."""

import math

from keras import ops

from keras_ssl.views import _resampling
from keras_ssl.views._transform import Transform, between, check_probability, interval, register

_TRIES = 10


@register
class RandomResizedCrop(Transform):
    """Cuts a random box out of every image and resizes it, antialiased.

    Ten boxes are drawn per sample and the first that fits is used, else the largest centred box
    of an allowed aspect ratio, as torchvision does (Szegedy et al., 2015, section 6). With
    `exact=True` the box has whole pixels and only its pixels are read; otherwise it is continuous.

    Args:
        size: Output side, or (height, width), in pixels.
        area: Range of the box's share of the image area.
        aspect: Range of width / height, drawn uniformly in the logarithm.
        interpolation: "bilinear" or "bicubic".

    Raises:
        ValueError: For an empty range or an unknown interpolation.
    """

    kind = "resample"
    arguments = ("size", "area", "aspect", "interpolation")
    uniforms = 2 * _TRIES + 2

    def __init__(self, size, area=(0.08, 1.0), aspect=(3 / 4, 4 / 3), interpolation="bilinear"):
        self.size = (size, size) if isinstance(size, int) else tuple(size)
        self.area = interval(area, "area", 0.0)
        self.aspect = interval(aspect, "aspect", 0.0)
        if self.area[1] > 1.0:
            raise ValueError(f"`area` is a share of the image and must not exceed 1, got {area}.")
        if interpolation not in _resampling.KERNELS:
            names = sorted(_resampling.KERNELS)
            raise ValueError(f"`interpolation` must be one of {names}, got {interpolation!r}.")
        self.interpolation = interpolation

    def parameters(self, uniform, image_shape):
        """Gives boxes: "height" and "width" in pixels, "top" and "left" as shares of the play."""
        height, width = image_shape[:2]
        area = between(uniform[:, :_TRIES], *self.area) * (height * width)
        low, high = (math.log(end) for end in self.aspect)
        aspect = ops.exp(between(uniform[:, _TRIES : 2 * _TRIES], low, high))
        widths, heights = ops.sqrt(area * aspect), ops.sqrt(area / aspect)
        fits = ops.logical_and(widths <= width + 1e-3, heights <= height + 1e-3)
        fits = ops.cast(fits, "float32")
        earlier = ops.cumsum(fits, axis=1) - fits
        chosen = fits * ops.cast(earlier < 0.5, "float32")
        none = 1.0 - ops.sum(chosen, axis=1)
        fallback_width = min(width, height * self.aspect[1])
        fallback_height = min(height, width / self.aspect[0])
        return {
            "height": ops.sum(chosen * heights, axis=1) + none * fallback_height,
            "width": ops.sum(chosen * widths, axis=1) + none * fallback_width,
            "top": ops.where(none > 0.5, 0.5, uniform[:, -2]),
            "left": ops.where(none > 0.5, 0.5, uniform[:, -1]),
        }

    def boxes(self, params, image_shape, exact=False):
        """The box of every sample in pixels.

        Args:
            params: What `draw` returned.
            image_shape: (height, width, channels).
            exact: Round to whole pixels.

        Returns:
            ((top, height), (left, width)), four (B,) float32 tensors.
        """
        axes = []
        for start, extent, size in (("top", "height", 0), ("left", "width", 1)):
            size = image_shape[size]
            length = ops.minimum(params[extent], float(size))
            if exact:
                length = ops.maximum(ops.round(length), 1.0)
                first = ops.floor(params[start] * (size - length + 1.0))
                first = ops.minimum(first, size - length)
            else:
                first = params[start] * (size - length)
            axes.append((first, length))
        return axes

    def matrices(self, params, image_shape, exact=False):
        """Row and column matrices (B, h, H) and (B, w, W) of the crop."""
        rows, columns = self.boxes(params, image_shape, exact)
        return tuple(
            _resampling.crop_matrix(*box, out, size, self.interpolation, confine=exact)
            for box, out, size in zip((rows, columns), self.size, image_shape[:2], strict=True)
        )

    def apply(self, images, params, exact=False):
        """Cuts and resizes; see `Transform.apply`."""
        rows, columns = self.matrices(params, images.shape[1:], exact)
        images = _resampling.apply_matrices(images, rows, columns)
        # Only the cubic kernel overshoots; PIL stores bytes and so clips here.
        return ops.clip(images, 0.0, 1.0) if exact else images

    def output_shape(self, image_shape):
        """The crop's size with the image's channels."""
        return (*self.size, image_shape[2])


@register
class HorizontalFlip(Transform):
    """Mirrors left and right.

    Args:
        probability: Share of the samples that is mirrored.
    """

    kind = "flip"
    arguments = ("probability",)
    uniforms = 1

    def __init__(self, probability=0.5):
        self.probability = check_probability(probability)

    def parameters(self, uniform, image_shape):
        """Gives "flip", a boolean per sample."""
        return {"flip": uniform[:, 0] < self.probability}

    def apply(self, images, params, exact=False):
        """Mirrors the chosen samples."""
        return ops.where(params["flip"][:, None, None, None], ops.flip(images, axis=2), images)


@register
class Affine(Transform):
    """Rotates, magnifies and shifts about the centre, bilinear.

    Args:
        rotation: Largest angle in degrees; angles are uniform in ±rotation.
        scale: Range of the magnification, (1, 1) for none.
        shift: Largest displacement of either axis as a share of its size.
        fill: What lies outside: "constant" (zero) or "nearest" (the edge repeated).
        probability: Share of the samples that is transformed.

    Raises:
        ValueError: For a negative rotation or shift, or an unknown fill.
    """

    arguments = ("rotation", "scale", "shift", "fill", "probability")
    uniforms = 5

    def __init__(self, rotation=0.0, scale=(1.0, 1.0), shift=0.0, fill="constant", probability=1.0):
        if rotation < 0 or shift < 0:
            raise ValueError(
                f"`rotation` and `shift` are largest amounts and cannot be negative, got "
                f"{rotation} and {shift}."
            )
        if fill not in ("constant", "nearest"):
            raise ValueError(f'`fill` must be "constant" or "nearest", got {fill!r}.')
        self.rotation, self.shift, self.fill = float(rotation), float(shift), fill
        self.scale = interval(scale, "scale", 0.0)
        self.probability = check_probability(probability)

    @property
    def kind(self):
        """Separable, and so fusible, only when it never rotates."""
        return "resample" if self.rotation == 0 else "pointwise"

    def parameters(self, uniform, image_shape):
        """Gives "angle" (radians), "scale", "down" and "right" (pixels)."""
        applied = ops.cast(uniform[:, 0] < self.probability, "float32")
        limit = math.radians(self.rotation)
        return {
            "angle": applied * between(uniform[:, 1], -limit, limit),
            "scale": 1.0 + applied * (between(uniform[:, 2], *self.scale) - 1.0),
            "down": applied * between(uniform[:, 3], -self.shift, self.shift) * image_shape[0],
            "right": applied * between(uniform[:, 4], -self.shift, self.shift) * image_shape[1],
        }

    def matrices(self, params, image_shape, exact=False):
        """Row and column matrices (B, H, H) and (B, W, W) when nothing rotates."""
        height, width = image_shape[:2]
        return (
            _resampling.shift_matrix(params["scale"], params["down"], height, self.fill),
            _resampling.shift_matrix(params["scale"], params["right"], width, self.fill),
        )

    def apply(self, images, params, exact=False):
        """Gathers the four neighbours of every source position."""
        height, width = images.shape[1:3]
        middle_y, middle_x = (height - 1) / 2.0, (width - 1) / 2.0
        y = ops.arange(height, dtype="float32")[None, :, None] - middle_y
        x = ops.arange(width, dtype="float32")[None, None, :] - middle_x
        column = {name: value[:, None, None] for name, value in params.items()}
        y, x = y - column["down"], x - column["right"]
        cos = ops.cos(column["angle"]) / column["scale"]
        sin = ops.sin(column["angle"]) / column["scale"]
        # The inverse map: output to input, so that every output pixel is written once.
        return gather_bilinear(
            images, cos * y - sin * x + middle_y, sin * y + cos * x + middle_x, self.fill
        )


@register
class Rotate(Affine):
    """Rotates about the centre by a random angle, bilinear.

    Args:
        degrees: Largest angle in degrees; angles are uniform in ±degrees.
        fill: What lies outside: "constant" (zero) or "nearest" (the edge repeated).
        probability: Share of the samples that is rotated.
    """

    arguments = ("degrees", "fill", "probability")

    def __init__(self, degrees, fill="constant", probability=1.0):
        super().__init__(rotation=degrees, fill=fill, probability=probability)
        self.degrees = float(degrees)


def gather_bilinear(images, y, x, fill):
    """Reads images at fractional positions.

    Args:
        images: (B, H, W, C) float32.
        y: (B, h, w) float32 vertical positions in pixels.
        x: (B, h, w) float32 horizontal positions in pixels.
        fill: "constant" (zero outside) or "nearest".

    Returns:
        (B, h, w, C) float32.
    """
    height, width, channels = images.shape[1:]
    if fill == "nearest":
        y, x = ops.clip(y, 0.0, height - 1.0), ops.clip(x, 0.0, width - 1.0)
    pixels = ops.reshape(images, (-1, channels))
    sample = ops.arange(ops.shape(images)[0], dtype="int32")[:, None, None] * (height * width)
    top, left = ops.floor(y), ops.floor(x)
    total = 0.0
    for dy in (0, 1):
        for dx in (0, 1):
            row, column = top + dy, left + dx
            weight = (1.0 - ops.abs(y - row)) * (1.0 - ops.abs(x - column))
            inside = (row >= 0) & (row <= height - 1) & (column >= 0) & (column <= width - 1)
            row = ops.cast(ops.clip(row, 0, height - 1), "int32")
            column = ops.cast(ops.clip(column, 0, width - 1), "int32")
            values = ops.take(pixels, sample + row * width + column, axis=0)
            total = total + values * ops.where(inside, weight, 0.0)[..., None]
    return total


@register
class GaussianBlur(Transform):
    """Blurs with a Gaussian whose width is drawn per sample; edge pixels are repeated.

    The kernel reaches three of the largest standard deviations to either side.

    Args:
        sigma: Range of the standard deviation in pixels (PIL's radius).
        probability: Share of the samples that is blurred.

    Raises:
        ValueError: If sigma is not positive.
    """

    kind = "blur"
    arguments = ("sigma", "probability")
    uniforms = 2

    def __init__(self, sigma=(0.1, 2.0), probability=0.5):
        self.sigma = interval(sigma, "sigma", 0.0)
        self.probability = check_probability(probability)

    @property
    def radius(self) -> int:
        """Taps on either side of the centre."""
        return _resampling.blur_radius(self.sigma[1])

    def parameters(self, uniform, image_shape):
        """Gives "applied" (boolean) and "sigma" (pixels)."""
        return {
            "applied": uniform[:, 0] < self.probability,
            "sigma": between(uniform[:, 1], *self.sigma),
        }

    def weights(self, params):
        """Taps (B, 2 * radius + 1); a single 1 where the blur is not applied."""
        weights = _resampling.gaussian_weights(params["sigma"], self.radius)
        identity = ops.cast(ops.arange(-self.radius, self.radius + 1) == 0, "float32")[None]
        return ops.where(params["applied"][:, None], weights, identity)

    def apply(self, images, params, exact=False):
        """Blurs the chosen samples."""
        return _resampling.blur_separable(images, self.weights(params))
