# SPDX-License-Identifier: Apache-2.0
"""From a grid of tokens to a sequence: class token, registers, mask tokens."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras import ops


def _token(layer: keras.layers.Layer, rows: int, width: int, seed: int | None, name: str) -> Any:
    start = keras.initializers.TruncatedNormal(stddev=0.02, seed=seed)
    return layer.add_weight(shape=(1, rows, width), initializer=start, name=name)


@keras.saving.register_keras_serializable(package="keras_ssl")
class PrefixTokens(keras.layers.Layer):
    """Flattens a grid of tokens and puts learned tokens in front: a class token, registers.

    A class token needs no position of its own: a learned one would only add to the token.

    Args:
        class_token: whether the first token is the class token.
        registers: number of further tokens, in which the network may keep what belongs to no
            place (Vision Transformers Need Registers, 2023).
        seed: integer for the initial weights, or `None`.
        **kwargs: `name`, `dtype` and other arguments of `keras.layers.Layer`.

    Call: `(B, g1, …, gd, D)` → `(B, class token + registers + g1 ⋯ gd, D)`.

    Raises:
        ValueError: for a negative number of registers.
    """

    def __init__(
        self,
        class_token: bool = True,
        registers: int = 0,
        seed: int | None = None,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        if registers < 0:
            raise ValueError(f"registers is a number of tokens, at least 0; received {registers}.")
        self.class_token, self.registers, self.seed = bool(class_token), int(registers), seed

    @property
    def count(self) -> int:
        """Number of tokens in front."""
        return int(self.class_token) + self.registers

    def build(self, input_shape: Any) -> None:
        """Makes the tokens for `(B, g1, …, gd, D)`."""
        width, seed = input_shape[-1], self.seed
        self.tokens = []
        if self.class_token:
            self.tokens.append(_token(self, 1, width, seed, "class_token"))
        if self.registers:
            seed = None if seed is None else seed + 1
            self.tokens.append(_token(self, self.registers, width, seed, "register_tokens"))
        self.built = True

    def call(self, inputs: Any) -> Any:
        """The sequence."""
        grid, width = tuple(inputs.shape)[1:-1], inputs.shape[-1]
        rows = ops.shape(inputs)[0]
        length = -1 if None in grid else int(np.prod(grid))
        parts = [ops.reshape(inputs, (rows, length, width))]
        for token in reversed(self.tokens):
            token = ops.cast(token, inputs.dtype)
            parts.insert(0, ops.broadcast_to(token, (rows, token.shape[1], width)))
        return ops.concatenate(parts, axis=1)

    def compute_output_shape(self, input_shape: Any) -> Any:
        """`(B, count + g1 ⋯ gd, D)`."""
        grid = input_shape[1:-1]
        tokens = None if None in grid else self.count + int(np.prod(grid))
        return (input_shape[0], tokens, input_shape[-1])

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        own = {n: getattr(self, n) for n in ("class_token", "registers", "seed")}
        return {**super().get_config(), **own}


@keras.saving.register_keras_serializable(package="keras_ssl")
class MaskToken(keras.layers.Layer):
    """Replaces tokens by one learned token where a mask says so.

    Args:
        seed: integer for the initial weights, or `None`.
        initializer: of the token, `"zeros"` (iBOT, DINOv2) or any Keras name.
        **kwargs: `name`, `dtype` and other arguments of `keras.layers.Layer`.

    Call: `layer(tokens, mask)` with tokens `(B, …, D)` and mask `(B, …)`, boolean or a weight of
    0 to 1: `tokens · (1 - mask) + token · mask`, of the shape of the tokens.

    Source: SimMIM, 2021; iBOT, 2021.
    """

    def __init__(self, initializer: Any = "zeros", seed: int | None = None, **kwargs: Any):
        super().__init__(**kwargs)
        self.initializer, self.seed = initializer, seed

    def build(self, inputs_shape: Any, mask_shape: Any = None) -> None:
        """Makes the token for `(B, …, D)`."""
        start = keras.initializers.get(self.initializer)
        if "seed" in start.get_config():
            start = type(start).from_config({**start.get_config(), "seed": self.seed})
        self.token = self.add_weight(
            shape=(inputs_shape[-1],), initializer=start, name="mask_token"
        )
        self.built = True

    def call(self, inputs: Any, mask: Any) -> Any:
        """Tokens, replaced where masked."""
        weight = ops.expand_dims(ops.cast(mask, inputs.dtype), -1)
        return inputs * (1.0 - weight) + ops.cast(self.token, inputs.dtype) * weight

    def compute_output_shape(self, inputs_shape: Any, mask_shape: Any = None) -> Any:
        """Same as that of the tokens."""
        return inputs_shape

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        start = self.initializer
        if not isinstance(start, str):
            start = keras.initializers.serialize(keras.initializers.get(start))
        return {**super().get_config(), "initializer": start, "seed": self.seed}


@keras.saving.register_keras_serializable(package="keras_ssl")
class DistillationToken(keras.layers.Layer):
    """Puts a learned token behind the others.

    Args:
        seed: integer for the initial weights, or `None`.
        **kwargs: `name`, `dtype` and other arguments of `keras.layers.Layer`.

    Call: `(B, N, D)` → `(B, N + 1, D)`; with angles of `RotaryPositions` both, the angles
    longer by a token that is not turned.

    Source: DeiT, Touvron et al. 2021, section 4.
    """

    def __init__(self, seed: int | None = None, **kwargs: Any):
        super().__init__(**kwargs)
        self.seed = seed
        # Angles stay in float32.
        self.autocast = False

    def build(self, input_shape: Any, *args: Any) -> None:
        """Makes the token for `(B, N, D)`."""
        self.token = _token(self, 1, input_shape[-1], self.seed, "token")
        self.built = True

    def call(self, inputs: Any, angles: Any = None) -> Any:
        """The longer sequence, with its angles where there are any."""
        token = ops.cast(self.token, inputs.dtype)
        token = ops.broadcast_to(token, (ops.shape(inputs)[0], 1, token.shape[-1]))
        x = ops.concatenate([inputs, token], axis=1)
        if angles is None:
            return x
        cosine = ops.ones_like(angles[:1, :1])
        still = ops.concatenate([cosine, 0.0 * cosine], axis=0)
        return x, ops.concatenate([angles, still], axis=1)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {**super().get_config(), "seed": self.seed}


def gather_tokens(x: Any, ids: Any) -> Any:
    """Takes some tokens of every sample.

    One flat gather, which is several times as fast as `take_along_axis`.

    Args:
        x: `(B, L, D)`, L and D known.
        ids: `(B, k)` integers in 0..L-1.

    Returns:
        `(B, k, D)`.
    """
    length, width = x.shape[1], x.shape[2]
    starts = ops.arange(ops.shape(x)[0], dtype="int32")[:, None] * length
    flat = ops.reshape(x, (-1, width))
    return ops.take(flat, ops.cast(ids, "int32") + starts, axis=0)


def tokens_at(x: Any, ids: Any) -> Any:
    """`gather_tokens`, for vectors or single numbers of tokens.

    Args:
        x: `(B, L, D)` or `(B, L)`, L and D known.
        ids: `(B, k)` integers in 0..L-1.

    Returns:
        `(B, k, D)` or `(B, k)`.
    """
    if len(x.shape) == 2:
        return gather_tokens(ops.expand_dims(x, -1), ids)[..., 0]
    return gather_tokens(x, ids)


def front_and_patches(x: Any, front: int, keep: int, ids: Any = None) -> Any:
    """Some of the tokens in front of the patches, and some of the patches.

    Args:
        x: `(B, front + L, D)`.
        front: number of tokens in front of the patches, the class token first.
        keep: how many of them are kept: 1 for the class token without registers.
        ids: `(B, k)` integers in 0..L-1; `None` for all patches.

    Returns:
        `(B, keep + k, D)`.
    """
    patches = x[:, front:] if ids is None else gather_tokens(x[:, front:], ids)
    return ops.concatenate([x[:, :keep], patches], axis=1)
