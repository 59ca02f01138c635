# SPDX-License-Identifier: Apache-2.0
"""Views of every image, and by which transformations they differ."""

import functools
import logging
import math

import keras
from keras import ops

from keras_ssl.core import distribution
from keras_ssl.views._transform import register
from keras_ssl.views.colour import ColorJitter, GaussianNoise, Grayscale, Normalize, Solarize
from keras_ssl.views.geometry import Affine, GaussianBlur, HorizontalFlip, RandomResizedCrop
from keras_ssl.views.multi import MultiCrop, TwoViews
from keras_ssl.views.pipeline import as_seed

logger = logging.getLogger("keras_ssl")

# Parameters that are angles in radians, and those that undo themselves.
CIRCULAR = ("angle", "hue")
SELF_INVERSE = ("flip",)
# A factor of 0 has no logarithm; images below a twentieth of their brightness are black.
_LEAST = 0.05


@functools.singledispatch
def described(member, params: dict, image_shape: tuple[int, int, int]) -> dict:
    """What a transform did to every sample, in numbers that are 0 where it did nothing.

    A transform of your own joins in with `@described.register`.

    Args:
        member: the transform.
        params: its parameters, as `Pipeline.parameters` gives them.
        image_shape: (height, width, channels) of the images that it got.

    Returns:
        `{name: (B,) float32}`; none for transforms that are not known.
    """
    return {}


@described.register
def _(member: RandomResizedCrop, params, image_shape):
    (top, height), (left, width) = member.boxes(params, image_shape)
    full_height, full_width = float(image_shape[0]), float(image_shape[1])
    return {
        "down": (top + height / 2.0) / full_height - 0.5,
        "right": (left + width / 2.0) / full_width - 0.5,
        "log_height": ops.log(height / full_height),
        "log_width": ops.log(width / full_width),
    }


@described.register
def _(member: HorizontalFlip, params, image_shape):
    return {"flip": ops.cast(params["flip"], "float32")}


@described.register
def _(member: Affine, params, image_shape):
    drawn = {
        "angle": (params["angle"], member.rotation > 0),
        "log_scale": (ops.log(params["scale"]), member.scale != (1.0, 1.0)),
        "shift_down": (params["down"] / float(image_shape[0]), member.shift > 0),
        "shift_right": (params["right"] / float(image_shape[1]), member.shift > 0),
    }
    return {name: value for name, (value, varies) in drawn.items() if varies}


@described.register
def _(member: ColorJitter, params, image_shape):
    factors = [n for n in ("brightness", "contrast", "saturation") if getattr(member, n) > 0]
    made = {f"log_{name}": ops.log(ops.maximum(params[name], _LEAST)) for name in factors}
    return made | ({"hue": 2.0 * math.pi * params["hue"]} if member.hue > 0 else {})


@described.register
def _(member: Grayscale, params, image_shape):
    return {"grey": ops.cast(params["grey"], "float32")}


@described.register
def _(member: GaussianBlur, params, image_shape):
    applied = ops.cast(params["applied"], "float32")
    return {"blur": applied * params["sigma"] / member.sigma[1]}


@described.register
def _(member: Solarize, params, image_shape):
    return {"solarize": ops.cast(params["applied"], "float32")}


