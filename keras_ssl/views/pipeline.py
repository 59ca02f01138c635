# SPDX-License-Identifier: Apache-2.0
"""A list of transforms that makes one view of a batch of images."""

import itertools
import json

import keras
from keras import ops

from keras_ssl.core import distribution
from keras_ssl.core.compilation import compiled
from keras_ssl.views import _banded, _fused
from keras_ssl.views._transform import Transform, register
from keras_ssl.views.colour import Normalize
from keras_ssl.views.preprocessing import Preprocessing, check_images, to_unit
from keras_ssl.views.wrap import Wrap

# Equal pipelines share their compiled functions: a loaded model need not wait for XLA again.
_COMPILED: dict = {}
MOST_COMPILED = 64


def as_seed(seed, generator):
    """Reads what a user may pass as a seed.

    Args:
        seed: None (the generator's next), an int, or an int32 tensor of shape (2,).
        generator: keras.random.SeedGenerator of the calling layer.

    Returns:
        int32 tensor of shape (2,).
    """
    if seed is None:
        return distribution.next_seed(generator)
    if isinstance(seed, int):
        return distribution.fixed_seed(seed)
    return ops.cast(seed, "int32")


@register
class Pipeline(keras.layers.Layer):
    """Makes one view of every image: transforms in order, compiled, parameters per sample.

    The meaning is that of the members applied one after the other; values are clipped to 0..1
    after every run of space and colour members. Runs of members that are linear in space and
    affine in colour are computed as two resampling matrices and one colour matrix per sample.

    Args:
        transforms: Transforms and Keras layers, `Normalize` last if at all.
        exact: Follow PIL and torchvision: whole-pixel crops, HSV hue, a clip after every colour
            operation. Implies member by member.
        fused: "auto" (fuse unless exact), True or False.
        seed: Seed of the pipeline's own generator, used when a call gives none.
        **kwargs: `name` and other arguments of `keras.layers.Layer`.

    Raises:
        ValueError: For an empty list, a `Normalize` that is not last, or exact with fused.

    Example:
        >>> view = Pipeline([RandomResizedCrop(32), HorizontalFlip(), ColorJitter(0.4)])
        >>> view(images, seed=7).shape
        (256, 32, 32, 3)
    """

    def __init__(self, transforms, *, exact=False, fused="auto", seed=None, **kwargs):
        kwargs.setdefault("dtype", "float32")
        super().__init__(**kwargs)
        transforms = [t if isinstance(t, Transform) else Wrap(t) for t in transforms]
        if not transforms:
            raise ValueError("A pipeline needs at least one transform, got an empty list.")
        if any(isinstance(member, Normalize) for member in transforms[:-1]):
            raise ValueError("`Normalize` must be the last transform, once: the others take 0..1.")
        if exact and fused is True:
            raise ValueError("`exact=True` runs member by member; leave `fused` at its default.")
        self.transforms = transforms
        self.exact, self.fused, self.seed = bool(exact), fused, seed
        self.seed_generator = keras.random.SeedGenerator(seed)
        # Keras tracks layers in lists of layers only; wrapped ones may hold variables.
        self.wrapped_layers = [t.layer for t in transforms if isinstance(t, Wrap)]
        crops = [t.size for t in transforms if hasattr(t, "size")]
        self.size = crops[-1] if crops else None
        last = transforms[-1]
        self.normalize = last if isinstance(last, Normalize) else None
        stats = (self.normalize.mean, self.normalize.std) if self.normalize else (None, None)
        self._preprocess = Preprocessing(self.size, *stats)
        self._sections = [
            (foreign, members, _identity(members, self.exact, self.fused))
            for foreign, members in _sections(transforms)
        ]
        self.built = True

    @property
    def jit_compatible(self) -> bool:
        """Whether the whole pipeline compiles under XLA, that is wraps no foreign layer."""
        return not self.wrapped_layers

    def call(self, images, seed=None):
        """Makes one view.

        Args:
            images: (B, H, W, C) uint8 of 0..255 or float of 0..1.
            seed: None for the next of the pipeline's own generator, an int, or int32 (2,).

        Returns:
            (B, h, w, C) float32.
        """
        check_images(images)
        seed = as_seed(seed, self.seed_generator)
        for index, (foreign, members, key) in enumerate(self._sections):
            section_seed = distribution.fold_in(seed, index)
            if foreign:
                images = to_unit(images)
                drawn = members[0].draw(section_seed, ops.shape(images)[0], images.shape[1:])
                images = members[0].apply(images, drawn, self.exact)
            else:
                numbers = self._numbers(members, section_seed, images)
                shapes = _shapes(members, tuple(images.shape[1:]))
                whole, stages = self._functions(members, (key, *shapes[0], images.dtype))
                if stages is None or not _banded.is_large(shapes):
                    images = whole(images, *numbers)
                else:
                    images = self._run_stages(stages, images, shapes[0], numbers)
        return images

    def _run_stages(self, stages, images, image_shape, numbers):
        """Runs a section of large images pass by pass."""
        state = (images, ops.zeros((ops.shape(images)[0], image_shape[2]), dtype="float32"))
        for stage in stages:
            state = stage(state, image_shape, *numbers)
        return state[0]

    def _numbers(self, members, seed, images):
        """Draws all random numbers of a section outside the compiled part."""
        rows, shape, noises = ops.shape(images)[0], tuple(images.shape[1:]), []
        uniform = distribution.uniform_rows(seed, rows, (sum(m.uniforms for m in members),))
        for index, member in enumerate(members):
            if member.needs_noise:
                stream = distribution.fold_in(seed, index + 1)
                noises.append(distribution.normal_rows(stream, rows, shape))
            shape = member.output_shape(shape)
        return uniform, noises

    def parameters(self, images, seed) -> list[dict]:
        """The parameters of every compiled member for a batch, to look at or to test.

        Args:
            images: As in `call`.
            seed: As in `call`.

        Returns:
            One dict of tensors per member, without those of wrapped layers.
        """
        seed, shape, result = as_seed(seed, self.seed_generator), tuple(images.shape[1:]), []
        for index, (foreign, members, _) in enumerate(self._sections):
            if not foreign:
                section_seed = distribution.fold_in(seed, index)
                numbers = self._numbers(members, section_seed, images)
                result += _parameters(members, shape, *numbers)
            for member in members:
                shape = member.output_shape(shape)
        return result

    def _functions(self, members, key):
        """The compiled forms of a section: as a whole, and in stages (None where nothing fuses)."""
        # By shape too: a trace for any height and width would not know those of the images.
        if key not in _COMPILED:
            while len(_COMPILED) >= MOST_COMPILED:
                _COMPILED.pop(next(iter(_COMPILED)))
            _COMPILED[key] = self._make_functions(members)
        return _COMPILED[key]

    def _make_functions(self, members):
        runs = _fused.split_runs(members)

        def apply(images, uniform, noises):
            params = _parameters(members, tuple(images.shape[1:]), uniform, noises)
            images = to_unit(images)
            for run in runs:
                drawn, params = params[: len(run)], params[len(run) :]
                images = self._apply_run(run, drawn, images)
            return images

        if not any(self._fuses(run) for run in runs):
            return compiled(apply), None
        return compiled(apply), self._stages(members, runs)

    def _apply_run(self, run, params, images):
        if self._fuses(run):
            return _fused.apply_fused(run, params, images)
        return _fused.apply_sequential(run, params, images, self.exact)

    def _stages(self, members, runs):
        """Compiled functions of (state, image_shape, uniform, noises), one per pass."""
        stages, done = [], 0
        for run in runs:
            chosen = slice(done, done + len(run))
            done += len(run)
            passes = _banded.stages(run) if self._fuses(run) else [self._pass(run)]
            if stages and not self._fuses(run):
                # A pointwise tail rides on the pass before it: one pass less over the pixels.
                before, earlier = stages.pop()
                passes = [_chained(before, earlier, passes[0], chosen)]
                stages.append((passes[0], None))
            else:
                stages += [(function, chosen) for function in passes]
        return [compiled(_stage(members, function, chosen)) for function, chosen in stages]

    def _pass(self, run):
        def apply(state, params):
            return self._apply_run(run, params, state[0]), state[1]

        return apply

    def _fuses(self, run):
        wanted = not self.exact if self.fused == "auto" else self.fused
        return wanted and run[0].kind in _fused.FUSIBLE

    @property
    def preprocessing(self) -> Preprocessing:
        """The layer behind `preprocess`: value range, size and normalisation."""
        return self._preprocess

    def preprocess(self, images):
        """The deterministic part: 0..1, resize and centre crop to the view's size, normalise.

        Args:
            images: (B, H, W, C) uint8 or float, also a symbolic Keras tensor.

        Returns:
            (B, h, w, C) float32.
        """
        return self._preprocess(images)

    def compute_output_shape(self, input_shape):
        """The shape of a view."""
        shape = tuple(input_shape[1:])
        for member in self.transforms:
            shape = member.output_shape(shape)
        return (input_shape[0], *shape)

    def get_config(self):
        """The constructor's arguments, transforms serialised."""
        config = {
            "transforms": [keras.saving.serialize_keras_object(t) for t in self.transforms],
            "exact": self.exact,
            "fused": self.fused,
            "seed": self.seed,
        }
        return {**super().get_config(), **config}

    @classmethod
    def from_config(cls, config):
        """Builds the pipeline from `get_config`."""
        members = [keras.saving.deserialize_keras_object(t) for t in config.pop("transforms")]
        return cls(members, **config)


