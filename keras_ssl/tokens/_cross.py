# SPDX-License-Identifier: Apache-2.0
"""Attention to other tokens than one's own, and a decoder that looks at a second view."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import keras
from keras import ops

from keras_ssl.core.seeds import layer_seed
from keras_ssl.tokens._blocks import FeedForward, attention_weights, linear, mixed
from keras_ssl.tokens._branches import Dropout
from keras_ssl.tokens._decoder import TransformerDecoder


@keras.saving.register_keras_serializable(package="keras_ssl")
class CrossAttention(keras.layers.Layer):
    """Multi-head attention of tokens to others, with a linear map each for queries, keys, values.

    Keys have no offset: it would move all scores of a query alike, which softmax does not see.

    Args:
        heads: number of heads; must divide the width.
        qkv_bias: whether queries and values have an offset.
        dropout: rate with which attention weights are dropped.
        seed: integer for the initial weights and what is dropped, or `None`.
        kernel_initializer: Keras name for the linear maps; `None` for a truncated normal of 0.02.
        projection: whether what the heads found goes through a linear map of its own.
        **kwargs: `name`, `dtype` and other arguments of `keras.layers.Layer`.

    Call: `layer(queries, keys, values=None, padding_mask=None, training=False)` with queries
    `(B, N, D)`, keys and values `(B, M, D')`, the values being the keys where `None`;
    `padding_mask` `(B, M)` boolean, True where a key is real. Gives `(B, N, D)`.

    Raises:
        ValueError: if the heads do not divide the width.

    Source: Attention Is All You Need, 2017, equation 1.

    Example:
        >>> queries, keys = keras.ops.ones((2, 5, 192)), keras.ops.ones((2, 65, 192))
        >>> CrossAttention(3)(queries, keys).shape
        (2, 5, 192)
    """

    def __init__(
        self,
        heads: int,
        qkv_bias: bool = True,
        dropout: float = 0.0,
        seed: int | None = None,
        kernel_initializer: str | None = None,
        projection: bool = True,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.heads, self.qkv_bias, self.dropout = int(heads), qkv_bias, dropout
        self.seed, self.kernel_initializer = seed, kernel_initializer
        self.projection = projection

    def build(self, queries_shape: Any, keys_shape: Any = None, values_shape: Any = None) -> None:
        """Makes the linear maps for queries `(B, N, D)`, keys and values of the same or others."""
        width = queries_shape[-1]
        if self.heads < 1 or width % self.heads:
            raise ValueError(f"{self.heads} heads do not divide the width {width}.")
        keys_shape = keys_shape or queries_shape
        self.query = linear(self, width, 1, "query", use_bias=self.qkv_bias)
        self.key = linear(self, width, 2, "key", use_bias=False)
        self.value = linear(self, width, 3, "value", use_bias=self.qkv_bias)
        shapes = (queries_shape, keys_shape, values_shape or keys_shape)
        for part, shape in zip((self.query, self.key, self.value), shapes, strict=True):
            part.build(shape)
        if self.projection:
            self.out = linear(self, width, 4, "out")
            self.out.build(queries_shape)
        self.drop = Dropout(self.dropout, layer_seed(self.seed, 5), dtype=self.dtype_policy)
        self.built = True

    def _split(self, x: Any) -> Any:
        """`(B, heads, N, width / heads)` of `(B, N, width)`."""
        x = ops.reshape(x, (-1, ops.shape(x)[1], self.heads, x.shape[-1] // self.heads))
        return ops.transpose(x, (0, 2, 1, 3))

    def call(
        self,
        queries: Any,
        keys: Any,
        values: Any = None,
        padding_mask: Any = None,
        training: bool = False,
    ) -> Any:
        """Values, mixed by attention."""
        value = self._split(self.value(keys if values is None else values))
        if keys.shape[1] == 1:
            # There is nothing to choose.
            rows, count = ops.shape(queries)[:2]
            weights = ops.ones((rows, self.heads, count, 1), "float32")
        else:
            query, key = self._split(self.query(queries)), self._split(self.key(keys))
            weights = attention_weights(query, key, padding_mask)
        found = mixed(self.drop(weights, training=training), value)
        return self.out(found) if self.projection else found

    def compute_output_shape(self, queries_shape: Any, *args: Any, **kwargs: Any) -> Any:
        """Same as the queries'."""
        return queries_shape

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        names = ("heads", "qkv_bias", "dropout", "seed", "kernel_initializer", "projection")
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}


