# SPDX-License-Identifier: Apache-2.0
"""Several views of every image."""

import keras

from keras_ssl.core import distribution
from keras_ssl.views._transform import register
from keras_ssl.views.pipeline import Pipeline, as_seed
from keras_ssl.views.preprocessing import Preprocessing

# Tells what is drawn for the view that others are made of from what is drawn for those.
OUTER = 7004


@register
class MultiCrop(keras.layers.Layer):
    """Several views of different pipelines, sizes and counts (Caron et al., 2020, section 3.3).

    Args:
        crops: List of (pipeline, count); views come in this order.
        seed: Seed of the layer's own generator, used when a call gives none.
        **kwargs: Arguments of `keras.layers.Layer`.

    Raises:
        ValueError: If there is no pipeline or a count is below 1.

    Example:
        >>> views = MultiCrop([(large, 2), (small, 6)])
        >>> len(views(images))
        8
    """

    def __init__(self, crops, *, seed=None, **kwargs):
        kwargs.setdefault("dtype", "float32")
        super().__init__(**kwargs)
        crops = [tuple(crop) for crop in crops]
        if not crops or any(len(crop) != 2 or int(crop[1]) < 1 for crop in crops):
            raise ValueError(
                f"`crops` must be a list of (pipeline, count) with counts of at least 1, "
                f"got {crops}."
            )
        self.pipelines = [pipeline for pipeline, _ in crops]
        self.counts = [int(count) for _, count in crops]
        self.seed = seed
        self.seed_generator = keras.random.SeedGenerator(seed)
        self.built = True

    @property
    def count(self) -> int:
        """Number of views."""
        return sum(self.counts)

    @property
    def sizes(self) -> list:
        """(height, width) of every view; None where it is the images' own."""
        return [pipeline.size for pipeline in self.each()]

    @property
    def jit_compatible(self) -> bool:
        """Whether all pipelines compile under XLA, that is wrap no foreign layer."""
        return all(pipeline.jit_compatible for pipeline in self.pipelines)

    def each(self) -> list:
        """The pipeline of every view, in order."""
        return [
            pipeline
            for pipeline, count in zip(self.pipelines, self.counts, strict=True)
            for _ in range(count)
        ]

    def call(self, images, seed=None):
        """Makes all views.

        Args:
            images: (B, H, W, C) uint8 of 0..255 or float of 0..1.
            seed: None for the next of the layer's own generator, an int, or int32 (2,).

        Returns:
            List of (B, h, w, C) float32 tensors.
        """
        seed = as_seed(seed, self.seed_generator)
        return [
            pipeline(images, seed=distribution.fold_in(seed, index))
            for index, pipeline in enumerate(self.each())
        ]

    @property
    def preprocessing(self):
        """The layer behind `preprocess`; see `Pipeline.preprocessing`."""
        return self.pipelines[0].preprocessing

    def preprocess(self, images):
        """The deterministic part of the first pipeline; see `Pipeline.preprocess`."""
        return self.pipelines[0].preprocess(images)

    def compute_output_shape(self, input_shape):
        """A list of shapes, one per view."""
        return [pipeline.compute_output_shape(input_shape) for pipeline in self.each()]

    def get_config(self):
        """The constructor's arguments, pipelines serialised."""
        pipelines = [keras.saving.serialize_keras_object(p) for p in self.pipelines]
        crops = [list(crop) for crop in zip(pipelines, self.counts, strict=True)]
        return {**super().get_config(), "crops": crops, "seed": self.seed}

    @classmethod
    def from_config(cls, config):
        """Builds the layer from `get_config`."""
        crops = config.pop("crops")
        crops = [(keras.saving.deserialize_keras_object(p), count) for p, count in crops]
        return cls(crops, **config)