def _identity(members, *settings):
    """A key that equal members share; one of its own where settings are not plain values."""
    try:
        configs = [json.dumps(member.get_config(), sort_keys=True) for member in members]
    except TypeError:
        return object()
    # The classes themselves: a class that was defined again under its name is another one.
    return (*settings, *((type(m), c) for m, c in zip(members, configs, strict=True)))


def _sections(transforms):
    """Splits the members where a foreign layer stands: (foreign, members) in order."""
    groups = itertools.groupby(enumerate(transforms), lambda item: _section_key(*item))
    return [(key != -1, [member for _, member in group]) for key, group in groups]


def _shapes(members, image_shape):
    """Image shapes before, between and after members."""
    shapes = [image_shape]
    for member in members:
        shapes.append(member.output_shape(shapes[-1]))
    return shapes


def _stage(members, function, chosen):
    """A pass as a function of the section's random numbers; parameters cost next to nothing."""

    def apply(state, image_shape, uniform, noises):
        params = _parameters(members, tuple(image_shape), uniform, noises)
        images, mean = state
        return function((to_unit(images), mean), params if chosen is None else params[chosen])

    return apply


def _chained(first, first_chosen, second, second_chosen):
    """Two passes as one function of all parameters."""

    def apply(state, params):
        state = first(state, params if first_chosen is None else params[first_chosen])
        return second(state, params[second_chosen])

    return apply


def _section_key(index, member):
    return index if member.kind == "foreign" else -1


def _parameters(members, image_shape, uniform, noises):
    """Parameters of the members of a section from its random numbers."""
    params, noises, column = [], list(noises), 0
    for member in members:
        drawn = member.parameters(uniform[:, column : column + member.uniforms], image_shape)
        if member.needs_noise:
            drawn = {**drawn, "noise": noises.pop(0)}
        params.append(drawn)
        column += member.uniforms
        image_shape = member.output_shape(image_shape)
    return params
