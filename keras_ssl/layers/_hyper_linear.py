# SPDX-License-Identifier: Apache-2.0
"""A linear map whose matrix another network makes, one for each sample."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from keras_ssl.core.seeds import layer_seed


@keras.saving.register_keras_serializable(package="keras_ssl")
class HyperLinear(keras.layers.Layer):
    """Applies to each vector a bias-free linear map that a hyper-network makes of its latent.

    Called as `layer([x, latent])` with x `(B, features)` and latent `(B, L)`; gives
    `W(latent) x`, `(B, units)`. The hyper-network is linear, or has hidden layers with ReLU:
    `W(latent)_ui = sum_l h_l kernel[l, u · features + i]` with h the last hidden layer's output,
    the latent itself where there is none.

    The matrices are never made: the sum over the latent is taken after the product with x, which
    keeps `B · L · units` numbers instead of `B · units · features` (L is the width of h). With the
    paper's 1024 features, L = 4 and a batch of 1024 that is 16 MB instead of 4 GB. `matrices` makes
    them, to look at.

    Args:
        units: number of output features.
        hidden: widths of the hyper-network's hidden layers; `(4, 4)` is the deep variant.
        use_bias: whether the layers of the hyper-network have biases. Without, a latent of zeros
            makes the map zero; with, the last bias is the map for a latent of zeros, and starts
            as the identity where `units` is the number of features.
        seed: integer that fixes the initial weights; `None` draws them.
        **kwargs: `name`, `dtype` and other arguments of `keras.layers.Layer`.

    Raises:
        ValueError: for widths below 1, or inputs that are not two tensors `(batch, features)`.

    Source: Garrido et al., 2023, section 4; https://arxiv.org/abs/2302.10283. The kernel starts
    with a deviation of `1 / sqrt(features)`, so that a latent of length 1 keeps the scale of x;
    the released code starts with PyTorch's default, which is larger for wide x.

    Example:
        >>> predictor = HyperLinear(8)
        >>> predictor([keras.ops.ones((2, 8)), keras.ops.ones((2, 4))]).shape
        (2, 8)
    """

    def __init__(
        self,
        units: int,
        hidden: Sequence[int] = (),
        use_bias: bool = False,
        seed: int | None = None,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        if units < 1 or any(width < 1 for width in hidden):
            raise ValueError(
                f"HyperLinear needs widths of at least 1, got units={units} and hidden={hidden}."
            )
        self.units = int(units)
        self.hidden = tuple(int(width) for width in hidden)
        self.use_bias = bool(use_bias)
        self.seed = seed
        self.hidden_layers = [
            keras.layers.Dense(
                width,
                activation="relu",
                use_bias=self.use_bias,
                kernel_initializer=keras.initializers.HeNormal(layer_seed(seed, index)),
                dtype=self.dtype_policy,
                name=f"hidden_{index + 1}",
            )
            for index, width in enumerate(self.hidden)
        ]

    def build(self, input_shape: Any) -> None:
        """Makes the weights for shapes `[(batch, features), (batch, latent)]`."""
        self._check(input_shape)
        (_, features), (_, latent) = input_shape
        self.features, self.latent = features, latent
        width = latent
        for layer in self.hidden_layers:
            layer.build((None, width))
            width = layer.units
        start = keras.initializers.RandomNormal(
            stddev=features**-0.5, seed=layer_seed(self.seed, len(self.hidden))
        )
        shape = (width, self.units * features)
        self.kernel = self.add_weight(shape=shape, initializer=start, name="kernel")
        if self.use_bias:
            first = "identity" if self.units == features else "zeros"
            shape = (self.units, features)
            self.bias = self.add_weight(shape=shape, initializer=first, name="bias")
        super().build(input_shape)

    def _check(self, shapes: Any) -> None:
        usual = isinstance(shapes, (list, tuple)) and len(shapes) == 2
        if not usual or any(not isinstance(s, (list, tuple)) or len(s) != 2 for s in shapes):
            raise ValueError(
                f"{self.name} takes [x, latent] of shapes (batch, features) and (batch, L); "
                f"received {shapes}."
            )

    def call(self, inputs: Any) -> Any:
        """Maps each x by the matrix of its latent, `(B, units)`."""
        x, latent = inputs
        hidden = self._hidden(latent)
        width = self.kernel.shape[0]
        kernel = ops.reshape(self.kernel, (width * self.units, self.features))
        parts = ops.reshape(ops.matmul(x, ops.transpose(kernel)), (-1, width, self.units))
        result = ops.sum(parts * ops.expand_dims(hidden, -1), axis=1)
        if self.use_bias:
            result = result + ops.matmul(x, ops.transpose(self.bias))
        return result

    def _hidden(self, latent: Any) -> Any:
        for layer in self.hidden_layers:
            latent = layer(latent)
        return latent

    def matrices(self, latent: Any) -> Any:
        """The map of every latent, as a matrix.

        Args:
            latent: `(B, L)`.

        Returns:
            `(B, units, features)`: `B · units · features` numbers.
        """
        latent = ops.cast(latent, self.compute_dtype)
        made = ops.matmul(self._hidden(latent), ops.cast(self.kernel, self.compute_dtype))
        made = ops.reshape(made, (-1, self.units, self.features))
        return made + ops.cast(self.bias, self.compute_dtype) if self.use_bias else made

    def compute_output_shape(self, input_shape: Any) -> Any:
        """`(batch, units)`."""
        return (input_shape[0][0], self.units)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        own = {"units": self.units, "hidden": list(self.hidden)}
        return {**super().get_config(), **own, "use_bias": self.use_bias, "seed": self.seed}