@register
class TwoViews(MultiCrop):
    """Two views of every image.

    Args:
        first: Pipeline of the first view.
        second: Pipeline of the second view; None uses the first again, with other numbers.
        seed: Seed of the layer's own generator, used when a call gives none.
        **kwargs: Arguments of `keras.layers.Layer`.
    """

    def __init__(self, first, second=None, *, seed=None, **kwargs):
        crops = [(first, 2)] if second is None else [(first, 1), (second, 1)]
        super().__init__(crops, seed=seed, **kwargs)
        self.first, self.second = first, second

    def get_config(self):
        """The constructor's arguments, pipelines serialised."""
        config = super().get_config()
        del config["crops"]
        for name in ("first", "second"):
            pipeline = getattr(self, name)
            config[name] = pipeline and keras.saving.serialize_keras_object(pipeline)
        return config

    @classmethod
    def from_config(cls, config):
        """Builds the layer from `get_config`."""
        pipelines = [config.pop(name) for name in ("first", "second")]
        return cls(*(p and keras.saving.deserialize_keras_object(p) for p in pipelines), **config)


@register
class Nested(MultiCrop):
    """Views of a view: `outer` makes one of every image, and all others are made of that one.

    With a crop in `outer`, and another in one of the pipelines, that view is cut out of the other
    (Eymaël et al., 2024, section 3).

    Args:
        outer: Pipeline of what the others see, without `Normalize`.
        crops: List of (pipeline, count); views come in this order.
        seed: Seed of the layer's own generator, used when a call gives none.
        **kwargs: Arguments of `keras.layers.Layer`.

    Raises:
        ValueError: As `MultiCrop`, or if `outer` normalises.

    Example:
        >>> whole = Pipeline([HorizontalFlip()])
        >>> part = Pipeline([RandomResizedCrop(32, area=(0.3, 0.6)), HorizontalFlip()])
        >>> views = Nested(Pipeline([RandomResizedCrop(32)]), [(whole, 1), (part, 1)])
        >>> large, small = views(images)
    """

    def __init__(self, outer: Pipeline, crops, *, seed=None, **kwargs):
        super().__init__(crops, seed=seed, **kwargs)
        if outer.normalize is not None:
            raise ValueError(
                "The outer pipeline of nested views gives images of 0..1; put `Normalize` at the "
                "end of the others."
            )
        self.outer = outer
        stats = self.pipelines[0].preprocessing
        self._preprocess = Preprocessing(stats.size or outer.size, stats.mean, stats.std)

    @property
    def sizes(self) -> list:
        """(height, width) of every view; None where it is the images' own."""
        return [size or self.outer.size for size in super().sizes]

    @property
    def jit_compatible(self) -> bool:
        """Whether all pipelines compile under XLA, that is wrap no foreign layer."""
        return super().jit_compatible and self.outer.jit_compatible

    def call(self, images, seed=None):
        """Makes all views; see `MultiCrop.call`."""
        seed = as_seed(seed, self.seed_generator)
        images = self.outer(images, seed=distribution.fold_in(seed, OUTER))
        return super().call(images, seed=seed)

    @property
    def preprocessing(self):
        """The layer behind `preprocess`: that of the first view, of the outer one's size."""
        return self._preprocess

    def preprocess(self, images):
        """The deterministic part of both pipelines; see `Pipeline.preprocess`."""
        return self._preprocess(images)

    def compute_output_shape(self, input_shape):
        """A list of shapes, one per view."""
        return super().compute_output_shape(self.outer.compute_output_shape(input_shape))

    def get_config(self):
        """The constructor's arguments, pipelines serialised."""
        return {**super().get_config(), "outer": keras.saving.serialize_keras_object(self.outer)}

    @classmethod
    def from_config(cls, config):
        """Builds the layer from `get_config`."""
        outer = keras.saving.deserialize_keras_object(config["outer"])
        crops = [(keras.saving.deserialize_keras_object(p), n) for p, n in config["crops"]]
        return cls(**{**config, "outer": outer, "crops": crops})
