# SPDX-License-Identifier: Apache-2.0
"""The engine of joint embedding: views → encoder → projector (→ predictor)."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from keras_ssl import views as views_module
from keras_ssl.core import SSLModel, distribution
from keras_ssl.core.seeds import layer_seed
from keras_ssl.layers import MLP, as_encoder, unsynchronized_batch_norms
from keras_ssl.layers._encoder import for_sizes


class JointEmbedding(SSLModel):
    """Compares projections of several views of one image; a method adds its losses.

    Calling the model gives the representation: raw images go through the deterministic part
    of the views (value range, size, normalisation) and the encoder.

    Args:
        encoder: any Keras model from image `(H, W, C)` to vector; a feature map is pooled.
        projector: head on the representation: widths of an `MLP`, or any Keras layer.
        views: name of a view recipe (`"simclr"`, `"byol"`, …) or a layer such as
            `views.TwoViews`.
        **kwargs: `seed`, `name`, `dtype`.

    Raises:
        ValueError: for an encoder without fixed output size, a head that does not fit it, or
            views of a size that it cannot take.
    """

    minimum_batch = 2

    def __init__(
        self,
        encoder: keras.Model,
        projector: Sequence[int] | keras.Layer,
        views: str | keras.Layer = "simclr",
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.encoder = as_encoder(encoder)
        shape = tuple(self.encoder.input_shape[1:])
        if isinstance(views, str) and None in shape:
            raise ValueError(
                f"The encoder takes images of any size, so the size of the views {views!r} is "
                f"open. Pass views=keras_ssl.views.get({views!r}, (height, width, channels))."
            )
        self.views = views_module.get(views, image_shape=shape)
        self.view_encoder = for_sizes(self.encoder, getattr(self.views, "sizes", ()))
        self.view_generator = keras.random.SeedGenerator(self.seed)
        self.projector = self.build_head(projector, self.width, position=1)
        self.built = True

    @property
    def width(self) -> int:
        """Number of features of the representation."""
        return self.encoder.output_shape[-1]

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

    def make_views(self, batch: Any) -> list:
        """Views of a batch of images, `(B, H, W, C)` uint8 or float32 in 0..1."""
        self.check_images(batch)
        return self.views(batch, seed=self.draw_seed())

    def draw_seed(self) -> Any:
        """The next seed of the views, int32 `(2,)`, alike on all replicas; fixed in evaluation."""
        seed = self.view_seed
        return distribution.next_seed(self.view_generator) if seed is None else seed

    def check_images(self, images: Any) -> None:
        """Raises when images cannot be what the encoder was made for.

        Raises:
            ValueError: for another rank or number of channels.
        """
        shape = getattr(images, "shape", None)
        channels = self.encoder.input_shape[-1]
        if shape is None or len(shape) != 4 or shape[-1] not in (channels, None):
            received = f"a {type(images).__name__}" if shape is None else f"shape {tuple(shape)}"
            raise ValueError(
                f"{type(self).__name__} takes images (batch, height, width, {channels}), received "
                f"{received}. Add or convert the channel axis, or build the encoder for it."
            )

    def project(self, view: Any, training: bool = False) -> Any:
        """Projections `(B, D)` of one view, `(B, h, w, C)` as `make_views` gives it."""
        return self.projector(self.view_encoder(view, training=training), training=training)

    def encode_views(self, views: Sequence, training: bool = False) -> list:
        """Representations of several views, with one call of the encoder for each image size.

        Views of one size share a call, and with it the statistics of batch normalisation.

        Args:
            views: tensors `(B, h, w, C)` as `make_views` gives them; sizes may differ.
            training: whether layers run in training mode.

        Returns:
            list of `(B, features)`, one a view, in the order of the views.
        """
        features: dict[int, Any] = {}
        sizes = [tuple(view.shape[1:]) for view in views]
        for size in dict.fromkeys(sizes):
            places = [place for place, other in enumerate(sizes) if other == size]
            together = ops.concatenate([views[place] for place in places], axis=0)
            encoded = self.view_encoder(together, training=training)
            features |= zip(places, ops.split(encoded, len(places), axis=0), strict=True)
        return [features[place] for place in range(len(views))]

    def project_views(self, views: Sequence, training: bool = False) -> list:
        """Projections of several views: `encode_views`, then one call of the projector.

        Args:
            views: tensors `(B, h, w, C)` as `make_views` gives them; sizes may differ.
            training: whether layers run in training mode.

        Returns:
            list of `(B, D)`, one a view, in the order of the views.
        """
        features = ops.concatenate(self.encode_views(views, training), axis=0)
        projected = self.projector(features, training=training)
        return ops.split(projected, len(views), axis=0)

    def call(self, inputs: Any, training: bool = False) -> Any:
        """Representations `(B, features)` of raw images `(B, H, W, C)`."""
        return self.encoder(self.views.preprocess(inputs), training=training)

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
        if not preprocessing:
            return self.encoder
        shape = tuple(self.encoder.input_shape[1:])
        size = getattr(getattr(self.views, "preprocessing", None), "size", None)
        if None in shape and size is not None:
            shape = (*size, shape[-1])
        images = keras.Input(shape, dtype=dtype, name="images")
        prepared = self._stock_preprocessing(dtype, shape[:2])(images)
        features = self.encoder(prepared, training=False)
        return keras.Model(images, features, name="encoder")

    def _stock_preprocessing(self, dtype: str, size: tuple) -> Any:
        """The deterministic part of the views, as a Keras layer where one says the same."""
        own = getattr(self.views, "preprocessing", self.views.preprocess)
        if not isinstance(own, views_module.Preprocess) or own.size not in (None, size):
            return own
        top = 255.0 if dtype == "uint8" else 1.0
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
