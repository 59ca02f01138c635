# SPDX-License-Identifier: Apache-2.0
"""Keras and keras-cv preprocessing layers as members of a pipeline."""

import logging

import keras
from keras import ops

from keras_ssl.core.distribution import fold_in, replica_count
from keras_ssl.views._transform import Transform, register

logger = logging.getLogger("keras_ssl")
_announced: set[str] = set()


class _Stream(keras.random.SeedGenerator):
    """Seeds derived from one seed without a variable, so that it may be made inside a step."""

    def __init__(self, seed):
        # The parent's constructor would create a variable.
        self._start, self._count = seed, 0

    def next(self, ordered=True):
        self._count += 1
        return ops.cast(fold_in(self._start, self._count), "uint32")


@register
class Wrap(Transform):
    """Runs any Keras or keras-cv preprocessing layer as a member of a pipeline.

    It runs outside the compiled part, since layers such as `keras_cv.layers.RandAugment` do not
    compile; the log says so once per class. Keras layers with the
    `get_random_transformation` interface follow the pipeline's seed, others their own. Unlike the
    transforms of this package a wrapped layer draws for the rows of its replica only.

    Args:
        layer: The layer; it gets (B, H, W, C) float32 in `value_range`.
        value_range: What the layer takes as black and white; None reads `layer.value_range`, else
            (0, 255).

    Raises:
        ValueError: If `layer` is not a Keras layer.
    """

    kind = "foreign"
    arguments = ("layer", "value_range")

    def __init__(self, layer, value_range=None):
        if not callable(layer) or not hasattr(layer, "get_config"):
            raise ValueError(
                f"A pipeline holds transforms and Keras layers, got {layer!r} of type "
                f"{type(layer).__name__}."
            )
        self.layer = layer
        if value_range is None:
            value_range = getattr(layer, "value_range", None) or (0.0, 255.0)
        self.value_range = tuple(float(end) for end in value_range)

    def draw(self, seed, rows, image_shape):
        """Passes the seed on."""
        return {"seed": seed}

    def apply(self, images, params, exact=False):
        """Scales to `value_range`, calls the layer, and scales back with a clip to 0..1."""
        self.announce()
        low, high = self.value_range
        scaled = images * (high - low) + low
        scaled = ops.cast(self._call(scaled, params["seed"]), "float32")
        return ops.clip((scaled - low) / (high - low), 0.0, 1.0)

    def _call(self, images, seed):
        if not hasattr(self.layer, "get_random_transformation") or not hasattr(
            self.layer, "transform_images"
        ):
            return self.layer(images, training=True)
        try:
            drawn = self.layer.get_random_transformation(images, training=True, seed=_Stream(seed))
            return self.layer.transform_images(images, drawn, training=True)
        except (TypeError, NotImplementedError):
            # keras-cv has methods of the same names with other signatures.
            return self.layer(images, training=True)

    def announce(self):
        """Says once per layer class that it runs outside the compiled part."""
        name = f"{type(self.layer).__module__.split('.')[0]}.{type(self.layer).__name__}"
        if name not in _announced:
            _announced.add(name)
            logger.info("%s runs outside the compiled part of the view pipeline.", name)
            own = not getattr(self.layer, "draws_for_all_replicas", False)
            if own and replica_count() > 1:
                logger.warning("%s draws its numbers on every replica for itself.", name)

    def output_shape(self, image_shape):
        """The layer's output shape for one image."""
        shape = self.layer.compute_output_shape((None, *image_shape))
        return tuple(shape[1:])

    def get_config(self):
        """The constructor's arguments, the layer serialised."""
        layer = keras.saving.serialize_keras_object(self.layer)
        return {"layer": layer, "value_range": self.value_range}

    @classmethod
    def from_config(cls, config):
        """Builds the wrapper and its layer from `get_config`."""
        layer = keras.saving.deserialize_keras_object(config["layer"])
        return cls(layer, config["value_range"])
