# SPDX-License-Identifier: Apache-2.0
"""Transforms of colour and of single pixels."""

import numpy as np
from keras import ops

from keras_ssl.views import _colour
from keras_ssl.views._transform import (
    Transform,
    between,
    check_probability,
    interval,
    per_sample,
    register,
)


@register
class ColorJitter(Transform):
    """Changes brightness, contrast, saturation and hue in a random order per sample.

    Factors are uniform in max(0, 1 - s)..1 + s and multiply; the hue moves by a uniform share of
    ±hue of the colour circle. Contrast pulls towards the mean grey value of the image, saturation
    towards each pixel's grey value, as PIL does. The hue turns in YIQ; with `exact=True` it moves
    in HSV and values are clipped after every one of the four.

    Args:
        brightness: Strength s of the brightness factor.
        contrast: Strength s of the contrast factor.
        saturation: Strength s of the saturation factor.
        hue: Largest hue shift, a share of the colour circle, at most 0.5.
        probability: Share of the samples that is changed.
        reference: "pil", or "tensorflow" as in SimCLR's own code: contrast pulls towards each
            channel's mean, and with `exact=True` saturation scales S of HSV.

    Raises:
        ValueError: For a negative strength, a hue above 0.5 or an unknown reference.
    """

    kind = "colour"
    arguments = ("brightness", "contrast", "saturation", "hue", "probability", "reference")
    uniforms = 9

    def __init__(
        self,
        brightness=0.0,
        contrast=0.0,
        saturation=0.0,
        hue=0.0,
        probability=0.8,
        reference="pil",
    ):
        strengths = {"brightness": brightness, "contrast": contrast, "saturation": saturation}
        for name, value in {**strengths, "hue": hue}.items():
            if value < 0 or (name == "hue" and value > 0.5):
                raise ValueError(f"`{name}` must be at least 0 (hue: at most 0.5), got {value}.")
            setattr(self, name, float(value))
        if reference not in ("pil", "tensorflow"):
            raise ValueError(f'`reference` must be "pil" or "tensorflow", got {reference!r}.')
        self.reference = reference
        self.probability = check_probability(probability)

    def parameters(self, uniform, image_shape):
        """Gives the three factors, "hue", and "position": the rank (B, 4) of each of the four."""
        applied = ops.cast(uniform[:, 0] < self.probability, "float32")
        params = {"hue": applied * between(uniform[:, 4], -self.hue, self.hue)}
        for column, name in enumerate(("brightness", "contrast", "saturation"), start=1):
            strength = getattr(self, name)
            factor = between(uniform[:, column], max(0.0, 1.0 - strength), 1.0 + strength)
            params[name] = 1.0 + applied * (factor - 1.0)
        keys = uniform[:, 5:]
        # Ties are broken by index: two members of equal rank would leave a step empty.
        before = np.tril(np.ones((4, 4), dtype=bool), -1)[None]
        smaller = keys[:, None, :] < keys[:, :, None]
        equal = ops.logical_and(keys[:, None, :] == keys[:, :, None], before)
        position = ops.sum(ops.cast(ops.logical_or(smaller, equal), "int32"), axis=-1)
        return {**params, "position": position}

    def apply(self, images, params, exact=False):
        """Applies the four in each sample's order; see `Transform.apply`."""
        _check_channels(images.shape[-1], self)
        for step in range(4):
            result = images
            for index, operation in enumerate(
                (self._brightness, self._contrast, self._saturation, self._hue)
            ):
                chosen = (params["position"][:, index] == step)[:, None, None, None]
                result = ops.where(chosen, operation(images, params, exact), result)
            images = ops.clip(result, 0.0, 1.0) if exact else result
        return images

    def _brightness(self, images, params, exact):
        return images * per_sample(params["brightness"])

    def _contrast(self, images, params, exact):
        mean = ops.mean(images, axis=(1, 2), keepdims=True)
        if self.reference == "pil":
            mean = _colour.grey(mean)
        return mean + (images - mean) * per_sample(params["contrast"])

    def _saturation(self, images, params, exact):
        if images.shape[-1] == 1:
            return images
        if exact and self.reference == "tensorflow":
            hue, saturation, value = _colour.rgb_to_hsv(images)
            saturation = ops.clip(saturation * params["saturation"][:, None, None], 0.0, 1.0)
            return _colour.hsv_to_rgb(hue, saturation, value)
        gray = _colour.grey(images)
        return gray + (images - gray) * per_sample(params["saturation"])

    def _hue(self, images, params, exact):
        if images.shape[-1] == 1:
            return images
        if not exact:
            return _colour.mix_channels(images, _colour.hue_matrix(params["hue"]))
        hue, saturation, value = _colour.rgb_to_hsv(images)
        hue = ops.mod(hue + params["hue"][:, None, None], 1.0)
        return _colour.hsv_to_rgb(hue, saturation, value)

    def compose(self, params, matrix, bias, mean):
        """Appends the jitter to an affine colour map.

        Args:
            params: What `draw` returned.
            matrix: (B, C, C) float32, the map so far.
            bias: (B, C) float32, the map so far.
            mean: (B, C) float32, channel means of the images before that map.

        Returns:
            The new matrix and bias.
        """
        channels = matrix.shape[-1]
        _check_channels(channels, self)
        identity = np.eye(channels, dtype="float32")[None]
        luma = _colour.luma_weights(channels)
        towards_grey = np.broadcast_to(luma[None], (channels, channels))[None]
        scaled = {name: params[name][:, None, None] for name in ("brightness", "contrast")}
        maps = [scaled["brightness"] * identity, scaled["contrast"] * identity]
        if channels == 3:
            factor = params["saturation"][:, None, None]
            maps += [factor * identity + (1.0 - factor) * towards_grey]
            maps += [_colour.hue_matrix(params["hue"])]
        for step in range(4):
            chosen = ops.cast(params["position"] == step, "float32")
            update = sum(
                chosen[:, index, None, None] * (single - identity)
                for index, single in enumerate(maps)
            )
            current = ops.sum(matrix * mean[:, None, :], axis=-1) + bias
            if self.reference == "pil":
                current = ops.sum(current * luma, axis=-1, keepdims=True)
            pull = (chosen[:, 1] * (1.0 - params["contrast"]))[:, None] * current
            update = update + identity
            matrix = ops.matmul(update, matrix)
            bias = ops.sum(update * bias[:, None, :], axis=-1) + pull
        return matrix, bias