class _PostNormBlock(keras.layers.Layer):
    """Attention and feed-forward in some order; each is added to what it got, and the sum
    normalised.

    Class attributes:
        order: names of the parts.
        activation: of the feed-forward.
        epsilon: of the norms.
    """

    order: tuple[str, ...] = ()
    activation = "gelu"
    epsilon = 1e-6

    def __init__(
        self,
        heads: int,
        mlp_ratio: float = 4.0,
        dropout: float = 0.1,
        seed: int | None = None,
        kernel_initializer: str | None = "glorot_uniform",
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.heads, self.mlp_ratio, self.dropout = heads, mlp_ratio, dropout
        self.seed, self.kernel_initializer = seed, kernel_initializer

    def build(self, inputs_shape: Any, memory_shape: Any = None) -> None:
        """Makes all parts for `(B, N, D)`."""
        shape, policy = tuple(inputs_shape), self.dtype_policy
        for place, name in enumerate(self.order):
            options = {"seed": layer_seed(self.seed, place + 1), "dropout": self.dropout}
            options |= {"kernel_initializer": self.kernel_initializer, "dtype": policy}
            if name == "feed_forward":
                hidden = round(shape[-1] * self.mlp_ratio)
                part = FeedForward(hidden, self.activation, name=name, **options)
            else:
                part = CrossAttention(self.heads, name=name, **options)
            part.build(shape)
            setattr(self, name, part)
        self.norms, self.drops = [], []
        for place, name in enumerate(self.order):
            name = f"{name.removesuffix('_attention')}_norm"
            norm = keras.layers.LayerNormalization(epsilon=self.epsilon, dtype=policy, name=name)
            norm.build(shape)
            self.norms.append(norm)
            self.drops.append(Dropout(self.dropout, layer_seed(self.seed, 4, place), dtype=policy))
        self.built = True

    def call(
        self, inputs: Any, memory: Any = None, padding_mask: Any = None, training: bool = False
    ) -> Any:
        """Transformed tokens `(B, N, D)`."""
        x = inputs
        for name, drop, norm in zip(self.order, self.drops, self.norms, strict=True):
            part, others = getattr(self, name), ()
            options: dict[str, Any] = {}
            if name == "cross_attention":
                others = (memory,)
            elif name == "self_attention":
                others, options = (x,), {"padding_mask": padding_mask}
            found = part(x, *others, **options, training=training)
            x = norm(x + drop(found, training=training))
        return x

    def compute_output_shape(self, input_shape: Any, *args: Any, **kwargs: Any) -> Any:
        """Same as the input's."""
        return input_shape

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        names = ("heads", "mlp_ratio", "dropout", "seed", "kernel_initializer")
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}


@keras.saving.register_keras_serializable(package="keras_ssl")
class CrossSelfBlock(_PostNormBlock):
    """Attention to a memory, feed-forward, attention to one another; each is added to what it got,
    and the sum normalised.

    Args:
        heads: number of heads.
        mlp_ratio: hidden features of the feed-forward, in widths.
        dropout: rate with which attention weights, hidden features and results are dropped.
        seed: integer for the initial weights and what is dropped, or `None`.
        kernel_initializer: Keras name for the linear maps; `None` for a truncated normal of 0.02.
        **kwargs: `name`, `dtype` and other arguments of `keras.layers.Layer`.

    Call: `block(x, memory, padding_mask=None, training=False)` with x `(B, N, D)`, memory
    `(B, M, D)` and boolean `padding_mask` `(B, N)`, True where a token of x is real.

    Source: CropMAE, Eymaël et al. 2024, released code; the order of SiamMAE, Gupta et al. 2023.
    """

    order = ("cross_attention", "feed_forward", "self_attention")

    def __init__(self, heads: int, mlp_ratio: float = 8.0, *args: Any, **kwargs: Any):
        super().__init__(heads, mlp_ratio, *args, **kwargs)


