# SPDX-License-Identifier: Apache-2.0
"""From visible tokens to the latents of hidden ones, and from those to values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import keras
from keras import ops

from keras_ssl.core.seeds import layer_seed
from keras_ssl.tokens._blocks import FeedForward, TransformerBlock
from keras_ssl.tokens._branches import DropPath, LayerScale
from keras_ssl.tokens._cross import CrossAttention
from keras_ssl.tokens._decoder import attended
from keras_ssl.tokens._positions import SinCosPositions

# Hidden tokens come without a place of their own; the row stands first, as in CAE's code.
POSITIONS = {"order": (0, 1)}


@keras.saving.register_keras_serializable(package="keras_ssl")
class RegressorBlock(keras.layers.Layer):
    """Updates some tokens by attention to a context, which stays as it is.

    `x = x + s1 · attention(norm(x + p), norm(c + q), norm(c))`, `x = norm(x)`,
    `x = x + s2 · feed_forward(x)`, with positions p and q added to queries and keys only. The
    second norm stands in the residual stream.

    Args:
        heads: number of heads.
        mlp_ratio: hidden features of the feed-forward, in widths.
        layer_scale: start of `LayerScale` on both branches.
        drop_path: probability with which a sample skips a branch.
        seed: integer for the initial weights, or `None`.
        kernel_initializer: Keras name for the linear maps; `None` for a truncated normal of 0.02.
        **kwargs: `name`, `dtype` and other arguments of `keras.layers.Layer`.

    Call: `block(x, context, places, context_places, padding_mask=None, training=False)` with x and
    its places `(B, N, D)`, the context and its places `(B, M, D)`, boolean `padding_mask` `(B, M)`,
    True where the context is real.

    Source: CAE, Chen et al. 2022, section 3.1, and released code.
    """

    def __init__(
        self,
        heads: int,
        mlp_ratio: float = 4.0,
        layer_scale: float = 0.1,
        drop_path: float = 0.0,
        seed: int | None = None,
        kernel_initializer: str | None = "glorot_uniform",
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.heads, self.mlp_ratio, self.layer_scale = heads, mlp_ratio, layer_scale
        self.drop_path, self.seed, self.kernel_initializer = drop_path, seed, kernel_initializer

    def build(self, inputs_shape: Any, *args: Any, **kwargs: Any) -> None:
        """Makes all parts for `(B, N, D)`."""
        shape, policy = tuple(inputs_shape), self.dtype_policy

        def options(place: int, name: str) -> dict[str, Any]:
            own = {"seed": layer_seed(self.seed, place), "name": name, "dtype": policy}
            return {**own, "kernel_initializer": self.kernel_initializer}

        self.norms = [
            keras.layers.LayerNormalization(epsilon=1e-6, dtype=policy, name=f"{name}_norm")
            for name in ("query", "key", "value", "feed_forward")
        ]
        hidden = round(shape[-1] * self.mlp_ratio)
        self.attention = CrossAttention(self.heads, **options(1, "attention"))
        self.feed_forward = FeedForward(hidden, **options(2, "feed_forward"))
        names = ("attention_scale", "feed_forward_scale")
        self.scales = [LayerScale(self.layer_scale, dtype=policy, name=name) for name in names]
        seeds = (layer_seed(self.seed, 3), layer_seed(self.seed, 4))
        self.drops = [DropPath(self.drop_path, seed, dtype=policy) for seed in seeds]
        for part in (*self.norms, self.attention, self.feed_forward, *self.scales, *self.drops):
            part.build(shape)
        self.built = True

    def call(
        self,
        inputs: Any,
        context: Any,
        places: Any,
        context_places: Any,
        padding_mask: Any = None,
        training: bool = False,
    ) -> Any:
        """The updated tokens `(B, N, D)`."""
        query, key, value, hidden = self.norms
        first, second = self.scales
        x = self.attention(
            query(inputs + places),
            key(context + context_places),
            value(context),
            padding_mask=padding_mask,
        )
        x = hidden(inputs + self.drops[0](first(x), training=training))
        return x + self.drops[1](second(self.feed_forward(x)), training=training)

    def compute_output_shape(self, inputs_shape: Any, *args: Any, **kwargs: Any) -> Any:
        """Same as the tokens'."""
        return inputs_shape

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        names = ("heads", "mlp_ratio", "layer_scale", "drop_path", "seed", "kernel_initializer")
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}


