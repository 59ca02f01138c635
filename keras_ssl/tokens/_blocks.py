# SPDX-License-Identifier: Apache-2.0
"""Transformer blocks: attention with one map for queries, keys and values."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from keras_ssl.core.seeds import layer_seed
from keras_ssl.tokens._branches import Dropout, DropPath, LayerScale
from keras_ssl.tokens._positions import rotate

ACTIVATIONS = ("gelu", "relu", "swiglu")
# Finite in float32: a row without any valid token then gives even weights instead of NaN.
_NEVER = -1e30


def linear(layer: Any, units: int, place: int, name: str, **options: Any) -> Any:
    """A linear map of a layer that has `seed` and `kernel_initializer`; `place` tells it apart."""
    seed = layer_seed(layer.seed, place)
    start: Any = keras.initializers.TruncatedNormal(stddev=0.02, seed=seed)
    if layer.kernel_initializer is not None:
        start = keras.initializers.get(layer.kernel_initializer)
        if "seed" in start.get_config():
            start = type(start).from_config({**start.get_config(), "seed": seed})
    return keras.layers.Dense(
        units, kernel_initializer=start, dtype=layer.dtype_policy, name=name, **options
    )


@keras.saving.register_keras_serializable(package="keras_ssl")
class SelfAttention(keras.layers.Layer):
    """Multi-head self-attention whose queries, keys and values come from one linear map.

    Args:
        heads: number of heads; must divide the width.
        qkv_bias: whether the map has an offset.
        seed: integer for the initial weights, or `None`.
        kernel_initializer: Keras name for the linear maps; `None` for a truncated normal of 0.02
            (ViT, DeiT); `"glorot_uniform"` is MAE's and much larger in narrow networks.
        **kwargs: `name`, `dtype` and other arguments of `keras.layers.Layer`.

    Call: `layer(x, padding_mask=None, angles=None, top_keys=None)` with x `(B, N, D)`;
    `padding_mask` `(B, N)` boolean, True where a token is real: no token attends to the others;
    `angles` of `RotaryPositions`; `top_keys` of `attention_weights`. Gives `(B, N, D)`.

    Raises:
        ValueError: if the heads do not divide the width.

    Source: Attention Is All You Need, 2017, equation 1.

    Example:
        >>> SelfAttention(3)(keras.ops.ones((2, 65, 192))).shape
        (2, 65, 192)
    """

    def __init__(
        self,
        heads: int,
        qkv_bias: bool = True,
        seed: int | None = None,
        kernel_initializer: str | None = None,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.heads, self.qkv_bias, self.seed = int(heads), qkv_bias, seed
        self.kernel_initializer = kernel_initializer

    def build(self, input_shape: Any) -> None:
        """Makes both linear maps for `(B, N, D)`."""
        self.width = input_shape[-1]
        if self.heads < 1 or self.width % self.heads:
            raise ValueError(f"{self.heads} heads do not divide the width {self.width}.")
        self.qkv = linear(self, 3 * self.width, 1, "qkv", use_bias=self.qkv_bias)
        self.out = linear(self, self.width, 2, "out")
        self.qkv.build(input_shape)
        self.out.build(input_shape)
        self.built = True

    def projections(self, x: Any, angles: Any = None) -> list:
        """Queries, keys and values of all heads side by side, `(B, N, D)` each."""
        shape = (-1, ops.shape(x)[1], self.width)
        turned = [ops.transpose(part, (0, 2, 1, 3)) for part in self._heads_of(x, angles)]
        return [ops.reshape(part, shape) for part in turned]

    def _heads_of(self, x: Any, angles: Any) -> list:
        """Queries, keys and values, `(B, heads, N, width / heads)` each."""
        tokens, size = ops.shape(x)[1], self.width // self.heads
        x = ops.reshape(self.qkv(x), (-1, tokens, 3, self.heads, size))
        parts = [x[:, :, index] for index in range(3)]
        query, key, value = [ops.transpose(part, (0, 2, 1, 3)) for part in parts]
        if angles is not None:
            query, key = rotate(query, angles), rotate(key, angles)
        return [query, key, value]

    def attention_weights(self, x: Any, padding_mask: Any = None, angles: Any = None) -> Any:
        """How much every token attends to every other: float32 `(B, heads, N, N)`."""
        query, key, _ = self._heads_of(x, angles)
        return attention_weights(query, key, padding_mask)

    def call(
        self, inputs: Any, padding_mask: Any = None, angles: Any = None, top_keys: Any = None
    ) -> Any:
        """Tokens mixed by attention."""
        query, key, value = self._heads_of(inputs, angles)
        return self.out(mixed(attention_weights(query, key, padding_mask, top_keys), value))

    def compute_output_shape(self, input_shape: Any, *args: Any, **kwargs: Any) -> Any:
        """Same as the input's."""
        return input_shape

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        own = {n: getattr(self, n) for n in ("heads", "qkv_bias", "seed", "kernel_initializer")}
        return {**super().get_config(), **own}


