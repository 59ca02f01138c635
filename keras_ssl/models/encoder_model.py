# SPDX-License-Identifier: Apache-2.0
"""What every objective with an encoder for raw samples has in common."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from keras_ssl import views as views_module
from keras_ssl.core import SSLModel, distribution
from keras_ssl.core.seeds import layer_seed
from keras_ssl.layers import MLP, unsynchronized_batch_norms


class EncoderModel(SSLModel):
    """An objective that trains one `encoder`, whose representation it hands over.

    A subclass sets `encoder` and `views`, a layer with a deterministic part `preprocess`; without
    views samples go to the encoder as float32, uint8 scaled to 0..1.

    Args:
        **kwargs: `seed`, `name`, `dtype`.
    """

    encoder: keras.Model
    views: Any

    def __init__(self, **kwargs: Any):
        super().__init__(**kwargs)
        self.view_generator = keras.random.SeedGenerator(self.seed)

    def draw_seed(self) -> Any:
        """The next seed of the views, int32 `(2,)`, alike on all replicas; fixed in evaluation."""
        seed = self.view_seed
        return distribution.next_seed(self.view_generator) if seed is None else seed

    def build_head(
        self, head: Sequence[int] | keras.Layer, width: int, position: int, **options: Any
    ) -> keras.Layer:
        """A built head for inputs of a width.

        Args:
            head: widths of an `MLP`, or a layer that is used as it is.
            width: number of input features.
            position: tells this head's initial weights from the other heads'.
            **options: arguments of `MLP`, where widths are given.

        Returns:
            The built layer.

        Raises:
            ValueError: if a given layer was built for another width.
        """
        if not isinstance(head, keras.Layer):
            seed = layer_seed(self.seed, position)
            head = MLP(head, seed=seed, dtype=self.dtype_policy, **options)
        if not head.built:
            head.build((None, width))
        try:
            head.compute_output_spec(keras.KerasTensor((2, width), dtype=self.compute_dtype))
        except Exception as error:
            raise ValueError(
                f"The head {head.name!r} does not accept vectors of width {width}, which is what "
                f"it would be given. Build it for that width, or give widths instead. ({error})"
            ) from error
        return head

    @property
    def representing(self) -> keras.Model:
        """The network that gives representations: the encoder, or a teacher that is better."""
        return self.encoder

    def call(self, inputs: Any, training: bool = False) -> Any:
        """Representations `(B, features)` of raw samples, such as images `(B, H, W, C)`."""
        return self.representing(self.preprocess(inputs), training=training)

    def preprocess(self, inputs: Any) -> Any:
        """Raw samples as the encoder takes them: the deterministic part of the views."""
        if self.views is not None:
            return self.views.preprocess(inputs)
        return keras.tree.map_structure(as_float, inputs)

    def standalone_encoder(self, preprocessing: bool = True, dtype: str = "uint8") -> keras.Model:
        """The trained encoder as a plain Keras model, sharing its weights.

        Args:
            preprocessing: whether value range, size and normalisation are inside.
            dtype: dtype of the raw images, `"uint8"` (0..255) or `"float32"` (0..1); with
                `preprocessing=False` the input is float32, normalised by the caller.

        Returns:
            Functional model for `predict`, `save` and `export`. Where the images need no
            resizing it is made of Keras' own layers and its file loads without this package.
        """
        encoder = self.representing
        if not preprocessing or isinstance(encoder.input, (dict, list)):
            return encoder
        shape = tuple(encoder.input_shape[1:])
        size = getattr(getattr(self.views, "preprocessing", None), "size", None)
        if None in shape and size is not None:
            shape = (*size, shape[-1])
        images = keras.Input(shape, dtype=dtype, name="images" if len(shape) == 3 else "samples")
        prepared = self._stock_preprocessing(dtype, shape[:2])(images)
        features = encoder(prepared, training=False)
        return keras.Model(images, features, name="encoder")

    def _stock_preprocessing(self, dtype: str, size: tuple) -> Any:
        """The deterministic part of the views, as a Keras layer where one says the same."""
        top = 255.0 if dtype == "uint8" else 1.0
        if self.views is None:
            return keras.layers.Rescaling(1.0 / top)
        own = getattr(self.views, "preprocessing", self.views.preprocess)
        if not isinstance(own, views_module.Preprocessing) or own.size not in (None, size):
            return own
        mean, std = own.mean or (0.0,), own.std or (1.0,)
        return keras.layers.Rescaling(
            [1.0 / (top * s) for s in std], [-m / s for m, s in zip(mean, std, strict=True)]
        )

    def check_replicas(self, replicas: int) -> None:
        """Warns of batch normalisation that would see one replica's rows only."""
        names = unsynchronized_batch_norms(self.encoder)
        if names:
            warnings.warn(
                f"{len(names)} BatchNormalization layers of the encoder ({', '.join(names[:3])}"
                f"{', …' if len(names) > 3 else ''}) take statistics of one of {replicas} "
                "replicas only; results will differ from one device. Convert the encoder with "
                "keras_ssl.layers.synchronize_batch_norm(encoder).",
                stacklevel=3,
            )


def as_float(x: Any) -> Any:
    """Numbers as float32, uint8 scaled to 0..1; integers and booleans of other kinds stay."""
    whole = keras.backend.standardize_dtype(x.dtype) == "uint8"
    x = ops.cast(x, "float32") if whole or "float" in str(x.dtype) else x
    return x / 255.0 if whole else x