class _Latent(keras.layers.Layer):
    """What a regressor of latents and their decoder have in common."""

    def __init__(
        self,
        depth: int = 4,
        heads: int = 12,
        mlp_ratio: float = 4.0,
        layer_scale: float = 0.1,
        drop_path: float = 0.0,
        positions: Mapping[str, Any] | None = None,
        seed: int | None = None,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        if min(depth, heads) < 1:
            raise ValueError(
                f"{type(self).__name__} needs a depth and heads of at least 1; received {depth} "
                f"and {heads}."
            )
        self.depth, self.heads, self.mlp_ratio = int(depth), int(heads), mlp_ratio
        self.layer_scale, self.drop_path, self.seed = layer_scale, drop_path, seed
        self.positions = dict(POSITIONS if positions is None else positions)
        self.norm = keras.layers.LayerNormalization(
            epsilon=1e-6, dtype=self.dtype_policy, name="norm"
        )
        self.place = SinCosPositions(**self.positions, dtype=self.dtype_policy, name="positions")

    def build_blocks(self, make: Any, width: int) -> None:
        """Makes blocks and norm; dropped paths rise linearly from 0 at the first."""
        self.blocks = []
        for index in range(self.depth):
            block = make(
                self.heads,
                mlp_ratio=self.mlp_ratio,
                layer_scale=self.layer_scale,
                drop_path=self.drop_path * index / max(self.depth - 1, 1),
                seed=layer_seed(self.seed, 1, index),
                kernel_initializer="glorot_uniform",
                dtype=self.dtype_policy,
                name=f"block{index + 1}",
            )
            block.build((None, None, width))
            self.blocks.append(block)
        self.norm.build((None, None, width))

    def places(self, ids: Any, grid: Sequence[int], like: Any) -> Any:
        """Positions `(B, k, D)` of tokens, of the width and dtype of others."""
        table = ops.cast(self.place.table(grid, like.shape[-1]), like.dtype)
        return ops.take(table, ids, axis=0)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        names = ("depth", "heads", "mlp_ratio", "layer_scale", "drop_path", "positions", "seed")
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}