@keras.saving.register_keras_serializable(package="keras_ssl")
class PostNormBlock(_PostNormBlock):
    """Attention to one another, then a feed-forward with ReLU; each is added to what it got, and
    the sum normalised.

    Args:
        heads: number of heads.
        mlp_ratio: hidden features of the feed-forward, in widths.
        dropout: rate with which attention weights, hidden features and results are dropped.
        seed: integer for the initial weights and what is dropped, or `None`.
        kernel_initializer: Keras name for the linear maps; `None` for a truncated normal of 0.02.
        **kwargs: `name`, `dtype` and other arguments of `keras.layers.Layer`.

    Call: `block(x, padding_mask=None, training=False)` with x `(B, N, D)` and boolean
    `padding_mask` `(B, N)`, True where a token is real.

    Source: Attention Is All You Need, 2017, section 3.1.
    """

    order = ("self_attention", "feed_forward")
    activation = "relu"
    epsilon = 1e-5


@keras.saving.register_keras_serializable(package="keras_ssl")
class CrossSelfDecoder(TransformerDecoder):
    """A `TransformerDecoder` whose tokens also look at those of a second view.

    The second view's tokens come without positions of the decoder; those of the encoder are in
    them.

    Args:
        values: numbers to predict for a token; `None` takes those of the target.
        width: features of a token.
        depth: number of blocks.
        heads: heads of a block.
        mlp_ratio: hidden features of a block's feed-forward, in widths.
        positions: settings of `SinCosPositions`; `None` for its usual ones.
        dropout: rate with which attention weights, hidden features and results are dropped.
        seed: integer for the initial weights and what is dropped, or `None`.
        **kwargs: `embed_bias` of `TransformerDecoder`; `name`, `dtype` and other arguments of
            `keras.layers.Layer`.

    Call: as `TransformerDecoder`, with `memory=` encoded tokens `(B, M, D)` of the second view.

    Raises:
        ValueError: for sizes below 1, or a window.

    Source: CropMAE, Eymaël et al. 2024, section 3, and released code.

    Example:
        >>> plan = RandomMasking(0.985).plan(8, (14, 14), distribution.fixed_seed(0))
        >>> seen, other = keras.ops.ones((8, 1 + 2, 192)), keras.ops.ones((8, 1 + 196, 192))
        >>> CrossSelfDecoder(768)(seen, plan=plan, grid=(14, 14), memory=other).shape
        (8, 194, 768)
    """

    def __init__(
        self,
        values: int | None = None,
        width: int = 256,
        depth: int = 4,
        heads: int = 8,
        mlp_ratio: float = 8.0,
        positions: Mapping[str, Any] | None = None,
        dropout: float = 0.1,
        **kwargs: Any,
    ):
        self.dropout = dropout
        super().__init__(values, width, depth, heads, mlp_ratio, positions, **kwargs)
        if self.window is not None:
            raise ValueError("CrossSelfDecoder attends to all tokens; leave window at None.")

    def make_block(self, **options: Any) -> keras.Layer:
        """One of the blocks."""
        return CrossSelfBlock(self.heads, self.mlp_ratio, self.dropout, **options)

    def call(
        self,
        inputs: Any,
        plan: Any,
        grid: Sequence[int],
        memory: Any,
        seen: bool = False,
        training: bool = False,
    ) -> Any:
        """Predicted values of the tokens that are asked for."""
        x, padding = self.sequence(inputs, plan, grid)
        memory = self.embed(memory)
        for block in self.blocks:
            x = block(x, memory, padding_mask=padding, training=training)
        return self.predicted(x, plan, grid, seen)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {**super().get_config(), "dropout": self.dropout}