def attention_weights(
    query: Any, key: Any, padding_mask: Any = None, top_keys: tuple[int, int] | None = None
) -> Any:
    """How much queries attend to keys.

    Args:
        query: `(B, heads, N, features)`.
        key: `(B, heads, M, features)`.
        padding_mask: boolean `(B, M)`, True where a key is real; `None` where all are.
        top_keys: number of keys in front, which all queries may attend to, and how many of the
            others, those of its greatest scores, each query attends to besides; more where scores
            are equal. `None` for all keys.

    Returns:
        float32 `(B, heads, N, M)`.
    """
    query = query * query.shape[-1] ** -0.5
    scores = ops.matmul(query, ops.transpose(key, (0, 1, 3, 2)))
    scores = ops.cast(scores, "float32")
    if padding_mask is not None:
        real = ops.cast(padding_mask, "bool")[:, None, None, :]
        scores = ops.where(real, scores, _NEVER)
    if top_keys is not None:
        front, count = top_keys
        others = scores[..., front:]
        least = ops.stop_gradient(ops.top_k(others, count)[0][..., -1:])
        others = ops.where(others >= least, others, _NEVER)
        scores = ops.concatenate([scores[..., :front], others], axis=-1)
    return ops.softmax(scores, axis=-1)


def mixed(weights: Any, value: Any) -> Any:
    """Values `(B, heads, M, features)` by weights `(B, heads, N, M)`: `(B, N, width)`."""
    x = ops.transpose(ops.matmul(ops.cast(weights, value.dtype), value), (0, 2, 1, 3))
    return ops.reshape(x, (-1, ops.shape(x)[1], x.shape[2] * x.shape[3]))


@keras.saving.register_keras_serializable(package="keras_ssl")
class FeedForward(keras.layers.Layer):
    """The two linear maps of a transformer block, with GELU, ReLU or gated.

    Args:
        hidden: features in between. SwiGLU has three matrices and is usually given two thirds of
            what GELU gets.
        activation: `"gelu"` (exact), `"relu"` or `"swiglu"`.
        seed: integer for the initial weights, or `None`.
        kernel_initializer: Keras name for the linear maps; `None` for a truncated normal of 0.02
            (ViT, DeiT); `"glorot_uniform"` is MAE's and much larger in narrow networks.
        dropout: rate with which features in between are dropped.
        **kwargs: `name`, `dtype` and other arguments of `keras.layers.Layer`.

    Call: `(…, D)` → `(…, D)`.

    Raises:
        ValueError: for another activation.

    Source: GLU Variants Improve Transformer, 2020, equation 6.
    """

    def __init__(
        self,
        hidden: int,
        activation: str = "gelu",
        seed: int | None = None,
        kernel_initializer: str | None = None,
        dropout: float = 0.0,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.kernel_initializer, self.dropout = kernel_initializer, dropout
        if activation not in ACTIVATIONS:
            raise ValueError(f"activation must be one of {ACTIVATIONS}; received {activation!r}.")
        self.hidden, self.activation, self.seed = int(hidden), activation, seed

    def build(self, input_shape: Any) -> None:
        """Makes the linear maps for `(…, D)`."""
        gates = 2 if self.activation == "swiglu" else 1
        self.rise = linear(self, gates * self.hidden, 1, "rise")
        self.fall = linear(self, input_shape[-1], 2, "fall")
        self.rise.build(input_shape)
        self.fall.build((*input_shape[:-1], self.hidden))
        self.drop = Dropout(self.dropout, layer_seed(self.seed, 3), dtype=self.dtype_policy)
        self.built = True

    def call(self, inputs: Any, training: bool = False) -> Any:
        """Tokens, each transformed by itself."""
        x = self.rise(inputs)
        if self.activation == "swiglu":
            gate, x = ops.split(x, 2, axis=-1)
            x = ops.silu(gate) * x
        elif self.activation == "relu":
            x = ops.relu(x)
        else:
            x = ops.gelu(x, approximate=False)
        return self.fall(self.drop(x, training=training))

    def compute_output_shape(self, input_shape: Any) -> Any:
        """Same as the input's."""
        return input_shape

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        names = ("hidden", "activation", "seed", "kernel_initializer", "dropout")
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}