class _Compared(keras.layers.Layer):
    """Views of pipelines whose members say what they drew, so that two can be compared."""

    def __init__(self, views, seed, **kwargs):
        kwargs.setdefault("dtype", "float32")
        super().__init__(**kwargs)
        self.views, self.seed = views, seed
        self.seed_generator = keras.random.SeedGenerator(seed)
        self._plain = list(dict.fromkeys(n for p in views.each() for n in _names(p)))
        self.names = [part for name in self._plain for part in _parts(name)]
        if not self.names:
            raise ValueError(
                f"No member of {views.each()[0].transforms} has parameters that could be compared. "
                "Add a crop, a flip, a rotation or a colour jitter."
            )
        known = [*_registered(), GaussianNoise, Normalize]
        members = [m for pipeline in views.each() for m in pipeline.transforms]
        for name in sorted({type(m).__name__ for m in members if not isinstance(m, tuple(known))}):
            logger.info("%s takes no part in the relative parameters.", name)
        self.built = True

    @property
    def latent_size(self) -> int:
        """Number of relative parameters; `names` tells which."""
        return len(self.names)

    def _described(self, images, seed) -> list:
        """What the pipeline of every view did to every image."""
        return [
            _describe(pipeline, images, distribution.fold_in(seed, index))
            for index, pipeline in enumerate(self.views.each())
        ]

    def _compare(self, first, second, zero):
        """Relative parameters of what two pipelines did; `zero` where one has no such member."""
        columns = []
        for name in self._plain:
            columns += _difference(name, first.get(name, zero), second.get(name, zero))
        return ops.stack(columns, axis=1)

    def get_config(self):
        """The constructor's arguments, views serialised."""
        views = keras.saving.serialize_keras_object(self.views)
        return {**super().get_config(), "views": views, "seed": self.seed}

    @classmethod
    def from_config(cls, config):
        """Builds the layer from `get_config`."""
        config = dict(config)
        return cls(keras.saving.deserialize_keras_object(config.pop("views")), **config)


@register
class WithParameters(_Compared):
    """Two random views of every image and their relative parameters.

    The pipelines are those of any recipe. What their members drew is compared between the two
    views: position and size of the crop, angle, scale and shift, flip, brightness, contrast,
    saturation, hue, grey, blur and solarisation, as far as the pipelines vary them. The numbers
    are differences (of logarithms, for factors) and are 0 where both views got the same:

    * an angle, and the hue, gives two: the sine and the cosine less 1 of the difference;
    * the flip gives 1 where one of the views is mirrored, in either direction;
    * everything else changes its sign when the views swap, and so does the sine.

    Noise, normalisation and wrapped Keras layers have no such numbers.

    Call: `layer(images, seed=None)` with images `(B, H, W, C)` uint8 or float gives
    `([first, second], latent)`: views as of `views` and float32 `(B, latent_size)`.

    Args:
        views: `TwoViews`, or a `Pipeline`, seen twice.
        seed: seed of the layer's own generator, used when a call gives none.
        **kwargs: arguments of `keras.layers.Layer`.

    Raises:
        ValueError: for other than two views of pipelines, or none with such parameters.

    Example:
        >>> layer = WithParameters(get("simclr"))
        >>> (first, second), latent = layer(images, seed=0)
        >>> dict(zip(layer.names, latent[0]))
    """

    def __init__(self, views, *, seed=None, **kwargs):
        if hasattr(views, "transforms"):
            views = TwoViews(views)
        if getattr(views, "count", None) != 2 or not hasattr(views, "each"):
            raise ValueError(
                f"Relative parameters need exactly two views of pipelines, such as TwoViews; got "
                f"{getattr(views, 'count', 'no')} views of {type(views).__name__}."
            )
        super().__init__(views, seed, **kwargs)

    def call(self, images, seed=None):
        """Makes both views, and the relative parameters."""
        seed = as_seed(seed, self.seed_generator)
        return self.views(images, seed=seed), self.relative(images, seed)

    def relative(self, images, seed):
        """The relative parameters of the views that `self.views(images, seed=seed)` makes.

        Args:
            images: (B, H, W, C), of which only the shape matters.
            seed: int or int32 (2,).

        Returns:
            (B, latent_size) float32.
        """
        made = self._described(images, as_seed(seed, self.seed_generator))
        return self._compare(*made, ops.zeros((ops.shape(images)[0],), "float32"))

    def compute_output_shape(self, input_shape):
        """Shapes of both views and of the latent."""
        return self.views.compute_output_shape(input_shape), (input_shape[0], self.latent_size)


