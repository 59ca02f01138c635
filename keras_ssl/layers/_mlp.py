# SPDX-License-Identifier: Apache-2.0
"""The multi-layer perceptron every joint-embedding head is made of."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from keras_ssl.core.seeds import layer_seed
from keras_ssl.layers._batch_norm import batch_norm

BIAS = ("none", "hidden", "last", "all")
LAST_BATCH_NORM = ("affine", "scale", "plain")


@keras.saving.register_keras_serializable(package="keras_ssl")
class MLP(keras.layers.Layer):
    """Linear layers with optional batch normalization: a projector or a predictor.

    Each hidden layer is Linear, batch normalization (when `batch_norm`), activation; the last is
    Linear and, when `last_batch_norm` says so, batch normalization, without activation. The heads
    of the papers are settings of it:

    * SimCLR v1 (Chen et al., 2020): `MLP((2048, 128), bias="none", last_batch_norm="scale")`;
      v2 has three widths.
    * BYOL (Grill et al., 2020), projector and predictor: `MLP((4096, 256), bias="hidden")`.
    * SimSiam (Chen and He, 2021), projector: `MLP((2048, 2048, 2048), bias="none",
      last_batch_norm="plain")`; the bias that its code freezes is cancelled by the batch norm.
    * SimSiam, predictor: `MLP((512, 2048), bias="last")`.
    * Barlow Twins (2021), VICReg (2022): `MLP((8192, 8192, 8192), bias="none")`.
    * MoCo v2 (2020), no batch norm: `MLP((2048, 128), batch_norm=False, bias="all")`.

    Input: `(batch, features)` floats. Output: `(batch, widths[-1])` in the compute dtype.

    Args:
        widths: Output widths of the linear layers, in order; the last is the output width.
        batch_norm: Whether the hidden layers are normalised; `True` is `"affine"`, see
            `last_batch_norm` for the other kinds.
        bias: Which linear layers have a bias: `"none"`, `"hidden"`, `"last"` or `"all"`.
        last_batch_norm: `False` for none; `"affine"` with learned scale and offset, `"scale"`
            with a learned scale and no offset, `"plain"` with neither, after the last layer.
        activation: Activation of the hidden layers, a Keras name or function.
        kernel_initializer: Initializer of the linear kernels, a Keras name.
        synchronized: Whether batch statistics are shared between replicas (TensorFlow).
        seed: Integer that fixes the initial weights; `None` draws them from Keras's global seed.
        **kwargs: `name`, `dtype` and other arguments of `keras.layers.Layer`.

    Raises:
        ValueError: If a width is not a positive integer or an option is not one of those listed.

    Example:
        >>> projector = MLP((512, 128), bias="none", last_batch_norm="scale", seed=0)
        >>> projector(keras.ops.ones((4, 64))).shape
        (4, 128)
    """

    def __init__(
        self,
        widths: Sequence[int],
        *,
        batch_norm: str | bool = True,
        bias: str = "last",
        last_batch_norm: str | bool = False,
        activation: str = "relu",
        kernel_initializer: str = "he_normal",
        synchronized: bool = True,
        seed: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.widths = _checked_widths(widths)
        self.batch_norm = batch_norm
        if batch_norm not in (True, False):
            _checked_choice("batch_norm", batch_norm, LAST_BATCH_NORM)
        self.bias = _checked_choice("bias", bias, BIAS)
        self.last_batch_norm = last_batch_norm
        if last_batch_norm is not False:
            _checked_choice("last_batch_norm", last_batch_norm, LAST_BATCH_NORM)
        self.activation = keras.activations.get(activation)
        self.kernel_initializer = keras.initializers.get(kernel_initializer)
        self.synchronized = synchronized
        self.seed = seed
        self.blocks = self._make_layers()

    def _make_layers(self) -> list[keras.layers.Layer]:
        layers: list[keras.layers.Layer] = []
        last = len(self.widths) - 1
        for index, width in enumerate(self.widths):
            role = "last" if index == last else "hidden"
            layers.append(
                keras.layers.Dense(
                    width,
                    use_bias=self.bias in (role, "all"),
                    kernel_initializer=self._initializer(index),
                    dtype=self.dtype_policy,
                    name=f"linear_{index + 1}",
                )
            )
            if role == "hidden":
                if self.batch_norm:
                    layers.append(self._norm(index, self.batch_norm))
                layers.append(
                    keras.layers.Activation(
                        self.activation, dtype=self.dtype_policy, name=f"activation_{index + 1}"
                    )
                )
            elif self.last_batch_norm:
                layers.append(self._norm(index, self.last_batch_norm))
        return layers

    def _norm(self, index: int, kind: str | bool) -> keras.layers.Layer:
        affine = kind in (True, "affine")
        return batch_norm(
            synchronized=self.synchronized,
            dtype=self.dtype_policy,
            name=f"batch_norm_{index + 1}",
            center=affine,
            scale=affine or kind == "scale",
        )

    def _initializer(self, index: int) -> keras.initializers.Initializer:
        """One initializer for each layer: two that share a seed would draw equal kernels."""
        config = self.kernel_initializer.get_config()
        if "seed" in config:
            config["seed"] = layer_seed(self.seed, index)
        return self.kernel_initializer.__class__.from_config(config)

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Makes the weights for inputs of shape `(batch, features)`.

        Raises:
            ValueError: If the inputs are not vectors of a fixed width.
        """
        if len(input_shape) != 2 or input_shape[-1] is None:
            raise ValueError(
                f"{self.name}: a head takes vectors of shape (batch, features), received shape "
                f"{tuple(input_shape)}. Pool the encoder's output first, for instance with "
                "keras_ssl.layers.as_encoder(model)."
            )
        shape = tuple(input_shape)
        for layer in self.blocks:
            layer.build(shape)
            shape = layer.compute_output_shape(shape)
        super().build(input_shape)

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        """Projects `(batch, features)` to `(batch, widths[-1])`."""
        x = inputs
        for layer in self.blocks:
            if isinstance(layer, keras.layers.BatchNormalization):
                x = layer(x, training=training)
            else:
                x = layer(x)
        return x

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        """Returns `(batch, widths[-1])`."""
        return (input_shape[0], self.widths[-1])

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        return {
            **super().get_config(),
            "widths": list(self.widths),
            "batch_norm": self.batch_norm,
            "bias": self.bias,
            "last_batch_norm": self.last_batch_norm,
            "activation": keras.activations.serialize(self.activation),
            "kernel_initializer": keras.initializers.serialize(self.kernel_initializer),
            "synchronized": self.synchronized,
            "seed": self.seed,
        }


def _checked_widths(widths: Sequence[int]) -> tuple[int, ...]:
    values: tuple[Any, ...] = tuple(widths) if isinstance(widths, (tuple, list)) else (widths,)
    if not values or not all(isinstance(w, (int, np.integer)) and w > 0 for w in values):
        raise ValueError(
            f"widths must be positive integers, one for each linear layer, such as (2048, 128); "
            f"received {widths!r}."
        )
    return tuple(int(width) for width in values)


def _checked_choice(name: str, value: Any, choices: tuple[str, ...]) -> Any:
    if value not in choices:
        raise ValueError(f"{name} must be one of {list(choices)}, received {value!r}.")
    return value
