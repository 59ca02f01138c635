# SPDX-License-Identifier: Apache-2.0
"""Batch normalization over parts of a batch, as several unsynchronised devices would do it."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from keras_ssl.layers._batch_norm import rebuild


@keras.saving.register_keras_serializable(package="keras_ssl")
class SplitBatchNormalization(keras.layers.BatchNormalization):
    """Normalises consecutive parts of the batch by statistics of their own in training.

    The moving statistics are averages over the parts. In inference it is an ordinary
    BatchNormalization, with the same weights.

    Args:
        splits: number of parts; must divide the batch.
        **kwargs: arguments of `keras.layers.BatchNormalization`.

    Raises:
        ValueError: for fewer than one part, or a batch that cannot be divided.

    Source: the CIFAR demo of MoCo (He et al., 2020).

    Example:
        >>> SplitBatchNormalization(splits=8)(keras.ops.ones((16, 4)), training=True).shape
        (16, 4)
    """

    def __init__(self, splits: int = 8, **kwargs: Any):
        super().__init__(**{**kwargs, "synchronized": False})
        if splits < 1:
            raise ValueError(f"splits must be at least 1; received {splits}.")
        self.splits = splits

    def call(self, inputs: Any, training: bool | None = None, mask: Any = None) -> Any:
        """Normalises `(B, ...)`; same shape and dtype."""
        if not training or not self.trainable:
            return super().call(inputs, training=False, mask=mask)
        rows = inputs.shape[0]
        if rows is not None and rows % self.splits:
            raise ValueError(
                f"{self.name}: a batch of {rows} rows cannot be divided into {self.splits} parts. "
                f"Use a batch size that is a multiple of {self.splits}, and drop a short last one."
            )
        rank = len(inputs.shape)
        channel = self.axis % rank
        x = ops.reshape(ops.cast(inputs, "float32"), (self.splits, -1, *inputs.shape[1:]))
        axes = [axis for axis in range(1, rank + 1) if axis != channel + 1]
        mean, variance = ops.mean(x, axis=axes), ops.var(x, axis=axes)
        kept = self.momentum
        for moving, found in ((self.moving_mean, mean), (self.moving_variance, variance)):
            moving.assign(moving * kept + ops.mean(found, axis=0) * (1.0 - kept))
        shape = [1] * (rank + 1)
        shape[0], shape[channel + 1] = self.splits, inputs.shape[channel]
        scaled = (x - ops.reshape(mean, shape)) * ops.rsqrt(
            ops.reshape(variance, shape) + self.epsilon
        )
        shape[0] = 1
        if self.scale:
            scaled = scaled * ops.reshape(ops.cast(self.gamma, "float32"), shape)
        if self.center:
            scaled = scaled + ops.reshape(ops.cast(self.beta, "float32"), shape)
        return ops.cast(ops.reshape(scaled, ops.shape(inputs)), self.compute_dtype)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {**super().get_config(), "splits": self.splits}


def split_batch_norm(model: keras.Model, splits: int = 8) -> keras.Model:
    """Copies a model so that its batch normalizations see parts of the batch.

    Args:
        model: a built Keras model.
        splits: number of parts.

    Returns:
        A model of the same class, layer names and weights, with `SplitBatchNormalization`.

    Raises:
        ValueError: if the model is not built or cannot be rebuilt from its configuration.

    Example:
        >>> inputs = keras.Input((8,))
        >>> model = keras.Model(inputs, keras.layers.BatchNormalization(name="norm")(inputs))
        >>> type(split_batch_norm(model, 4).get_layer("norm")).__name__
        'SplitBatchNormalization'
    """

    def convert(layer: keras.layers.Layer) -> keras.layers.Layer:
        if type(layer) is keras.layers.BatchNormalization:
            return SplitBatchNormalization(splits=splits, **layer.get_config())
        return layer.__class__.from_config(layer.get_config())

    return rebuild(model, "split_batch_norm", convert)
