# SPDX-License-Identifier: Apache-2.0
"""SparK."""

from __future__ import annotations

from typing import Any

import keras

from keras_ssl import layers
from keras_ssl.core import register
from keras_ssl.core.keras_private import all_layers
from keras_ssl.masking import RandomMasking
from keras_ssl.models.masked.engine import MaskedModeling


@register(
    paper="Designing BERT for Convolutional Networks: Sparse and Hierarchical Masked Modeling",
    year=2023,
    family="masked modelling",
    modality="image",
    needs=("convolutional network",),
)
class SparK(MaskedModeling):
    """Hides most cells of an image from a convolutional network and reconstructs them.

    A cell is what one position of the network's last map stands for. Convolutions run as sparse
    ones, so that hidden cells neither enter nor are filled, and batch norms count what is seen. A
    decoder takes maps of several scales, with learned vectors in their gaps. The loss is the mean
    squared error of hidden cells, by default each standardised by its own mean and unbiased
    variance.

    The encoder stays the network that it is: calling the model, or `encoder`, runs it on whole
    images with the same weights.

    Args:
        encoder: a convolutional Keras model such as `backbones.ResNet` or `backbones.ConvNet`, see
            `layers.SparseCNN`; the sides of its images are multiples of its total stride.
        masking: share of hidden cells, of which 1 - share is rounded, or a strategy of `masking`.
        decoder: width of a `layers.HierarchicalDecoder` at the smallest map, or a layer.
        scales: from how many resolutions the decoder gets a map, counted from the smallest.
        target: `"normalized"` or `"pixels"`, or a layer of `targets` for the pixels of a cell.
        loss: of a cell, see `MaskedModeling`.
        views: name of views or a layer; None for none.
        **kwargs: `seed`, `name`, `dtype`.

    Raises:
        ValueError: for a network with other layers than convolutions, batch or layer norms,
            activations, pooling and sums, by their names; for images that the total stride does not
            divide, or a ratio that leaves nothing visible or hidden.

    Source: Tian et al., 2023, section 3; https://arxiv.org/abs/2301.03580. Weights as released.

    Example:

    ```python
    model = SparK(backbones.ResNet(18, (32, 32, 3)), decoder=256)
    model.compile(optimizers.AdamW(1e-3, beta_2=0.95, weight_decay=0.05))
    model.fit(dataset)
    classifier = keras.Sequential([model.encoder, keras.layers.Dense(10)])
    ```
    """

    layout = "sparse"

    def __init__(
        self,
        encoder: keras.Model,
        masking: float | keras.Layer = 0.6,
        decoder: int | keras.Layer = 768,
        scales: int = 4,
        target: str | keras.Layer = "normalized",
        loss: str = "l2",
        views: str | keras.Layer | None = "spark",
        **kwargs: Any,
    ):
        self.scales = int(scales)
        if isinstance(masking, float):
            masking = RandomMasking(masking, "round_visible")
        super().__init__(encoder, masking, decoder, target, loss, views=views, **kwargs)

    def checked_encoder(self, encoder: keras.Model) -> keras.Model:
        """The encoder, if it can run on a part of its images."""
        encoder = layers.as_encoder(encoder)
        self._sparse = layers.SparseCNN(encoder, self.scales)
        return encoder

    @property
    def masked_encoder(self) -> layers.SparseCNN:
        """The encoder on visible cells."""
        return self._sparse

    def make_decoder(self, size: int, values: int, **options: Any) -> keras.Layer:
        """A `HierarchicalDecoder` with the encoder's kind of norm, see `MaskedModeling`."""
        kinds = {type(layer) for layer in all_layers(self.encoder)}
        batch = keras.layers.BatchNormalization in kinds
        alone = keras.layers.LayerNormalization in kinds and not batch
        norm = "layer" if alone else "batch"
        return layers.HierarchicalDecoder(values, size, norm, **options)