@keras.saving.register_keras_serializable(package="keras_ssl")
class LatentRegressor(_Latent):
    """Predicts what an encoder would make of hidden tokens, from what it made of visible ones.

    Mask tokens with the positions of the hidden tokens attend to the visible ones and to one
    another, block by block; visible tokens stay as the encoder left them, and tokens in front of
    them (class token, registers) take no part.

    Args:
        depth: number of blocks.
        heads: heads of a block.
        mlp_ratio: hidden features of a block's feed-forward, in widths.
        layer_scale: start of the blocks' `LayerScale`.
        drop_path: rate of the last block; it rises linearly from 0 at the first.
        positions: settings of `SinCosPositions`; `None` for those with the row first.
        seed: integer for the initial weights, or `None`.
        **kwargs: `name`, `dtype` and other arguments of `keras.layers.Layer`.

    Call: `regressor(encoded, plan=…, grid=…, training=False)` with encoded `(B, e + k, D)`, e
    tokens in front and the kept ones of a `masking.MaskPlan`, gives `(B, q, D)` for `plan.decode`.

    Raises:
        ValueError: for sizes below 1, or a plan that gathers nothing.

    Source: CAE, Chen et al. 2022, section 3.1; order of positions: released code.

    Example:
        >>> plan = RandomMasking(0.5).plan(8, (14, 14), distribution.fixed_seed(0))
        >>> encoded = keras.ops.ones((8, 1 + 98, 192))
        >>> LatentRegressor(heads=3)(encoded, plan=plan, grid=(14, 14)).shape
        (8, 98, 192)
    """

    def build(self, encoded_shape: Any, *args: Any, **kwargs: Any) -> None:
        """Makes all parts for encoded tokens `(B, e + k, D)`."""
        width = encoded_shape[-1]
        self.build_blocks(RegressorBlock, width)
        start = keras.initializers.TruncatedNormal(stddev=0.02, seed=layer_seed(self.seed, 2))
        self.mask_token = self.add_weight(shape=(width,), initializer=start, name="mask_token")
        self.built = True

    def call(self, inputs: Any, plan: Any, grid: Sequence[int], training: bool = False) -> Any:
        """Latents of the tokens that are asked for."""
        if plan.keep is None:
            raise ValueError(
                f"{type(self).__name__} predicts tokens that the encoder never got; give a masking "
                "whose plans have indices, such as BlockMasking(exact=True)."
            )
        visible = inputs[:, -plan.keep.shape[1] :]
        own, others = (self.places(ids, grid, inputs) for ids in (plan.decode, plan.keep))
        return self.regress(visible, others, own, attended(plan, 0), training)

    def regress(
        self,
        visible: Any,
        visible_places: Any,
        places: Any,
        padding_mask: Any = None,
        training: bool = False,
    ) -> Any:
        """Latents of tokens whose positions are given.

        Args:
            visible: `(B, k, D)`.
            visible_places: their positions, `(B, k, D)`.
            places: positions of the others, `(B, q, D)`.
            padding_mask: boolean `(B, k + q)`, True where a token is real; `None` where all are.
            training: whether layers run in training mode.

        Returns:
            `(B, q, D)`.
        """
        x = ops.broadcast_to(ops.cast(self.mask_token, visible.dtype), ops.shape(places))
        every = ops.concatenate([visible_places, places], axis=1)
        for block in self.blocks:
            context = ops.concatenate([visible, x], axis=1)
            x = block(x, context, places, every, padding_mask=padding_mask, training=training)
        return self.norm(x)


@keras.saving.register_keras_serializable(package="keras_ssl")
class LatentDecoder(_Latent):
    """Predicts values of hidden tokens from their latents alone, by self-attention.

    Args:
        values: numbers to predict for a token; `None` takes those of the target.
        depth: number of blocks.
        heads: heads of a block.
        mlp_ratio: hidden features of a block's feed-forward, in widths.
        layer_scale: start of the blocks' `LayerScale`.
        drop_path: rate of the last block; it rises linearly from 0 at the first.
        positions: settings of `SinCosPositions`; `None` for those with the row first.
        seed: integer for the initial weights, or `None`.
        **kwargs: `name`, `dtype` and other arguments of `keras.layers.Layer`.

    Call: `decoder(latents, plan=…, grid=…, training=False)` with latents `(B, q, D)` of
    `plan.decode` gives `(B, q, values)`.

    Raises:
        ValueError: for sizes below 1.

    Source: CAE, Chen et al. 2022, section 3.1.
    """

    def __init__(self, values: int | None = None, depth: int = 4, heads: int = 12, **kwargs: Any):
        super().__init__(depth, heads, **kwargs)
        self.values = values

    def build(self, latents_shape: Any, *args: Any, **kwargs: Any) -> None:
        """Makes all parts for latents `(B, q, D)`."""
        if self.values is None:
            raise ValueError(f"{self.name}: say how many values a token has, values=...")
        self.build_blocks(TransformerBlock, latents_shape[-1])
        start = keras.initializers.GlorotUniform(layer_seed(self.seed, 2))
        self.head = keras.layers.Dense(
            self.values, kernel_initializer=start, dtype=self.dtype_policy, name="head"
        )
        self.head.build((None, None, latents_shape[-1]))
        self.built = True

    def call(self, inputs: Any, plan: Any, grid: Sequence[int], training: bool = False) -> Any:
        """Predicted values of the tokens that are asked for."""
        x = inputs + self.places(plan.decode, grid, inputs)
        for block in self.blocks:
            x = block(x, padding_mask=plan.asked, training=training)
        return self.head(self.norm(x))

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {**super().get_config(), "values": self.values}