@register
class SequenceWithParameters(_Compared):
    """A sequence of random views of every image, and what changes from each to the next.

    The changes are those of `WithParameters`, between neighbours. Where two pipelines are given,
    as in BYOL's views, the second makes the last view alone.

    Call: `layer(images, seed=None)` with images `(B, H, W, C)` uint8 or float gives a dict of
    `"views"`, float32 `(B, count, h, w, C)`, and `"actions"`, float32
    `(B, count - 1, latent_size)`, as `models.SeqJEPA` takes it.

    Args:
        views: a `Pipeline`, or a layer of several such as `TwoViews`: its first makes all views but
            the last, and its last that one.
        count: number of views.
        seed: seed of the layer's own generator, used when a call gives none.
        **kwargs: arguments of `keras.layers.Layer`.

    Raises:
        ValueError: for fewer than two views, views of several sizes, or none with such parameters.

    Source: seq-JEPA, 2025, released code (both pipelines, and that parameters are compared).

    Example:
        >>> layer = SequenceWithParameters(get("byol"), count=4)
        >>> layer(images, seed=0)["actions"].shape
        (256, 3, 12)
    """

    def __init__(self, views, count=4, *, seed=None, **kwargs):
        pipelines = [views] if hasattr(views, "transforms") else getattr(views, "each", list)()
        if not pipelines or count < 2:
            raise ValueError(
                "A sequence needs a Pipeline, or a layer of several such as TwoViews, and at least "
                f"2 views; got {type(views).__name__} and count={count}."
            )
        first, last = pipelines[0], pipelines[-1]
        if first.size != last.size:
            raise ValueError(
                f"Views of a sequence are of one size; got {first.size} and {last.size}."
            )
        self.count = int(count)
        super().__init__(MultiCrop([(first, self.count - 1), (last, 1)]), seed, **kwargs)

    def call(self, images, seed=None):
        """Makes all views, and what changes between them."""
        seed = as_seed(seed, self.seed_generator)
        views = ops.stack(self.views(images, seed=seed), axis=1)
        made, zero = self._described(images, seed), ops.zeros((ops.shape(images)[0],), "float32")
        pairs = zip(made[:-1], made[1:], strict=True)
        changes = [self._compare(first, second, zero) for first, second in pairs]
        return {"views": views, "actions": ops.stack(changes, axis=1)}

    @property
    def jit_compatible(self) -> bool:
        """Whether all pipelines compile under XLA, that is wrap no foreign layer."""
        return self.views.jit_compatible

    @property
    def preprocessing(self):
        """The layer behind `preprocess`; see `Pipeline.preprocessing`."""
        return self.views.preprocessing

    def preprocess(self, images):
        """The deterministic part of the first pipeline; see `Pipeline.preprocess`."""
        return self.views.preprocess(images)

    def compute_output_shape(self, input_shape):
        """Shapes of the views and of the changes."""
        one = self.views.compute_output_shape(input_shape)[0]
        changes = (one[0], self.count - 1, self.latent_size)
        return {"views": (one[0], self.count, *one[1:]), "actions": changes}

    def get_config(self):
        """The constructor's arguments, views serialised."""
        return {**super().get_config(), "count": self.count}


def _registered() -> list[type]:
    return [cls for cls in described.registry if cls is not object]


def _describe(pipeline, images, seed) -> dict:
    """What a pipeline did to every image, by name; 0 is nothing."""
    drawn = iter(pipeline.parameters(images, seed))
    return _collect(pipeline, tuple(images.shape[1:]), lambda member, shape: next(drawn))


def _names(pipeline) -> list[str]:
    """Names of what a pipeline's members vary, found on one imaginary image."""

    def draw(member, shape):
        return member.parameters(ops.full((1, member.uniforms), 0.5), shape)

    return list(_collect(pipeline, (8, 8, 3), draw))


def _collect(pipeline, shape, params_of) -> dict:
    made = {}
    for member in pipeline.transforms:
        if member.kind != "foreign":
            params = params_of(member, shape)
            for name, value in described(member, params, shape).items():
                repeated = sum(known.split("#")[0] == name for known in made)
                made[f"{name}#{repeated + 1}" if repeated else name] = value
        shape = member.output_shape(shape)
    return made


def _parts(name) -> list[str]:
    return [f"sin_{name}", f"cos_{name}"] if name.split("#")[0] in CIRCULAR else [name]


def _difference(name, first, second) -> list:
    change = second - first
    kind = name.split("#")[0]
    if kind in CIRCULAR:
        # Less 1, so that no change is 0 here too.
        return [ops.sin(change), ops.cos(change) - 1.0]
    return [ops.abs(change)] if kind in SELF_INVERSE else [change]