@keras.saving.register_keras_serializable(package="keras_ssl")
class TransformerBlock(keras.layers.Layer):
    """Attention and feed-forward, each normalised before and added to what it got.

    Args:
        heads: number of heads.
        mlp_ratio: hidden features of the feed-forward, in widths.
        activation: `"gelu"`, `"relu"` or `"swiglu"`, which gets two thirds of the hidden features.
        qkv_bias: whether queries, keys and values have an offset.
        layer_scale: start of `LayerScale` on both branches, or `None` without it.
        drop_path: probability with which a sample skips a branch.
        seed: integer for the initial weights, or `None`.
        kernel_initializer: Keras name for the linear maps; `None` for a truncated normal of 0.02
            (ViT, DeiT); `"glorot_uniform"` is MAE's and much larger in narrow networks.
        **kwargs: `name`, `dtype` and other arguments of `keras.layers.Layer`.

    Call: `block(x, padding_mask=None, angles=None, top_keys=None, training=False)`, as
    `SelfAttention`.

    Source: An Image is Worth 16x16 Words, 2020, equations 2 and 3.
    """

    def __init__(
        self,
        heads: int,
        mlp_ratio: float = 4.0,
        activation: str = "gelu",
        qkv_bias: bool = True,
        layer_scale: float | None = None,
        drop_path: float = 0.0,
        seed: int | None = None,
        kernel_initializer: str | None = None,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.kernel_initializer = kernel_initializer
        self.heads, self.mlp_ratio, self.activation = heads, mlp_ratio, activation
        self.qkv_bias, self.layer_scale, self.drop_path = qkv_bias, layer_scale, drop_path
        self.seed = seed

    def build(self, input_shape: Any, *args: Any, **kwargs: Any) -> None:
        """Makes all parts for `(B, N, D)`."""
        shape, policy = tuple(input_shape), self.dtype_policy
        hidden = int(shape[-1] * self.mlp_ratio)
        if self.activation == "swiglu":
            hidden = hidden * 2 // 3
        self.attention_norm, self.feed_forward_norm = (
            keras.layers.LayerNormalization(epsilon=1e-6, dtype=policy, name=f"{name}_norm")
            for name in ("attention", "feed_forward")
        )
        self.attention = SelfAttention(
            self.heads,
            self.qkv_bias,
            layer_seed(self.seed, 1),
            self.kernel_initializer,
            dtype=policy,
            name="attention",
        )
        self.feed_forward = FeedForward(
            hidden,
            self.activation,
            layer_seed(self.seed, 2),
            self.kernel_initializer,
            dtype=policy,
            name="feed_forward",
        )
        parts = [self.attention_norm, self.attention, self.feed_forward_norm, self.feed_forward]
        self.scales = []
        if self.layer_scale is not None:
            names = ("attention_scale", "feed_forward_scale")
            self.scales = [LayerScale(self.layer_scale, dtype=policy, name=n) for n in names]
        self.drops = []
        if self.drop_path:
            seeds = (layer_seed(self.seed, 3), layer_seed(self.seed, 4))
            self.drops = [DropPath(self.drop_path, seed, dtype=policy) for seed in seeds]
        for part in (*parts, *self.scales, *self.drops):
            part.build(shape)
        self.built = True

    def _branch(self, index: int, x: Any, training: bool) -> Any:
        if self.scales:
            x = self.scales[index](x)
        return self.drops[index](x, training=training) if self.drops else x

    def call(
        self,
        inputs: Any,
        padding_mask: Any = None,
        angles: Any = None,
        top_keys: Any = None,
        training: bool = False,
    ) -> Any:
        """Transformed tokens `(B, N, D)`."""
        options = {"padding_mask": padding_mask, "angles": angles, "top_keys": top_keys}
        x = self.attention(self.attention_norm(inputs), **options)
        x = inputs + self._branch(0, x, training)
        return x + self._branch(1, self.feed_forward(self.feed_forward_norm(x)), training)

    def projections(self, inputs: Any, angles: Any = None) -> list:
        """Queries, keys and values of the attention here, `(B, N, D)` each, heads side by side."""
        return self.attention.projections(self.attention_norm(inputs), angles)

    def attention_weights(self, inputs: Any, padding_mask: Any = None, angles: Any = None) -> Any:
        """How much every token attends to every other here: float32 `(B, heads, N, N)`."""
        return self.attention.attention_weights(self.attention_norm(inputs), padding_mask, angles)

    def compute_output_shape(self, input_shape: Any, *args: Any, **kwargs: Any) -> Any:
        """Same as the input's."""
        return input_shape

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        names = ("heads", "mlp_ratio", "activation", "qkv_bias", "layer_scale", "drop_path", "seed")
        own = {name: getattr(self, name) for name in (*names, "kernel_initializer")}
        return {**super().get_config(), **own}
