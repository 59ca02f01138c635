# SPDX-License-Identifier: Apache-2.0
"""What happens to the branches of a transformer: dropped at random, or scaled."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from keras_ssl.core import distribution


@keras.saving.register_keras_serializable(package="keras_ssl")
class Dropout(keras.layers.Dropout):
    """Drops single numbers and scales up the others.

    Which is drawn for the global batch, so that no two replicas drop alike. A `Teacher` never
    drops, as with any `keras.layers.Dropout`.

    Args:
        rate: probability with which a number is dropped.
        seed: integer for the random numbers, or `None`.
        **kwargs: `name`, `dtype` and other arguments of `keras.layers.Layer`.

    Source: Dropout: A Simple Way to Prevent Neural Networks from Overfitting, 2014.
    """

    def __init__(self, rate: float, seed: int | None = None, **kwargs: Any):
        super().__init__(rate, seed=seed, **kwargs)

    def dropped_shape(self, inputs: Any) -> tuple:
        """Shape, without the rows, of what is drawn for a branch `(B, …)`."""
        return tuple(ops.shape(inputs)[1:])

    def call(self, inputs: Any, training: bool = False) -> Any:
        """The branch `(B, …)`, 0 where it is dropped."""
        if not training or not self.rate:
            return inputs
        seed = distribution.next_seed(self.seed_generator)
        drawn = distribution.uniform_rows(seed, ops.shape(inputs)[0], self.dropped_shape(inputs))
        return inputs * (ops.cast(drawn >= self.rate, inputs.dtype) / (1.0 - self.rate))

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        config = super().get_config()
        config.pop("noise_shape", None)
        return config


@keras.saving.register_keras_serializable(package="keras_ssl")
class DropPath(Dropout):
    """Drops a residual branch for whole samples and scales it up for the others.

    Args:
        rate: probability with which a sample's branch is dropped.
        seed: integer for the random numbers, or `None`.
        **kwargs: `name`, `dtype` and other arguments of `keras.layers.Layer`.

    Source: Deep Networks with Stochastic Depth, 2016.
    """

    def dropped_shape(self, inputs: Any) -> tuple:
        """One number a sample."""
        return (1,) * (len(inputs.shape) - 1)


@keras.saving.register_keras_serializable(package="keras_ssl")
class LayerScale(keras.layers.Layer):
    """Multiplies every feature of a residual branch by a learned number that starts small.

    Args:
        start: initial value of all numbers.
        **kwargs: `name`, `dtype` and other arguments of `keras.layers.Layer`.

    Source: Going Deeper with Image Transformers, 2021, equation 4.
    """

    def __init__(self, start: float = 1e-5, **kwargs: Any):
        super().__init__(**kwargs)
        self.start = float(start)

    def build(self, input_shape: Any) -> None:
        """Makes the numbers for `(…, D)`."""
        start = keras.initializers.Constant(self.start)
        self.scale = self.add_weight(shape=(input_shape[-1],), initializer=start, name="scale")
        self.built = True

    def call(self, inputs: Any) -> Any:
        """The scaled branch."""
        return inputs * ops.cast(self.scale, inputs.dtype)

    def compute_output_shape(self, input_shape: Any) -> Any:
        """Same as the input's."""
        return input_shape

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {**super().get_config(), "start": self.start}
