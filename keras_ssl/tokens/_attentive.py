# SPDX-License-Identifier: Apache-2.0
"""Learned queries that gather what a set of tokens holds."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from keras_ssl.core.seeds import layer_seed
from keras_ssl.tokens._blocks import FeedForward, TransformerBlock
from keras_ssl.tokens._cross import CrossAttention


@keras.saving.register_keras_serializable(package="keras_ssl")
class AttentivePooling(keras.layers.Layer):
    """One vector of any number of tokens, by the attention of a learned query to them.

    A mean gives all tokens one weight; this learns which of them count. With a `Dense` behind it is
    the attentive probe of frozen tokens, and a pooling of patches, sets, points or nodes. Tokens
    without positions may come in any order.

    Args:
        heads: heads of the attention; they divide the width.
        queries: number of learned queries.
        mlp_ratio: hidden features of the feed-forward behind the attention, in widths; 0 for none.
        depth: number of blocks, of which the last is the attention of the queries and those before
            are self-attention among tokens; 1 in V-JEPA, 4 in V-JEPA 2.
        residual: whether what is found is added to the query.
        normalize: `"tokens"`, as in V-JEPA; `"each"` for norms of queries, keys and values, as in
            CAE, which has neither `residual` nor feed-forward.
        projection: whether what the heads found goes through a linear map of its own; V-JEPA's
            released layer owns one that it does not use.
        epsilon: of the norms.
        seed: integer for the initial weights, or `None`.
        kernel_initializer: Keras name for the linear maps; `None` for a truncated normal of 0.02.
        **kwargs: `name`, `dtype` and other arguments of `keras.layers.Layer`.

    Call: `layer(tokens, padding_mask=None, training=False)` with tokens `(B, N, D)` and boolean
    `padding_mask` `(B, N)`, True where a token is real, gives `(B, D)`, of several queries
    `(B, queries, D)`.

    Raises:
        ValueError: for numbers below 1, an unknown `normalize`, or heads that do not divide the
            width.

    Source: V-JEPA, Bardes et al., 2024, section 4.1, and released code; CAE, Chen et al., 2022,
    section 4, and released code.

    Example:
        >>> AttentivePooling(3)(keras.ops.ones((8, 65, 192))).shape
        (8, 192)
    """

    def __init__(
        self,
        heads: int,
        queries: int = 1,
        mlp_ratio: float = 4.0,
        depth: int = 1,
        residual: bool = True,
        normalize: str = "tokens",
        projection: bool = False,
        epsilon: float = 1e-5,
        seed: int | None = None,
        kernel_initializer: str | None = None,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        if min(heads, queries, depth) < 1 or normalize not in ("tokens", "each"):
            raise ValueError(
                "AttentivePooling needs heads, queries and depth of at least 1, and normalize="
                f'"tokens" or "each"; received {heads}, {queries}, {depth} and {normalize!r}.'
            )
        self.heads, self.queries, self.depth = int(heads), int(queries), int(depth)
        self.mlp_ratio, self.residual, self.normalize = mlp_ratio, residual, normalize
        self.projection, self.epsilon, self.seed = projection, epsilon, seed
        self.kernel_initializer = kernel_initializer

    def build(self, tokens_shape: Any) -> None:
        """Makes all parts for tokens `(B, N, D)`."""
        width = tokens_shape[-1]
        shape, found = (None, None, width), (None, self.queries, width)
        start = keras.initializers.TruncatedNormal(stddev=0.02, seed=layer_seed(self.seed, 0))
        self.query = self.add_weight(shape=(self.queries, width), initializer=start, name="queries")
        options = {"kernel_initializer": self.kernel_initializer, "dtype": self.dtype_policy}
        self.blocks = []
        for index in range(self.depth - 1):
            seed, name = layer_seed(self.seed, 1, index), f"block{index + 1}"
            block = TransformerBlock(
                self.heads, self.mlp_ratio or 4.0, seed=seed, name=name, **options
            )
            block.build(shape)
            self.blocks.append(block)
        normed = ("tokens",) if self.normalize == "tokens" else ("queries", "keys", "values")
        self.norms = [self._norm(name, found if name == "queries" else shape) for name in normed]
        self.attention = CrossAttention(
            self.heads,
            projection=self.projection,
            seed=layer_seed(self.seed, 2),
            name="attention",
            **options,
        )
        self.attention.build(found, shape)
        if self.mlp_ratio:
            self.feed_forward_norm = self._norm("feed_forward", found)
            self.feed_forward = FeedForward(
                int(width * self.mlp_ratio),
                seed=layer_seed(self.seed, 3),
                name="feed_forward",
                **options,
            )
            self.feed_forward.build(found)
        self.built = True

    def _norm(self, name: str, shape: Any) -> Any:
        norm = keras.layers.LayerNormalization(
            epsilon=self.epsilon, dtype=self.dtype_policy, name=f"{name}_norm"
        )
        norm.build(shape)
        return norm

    def call(self, tokens: Any, padding_mask: Any = None, training: bool = False) -> Any:
        """What the queries found."""
        for block in self.blocks:
            tokens = block(tokens, padding_mask=padding_mask, training=training)
        query = ops.cast(self.query, tokens.dtype)[None]
        query = ops.tile(query, (ops.shape(tokens)[0], 1, 1))
        if self.normalize == "tokens":
            parts = (query, self.norms[0](tokens))
        else:
            inputs = (query, tokens, tokens)
            parts = tuple(norm(x) for norm, x in zip(self.norms, inputs, strict=True))
        found = self.attention(*parts, padding_mask=padding_mask, training=training)
        found = query + found if self.residual else found
        if self.mlp_ratio:
            found = found + self.feed_forward(self.feed_forward_norm(found), training=training)
        return found[:, 0] if self.queries == 1 else found

    def compute_output_shape(self, tokens_shape: Any, *args: Any, **kwargs: Any) -> Any:
        """`(B, D)`, of several queries `(B, queries, D)`."""
        between = () if self.queries == 1 else (self.queries,)
        return (tokens_shape[0], *between, tokens_shape[-1])

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        names = ("heads", "queries", "mlp_ratio", "depth", "residual", "normalize", "projection")
        names += ("epsilon", "seed", "kernel_initializer")
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}
