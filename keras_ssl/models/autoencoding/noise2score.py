# SPDX-License-Identifier: Apache-2.0
"""Noise2Score."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import keras
from keras import ops

from keras_ssl.backbones import UNet
from keras_ssl.core import SSLModel, distribution, register
from keras_ssl.core.seeds import layer_seed
from keras_ssl.layers import TweediePosterior
from keras_ssl.models.encoder_model import as_float
from keras_ssl.schedules import LinearWarmup

SCALES = {"gaussian": (0.05, 0.001), "gamma": (0.05, 0.001), "poisson": (1.0, 0.5)}


@register(
    paper="Noise2Score: Tweedie's Approach to Self-Supervised Image Denoising without Clean Images",
    year=2021,
    family="denoising",
    modality="image",
)
class Noise2Score(SSLModel):
    """Learns to remove noise of a known kind from noisy images alone.

    A little more noise s · u is added to noisy images y, and the network is asked for the u that
    was added: the mean of (u + s · score(y + s · u))² is smallest where score is the gradient of
    the log density of noisy images, blurred by s, which falls along a line. Tweedie's formula makes
    the estimate of the clean image of it. Clean images are never seen.

    `model(y)`, and so `predict`, gives denoised images; `model.score(y)` the gradient.

    Args:
        network: a Keras model from images to images of the same shape, linear at the end; or the
            shape `(H, W, C)` of an image, for a `backbones.UNet`. Its output is divided by the
            deviation of the noise, so that it starts at the size of a score.
        family: of the noise: `"gaussian"`, `"poisson"` or `"gamma"`; see `layers.TweediePosterior`.
        level: of the noise: its deviation, the value of one count, or the shape k.
        scale: s, as a pair of the first and the last, a number, or a callable of the number of
            updates; in units of images, for Poisson noise of counts. `None` is the paper's: 0.05 to
            0.001, for Poisson noise 1 to 0.5. A short training needs a larger last s, about a third
            of the noise: what the loss says of the score grows with s².
        anneal_steps: updates in which a pair goes from the first to the last.
        clip: range of denoised values, or `None`.
        **kwargs: `seed`, `name`, `dtype`.

    Raises:
        ValueError: for an unknown family, a level or scale that is not positive, or a network that
            changes the shape.

    Source: Kim and Ye, 2021, sections 3 and 4; https://arxiv.org/abs/2106.07009. One s for a batch
    as in the released code.

    Example:

    ```python
    model = Noise2Score((64, 64, 1), "gaussian", level=25 / 255)
    model.compile(keras.optimizers.Adam(2e-4))
    model.fit(noisy, batch_size=16, epochs=100)
    clean = model.predict(noisy)
    ```
    """

    loss_terms = ("denoising",)

    def __init__(
        self,
        network: keras.Model | Sequence[int],
        family: str = "gaussian",
        level: float = 0.1,
        scale: float | Sequence[float] | Callable | None = None,
        anneal_steps: int = 22_000,
        clip: Sequence[float] | None = (0.0, 1.0),
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        # Names the families, and what is wrong.
        self.posterior = TweediePosterior(family, level)
        self.family, self.level, self.anneal_steps = family, float(level), anneal_steps
        scale = SCALES[family] if scale is None else scale
        numbers = tuple(scale) if isinstance(scale, Sequence) else (scale,)
        if not all(callable(number) or number > 0 for number in numbers):
            raise ValueError(f"scale is the deviation of added noise, above 0; received {scale}.")
        self.scale: Any = numbers if isinstance(scale, Sequence) else scale
        self.clip = None if clip is None else tuple(clip)
        if not isinstance(network, keras.Model):
            network = UNet(tuple(network), seed=layer_seed(self.seed, 1))
        self.network = _checked_network(network)
        # The score of noise with deviation d is of the size 1 / d; that of counts is a logarithm.
        sizes = {"gaussian": 1.0 / self.level, "poisson": 1.0, "gamma": math.sqrt(self.level)}
        self.size = sizes[family]
        self.noise_generator = keras.random.SeedGenerator(self.seed)
        self.built = True

    def seen(self, images: Any) -> Any:
        """Noisy images as the network sees them, float32: uint8 as 0..1, Poisson as counts."""
        images = ops.cast(as_float(images), "float32")
        return images / self.level if self.family == "poisson" else images

    def score_of(self, seen: Any, training: bool = False) -> Any:
        """The score at what `seen` gave, float32."""
        return self.size * ops.cast(self.network(seen, training=training), "float32")

    def score(self, images: Any) -> Any:
        """The gradient of the log density at noisy images, of counts for Poisson noise."""
        return self.score_of(self.seen(images))

    def denoise(self, images: Any, training: bool = False) -> Any:
        """Estimates of clean images `(B, H, W, C)`, float32, of noisy ones."""
        seen = self.seen(images)
        noisy = seen * self.level if self.family == "poisson" else seen
        found = self.posterior(noisy, self.score_of(seen, training))
        return found if self.clip is None else ops.clip(found, *self.clip)

    def call(self, inputs: Any, training: bool = False) -> Any:
        """Denoised images."""
        return self.denoise(inputs, training)

    def make_views(self, batch: Any) -> dict[str, Any]:
        """What the network sees of noisy images, the noise that is added, and its scale."""
        seed = self.view_seed
        seed = distribution.next_seed(self.noise_generator) if seed is None else seed
        seen = self.seen(batch)
        noise = distribution.normal_rows(seed, ops.shape(seen)[0], seen.shape[1:])
        scale = self.scale
        if isinstance(scale, tuple):
            scale = LinearWarmup(scale[0], scale[1], self.anneal_steps)
        return {"inputs": seen, "noise": noise, "scale": ops.cast(self.now(scale), "float32")}

    def compute_losses(self, views: dict, training: bool) -> dict[str, Any]:
        """How well the score predicts the noise that was added."""
        noise, scale = views["noise"], views["scale"]
        score = self.score_of(views["inputs"] + scale * noise, training)
        return {"denoising": ops.mean(ops.square(noise + scale * score))}


def _checked_network(network: keras.Model) -> keras.Model:
    given, made = tuple(network.input_shape), tuple(network.output_shape)
    if given != made:
        raise ValueError(
            f"the network gives {made[1:]} for images of {given[1:]}; a score has the shape of its "
            "image. Give a model that keeps it, such as backbones.UNet."
        )
    return network
