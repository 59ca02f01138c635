# SPDX-License-Identifier: Apache-2.0
"""One vector of a set of tokens."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from keras_ssl.core.seeds import layer_seed
from keras_ssl.tokens._cross import PostNormBlock


@keras.saving.register_keras_serializable(package="keras_ssl")
class SequenceAggregator(keras.layers.Layer):
    """A transformer that sums tokens up in one of its own, which stands in front of them.

    There are no positions: the order of the tokens does not matter. What comes between two of them
    has to be in the tokens themselves.

    Args:
        depth: number of blocks.
        heads: heads of a block; they divide the width.
        mlp_ratio: hidden features of a block's feed-forward, in widths.
        dropout: rate with which attention weights, hidden features and results are dropped.
        seed: integer for the initial weights and what is dropped, or `None`.
        **kwargs: `name`, `dtype` and other arguments of `keras.layers.Layer`.

    Call: `layer(tokens, training=False)` with tokens `(B, N, D)` gives `(B, D)`.

    Raises:
        ValueError: for sizes below 1, or heads that do not divide the width.

    Source: seq-JEPA, 2025, and released code (the dropout is that of its framework's default).

    Example:
        >>> SequenceAggregator()(keras.ops.ones((8, 3, 640))).shape
        (8, 640)
    """

    def __init__(
        self,
        depth: int = 3,
        heads: int = 4,
        mlp_ratio: float = 4.0,
        dropout: float = 0.1,
        seed: int | None = None,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        if min(depth, heads) < 1:
            raise ValueError(
                "SequenceAggregator needs a depth and heads of at least 1; received "
                f"{depth} and {heads}."
            )
        self.depth, self.heads, self.mlp_ratio = int(depth), int(heads), mlp_ratio
        self.dropout, self.seed = dropout, seed

    def build(self, tokens_shape: Any) -> None:
        """Makes all parts for tokens `(B, N, D)`."""
        shape = (None, None, tokens_shape[-1])
        self.token = self.add_weight(shape=(shape[-1],), initializer="zeros", name="token")
        self.blocks = []
        for index in range(self.depth):
            block = PostNormBlock(
                self.heads,
                self.mlp_ratio,
                self.dropout,
                layer_seed(self.seed, index),
                dtype=self.dtype_policy,
                name=f"block{index + 1}",
            )
            block.build(shape)
            self.blocks.append(block)
        self.norm = keras.layers.LayerNormalization(
            epsilon=1e-5, dtype=self.dtype_policy, name="norm"
        )
        self.norm.build(shape)
        self.built = True

    def call(self, tokens: Any, training: bool = False) -> Any:
        """The token in front, after all blocks."""
        rows, width = ops.shape(tokens)[0], tokens.shape[-1]
        front = ops.broadcast_to(ops.cast(self.token, tokens.dtype), (rows, 1, width))
        x = ops.concatenate([front, tokens], axis=1)
        for block in self.blocks:
            x = block(x, training=training)
        return self.norm(x[:, 0])

    def compute_output_shape(self, tokens_shape: Any) -> Any:
        """`(B, D)`."""
        return (tokens_shape[0], tokens_shape[-1])

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        names = ("depth", "heads", "mlp_ratio", "dropout", "seed")
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}