@register
class Grayscale(Transform):
    """Replaces colour by its grey value (0.299, 0.587, 0.114) in all channels.

    Args:
        probability: Share of the samples that is made grey.
    """

    kind = "colour"
    arguments = ("probability",)
    uniforms = 1

    def __init__(self, probability=0.2):
        self.probability = check_probability(probability)

    def parameters(self, uniform, image_shape):
        """Gives "grey", a boolean per sample."""
        return {"grey": uniform[:, 0] < self.probability}

    def apply(self, images, params, exact=False):
        """Makes the chosen samples grey."""
        _check_channels(images.shape[-1], self)
        return ops.where(params["grey"][:, None, None, None], _colour.grey(images), images)

    def compose(self, params, matrix, bias, mean):
        """Appends the transform to an affine colour map; see `ColorJitter.compose`."""
        channels = matrix.shape[-1]
        _check_channels(channels, self)
        luma = _colour.luma_weights(channels)
        gray_matrix = ops.sum(matrix * luma[None, :, None], axis=1, keepdims=True)
        gray_bias = ops.sum(bias * luma, axis=-1, keepdims=True)
        chosen = params["grey"][:, None]
        return (
            ops.where(chosen[..., None], gray_matrix, matrix),
            ops.where(chosen, gray_bias, bias),
        )


@register
class Solarize(Transform):
    """Inverts the values from a threshold on.

    Args:
        threshold: Values of at least this are inverted; 0.5 is 128 in bytes.
        probability: Share of the samples that is solarized.
    """

    arguments = ("threshold", "probability")
    uniforms = 1

    def __init__(self, threshold=0.5, probability=0.2):
        self.threshold = float(threshold)
        self.probability = check_probability(probability)

    def parameters(self, uniform, image_shape):
        """Gives "applied", a boolean per sample."""
        return {"applied": uniform[:, 0] < self.probability}

    def apply(self, images, params, exact=False):
        """Solarizes the chosen samples."""
        chosen = ops.logical_and(params["applied"][:, None, None, None], images >= self.threshold)
        return ops.where(chosen, 1.0 - images, images)


@register
class GaussianNoise(Transform):
    """Adds independent normal noise to every value and clips to 0..1.

    Args:
        stddev: Standard deviation, or a range it is drawn from per sample; images are 0..1.
        probability: Share of the samples that gets noise.
    """

    arguments = ("stddev", "probability")
    uniforms = 2
    needs_noise = True

    def __init__(self, stddev, probability=1.0):
        self.stddev = interval(stddev, "stddev")
        self.probability = check_probability(probability)

    def parameters(self, uniform, image_shape):
        """Gives "stddev" per sample, zero where not applied; "noise" is standard normal."""
        stddev = between(uniform[:, 0], *self.stddev)
        applied = ops.cast(uniform[:, 1] < self.probability, "float32")
        return {"stddev": stddev * applied}

    def apply(self, images, params, exact=False):
        """Adds the noise."""
        return ops.clip(images + per_sample(params["stddev"]) * params["noise"], 0.0, 1.0)


@register
class Normalize(Transform):
    """Subtracts a mean and divides by a standard deviation per channel; the last member.

    Args:
        mean: A number or one per channel, for images in 0..1.
        std: A number or one per channel, positive.

    Raises:
        ValueError: If a standard deviation is not positive.
    """

    arguments = ("mean", "std")

    def __init__(self, mean, std):
        self.mean = tuple(float(value) for value in np.atleast_1d(mean))
        self.std = tuple(float(value) for value in np.atleast_1d(std))
        if min(self.std) <= 0:
            raise ValueError(f"`std` must be positive, got {std}.")

    def apply(self, images, params, exact=False):
        """Normalises; see `Transform.apply`."""
        return (images - np.array(self.mean, "float32")) / np.array(self.std, "float32")

    def inverse(self, images):
        """Brings normalised images back to 0..1.

        Args:
            images: (B, H, W, C) float32, normalised.

        Returns:
            (B, H, W, C) float32.
        """
        return images * np.array(self.std, "float32") + np.array(self.mean, "float32")


def _check_channels(channels, transform):
    """Raises where a colour transform meets neither grey nor RGB images."""
    if channels not in (1, 3):
        raise ValueError(
            f"{type(transform).__name__} needs images of 1 or 3 channels, got {channels}; leave "
            f"it out of the pipeline for such images."
        )
