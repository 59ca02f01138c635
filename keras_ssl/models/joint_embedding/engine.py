# SPDX-License-Identifier: Apache-2.0
"""The engine of joint embedding: views → encoder → projector (→ predictor)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from keras_ssl import views as views_module
from keras_ssl.layers import as_encoder
from keras_ssl.layers._encoder import for_sizes
from keras_ssl.models.encoder_model import EncoderModel


class JointEmbedding(EncoderModel):
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
        self.projector = self.build_head(projector, self.width, position=1)
        self.built = True

    @property
    def width(self) -> int:
        """Number of features of the representation."""
        return self.encoder.output_shape[-1]

    def make_views(self, batch: Any) -> list:
        """Views of a batch of images, `(B, H, W, C)` uint8 or float32 in 0..1."""
        self.check_images(batch)
        return self.views(batch, seed=self.draw_seed())

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
