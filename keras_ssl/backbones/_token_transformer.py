# SPDX-License-Identifier: Apache-2.0
"""A transformer over the tokens of any modality."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import keras
from keras import ops, tree

from keras_ssl.backbones._token_parts import (
    Parts,
    checked_layers,
    checked_pooling,
    positions_of,
)
from keras_ssl.core.seeds import layer_seed
from keras_ssl.tokens import (
    MaskToken,
    PrefixTokens,
    RotaryPositions,
    TransformerBlock,
)


@keras.saving.register_keras_serializable(package="keras_ssl")
class TokenTransformer(keras.Model):
    """A transformer as an ordinary Keras model, from what a tokenizer takes to a vector.

    Samples of other sizes than `input_shape` may be given: positions are interpolated. It saves,
    loads and exports like any model, and its parts are attributes: `tokenizer`, `positions`,
    `prefix`, `blocks`, `norm`.

    Args:
        tokenizer: layer from samples to tokens `(B, g1, …, gd, D)`: a `tokens.PatchTokenizer`,
            `tokens.FeatureTokenizer`, `tokens.EmbeddingTokenizer` or your own.
        input_shape: shape of one sample, without the batch; a dict of shapes for a tokenizer that
            takes a dict.
        depth: number of blocks.
        heads: heads of a block.
        mlp_ratio: hidden features of the feed-forward, in widths.
        class_token: whether a class token goes in front.
        registers: number of register tokens behind it.
        pooling: `"class"` (the class token), `"mean"` (of the tokens behind those in front) or
            `"concat"` (these side by side, `(B, L · D)`, for samples of one size), after the last
            norm; `None` takes the class token where there is one.
        tokens: whether the output is all tokens `(B, class + registers + L, D)`.
        layers: blocks, counted from 1, whose output is given, each normalised as the last; several
            make several outputs of one call. `None` is the last.
        positions: `"learned"` (bicubic for other sizes), `"sincos"` (on two axes MAE's table),
            `"rotary"`, `"none"`, or settings of `tokens.SinCosPositions` or, with `pairs` among
            them, of `tokens.RotaryPositions`.
        activation: `"gelu"` or `"swiglu"`.
        layer_scale: start of the blocks' `LayerScale`, or `None` without it.
        drop_path: rate of the last block; it rises linearly from 0 at the first.
        qkv_bias: whether queries, keys and values have an offset.
        kernel_initializer: Keras name for the blocks' linear maps; `None` for a truncated normal
            of 0.02 (ViT, DeiT). `"glorot_uniform"` is MAE's and much larger in narrow networks.
        seed: integer for the initial weights, or `None`.
        share: another transformer whose tokens in front, blocks and last norm are used, so that
            two tokenizers feed one network; depth and heads are then its own. A file of this model
            alone does not know of it.
        **kwargs: `name` and `dtype`.

    Raises:
        ValueError: for an unknown name, a pooling without its token, or sizes that do not fit.

    Source: An Image is Worth 16x16 Words, 2020; registers: Vision Transformers Need Registers,
    2023.

    Example:
        >>> tokenizer = tokens.PatchTokenizer((2, 8, 8), 192)
        >>> TokenTransformer(tokenizer, (16, 64, 64, 3), depth=4, heads=3).output_shape
        (None, 192)
    """

    def __init__(
        self,
        tokenizer: keras.Layer,
        input_shape: Any,
        depth: int = 12,
        heads: int = 3,
        *,
        mlp_ratio: float = 4.0,
        class_token: bool = True,
        registers: int = 0,
        pooling: str | None = None,
        tokens: bool = False,
        layers: Sequence[int] | None = None,
        positions: str | Mapping[str, Any] = "sincos",
        activation: str = "gelu",
        layer_scale: float | None = None,
        drop_path: float = 0.0,
        qkv_bias: bool = True,
        kernel_initializer: str | None = "glorot_uniform",
        seed: int | None = None,
        share: TokenTransformer | None = None,
        name: str | None = None,
        dtype: Any = None,
    ):
        # Before anything is added to them: what `get_config` gives back.
        settings = dict(locals())
        for key in ("self", "__class__", "name", "dtype", "share"):
            settings.pop(key, None)
        pooling = checked_pooling(pooling, class_token)
        depth = depth if share is None else len(share.blocks)
        wanted = checked_layers(layers, depth)
        policy = keras.dtype_policies.get(dtype or keras.config.dtype_policy())
        shape = tuple(tokenizer.compute_output_shape(_batched(input_shape)))
        place = positions_of(positions, shape, heads, seed, policy)
        prefix = PrefixTokens(
            class_token, registers, seed=layer_seed(seed, 2), dtype=policy, name="prefix"
        )
        if isinstance(place, RotaryPositions):
            place.prefix = prefix.count
        blocks = [
            TransformerBlock(
                heads,
                mlp_ratio,
                activation,
                qkv_bias,
                layer_scale,
                drop_path * index / max(depth - 1, 1),
                seed=layer_seed(seed, 3, index),
                kernel_initializer=kernel_initializer,
                dtype=policy,
                name=f"block{index + 1}",
            )
            for index in range(depth)
        ]
        norm = keras.layers.LayerNormalization(epsilon=1e-6, dtype=policy, name="norm")
        if share is not None:
            prefix, blocks, norm = share.prefix, share.blocks, share.norm
        parts = Parts(tokenizer, place, prefix, blocks, norm)

        inputs = _inputs(input_shape)
        found = parts(inputs, wanted)
        if not tokens:
            found = [parts.pooled(x, inputs, pooling) for x in found]
        outputs = found[0] if len(found) == 1 else found
        super().__init__(inputs, outputs, name=name or "token_transformer")
        self.dtype_policy = policy
        self._settings = settings
        self._parts = parts
        self.tokenizer, self.positions, self.prefix = tokenizer, place, prefix
        self.blocks, self.norm = blocks, norm
        self.sample_shape, self.width = settings["input_shape"], shape[-1]
        self.pooling = None if tokens else pooling
        self.grid = shape[1:-1]

    @property
    def batch_shape(self) -> Any:
        """Shape of a batch of samples, its rows `None`; a dict for a tokenizer that takes one."""
        return _batched(self.sample_shape)

    @property
    def patch(self) -> tuple[int, ...]:
        """Sizes of a patch."""
        return self.tokenizer.patch

    @property
    def encoded_shape(self) -> tuple:
        """Shape of what `encode` gives, rows and number of tokens open."""
        return (None, None, self.width)

    @property
    def input_spec(self) -> Any:
        """Samples of any size: positions are interpolated."""
        if isinstance(self.input_shape, (Mapping, list)) or self.pooling == "concat":
            return super().input_spec
        open_sizes = [None] * (len(self.input_shape) - 1)
        return keras.layers.InputSpec(shape=(*open_sizes, self.input_shape[-1]))

    def grid_of(self, inputs: Any) -> tuple[int, ...]:
        """The grid of tokens of samples `(B, …)`."""
        shapes = tree.map_structure(lambda x: tuple(x.shape), inputs)
        return tuple(self.tokenizer.compute_output_shape(shapes))[1:-1]

    def token_model(
        self,
        mask_token: MaskToken | None = None,
        layers: Sequence[int] | None = None,
        last_norm: bool = True,
    ) -> keras.Model:
        """A model from samples to all tokens, on the same weights.

        Args:
            mask_token: layer that replaces masked tokens before positions are added; the model
                then takes `[samples, mask]` with mask `(B, g1, …, gd)` of tokens.
            layers: blocks, counted from 1, whose output is given; `None` is the last.
            last_norm: whether each is normalised as the last.

        Returns:
            Functional model with outputs `(B, class + registers + L, D)`, a list for several
            layers.
        """
        rank = len(self.grid)
        samples = _inputs(self.sample_shape)
        if not isinstance(samples, Mapping) and len(samples.shape) == rank + 2:
            samples = keras.Input((*[None] * rank, samples.shape[-1]), name="images")
        inputs, mask = samples, None
        if mask_token is not None:
            mask = keras.Input([None] * rank, name="mask", dtype="float32")
            inputs = [samples, mask]
        wanted = checked_layers(layers, len(self.blocks))
        found = self._parts(samples, wanted, mask, mask_token, last_norm)
        return keras.Model(inputs, found[0] if len(found) == 1 else found, name="tokens")

    def first_tokens(
        self, inputs: Any, plan: Any = None, mask_token: MaskToken | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Tokens of what a plan shows as the first block gets them, and what blocks need besides.

        Args:
            inputs: samples, with `plan` and `mask_token` as `encode`.
            plan: see `encode`.
            mask_token: see `encode`.

        Returns:
            `(B, class + registers + k, D)`, and `padding_mask` and `angles` for every block.
        """
        return self._parts.visible(inputs, plan, mask_token)

    def keep_tokens(self, x: Any, options: dict[str, Any], ids: Any) -> tuple[Any, dict[str, Any]]:
        """Drops tokens on their way from one block to the next.

        Args:
            x: tokens `(B, class + registers + n, D)`.
            options: what blocks need besides, as `first_tokens` or this method gives it.
            ids: `(B, k)` integers in 0..n-1, the tokens behind those in front that stay.

        Returns:
            `(B, class + registers + k, D)`, and what the next blocks need besides.
        """
        return self._parts.narrowed(x, options, ids)

    def projections(self, inputs: Any, blocks: Sequence[int]) -> list:
        """Queries, keys and values of some blocks for samples.

        Args:
            inputs: samples `(B, …)`.
            blocks: blocks, counted from 1; those behind the last of them are not computed.

        Returns:
            List of `[queries, keys, values]` for each block, `(B, class + registers + L, D)` each
            with all heads side by side.
        """
        found: dict[int, list] = {}
        x, options = self.first_tokens(inputs)
        for number, block in enumerate(self.blocks[: max(blocks, default=0)], start=1):
            if number in blocks:
                found[number] = block.projections(x, options["angles"])
            if len(found) < len(set(blocks)):
                x = block(x, **options)
        return [found[number] for number in blocks]

    def hidden_states(
        self,
        inputs: Any,
        plan: Any = None,
        mask_token: MaskToken | None = None,
        blocks: Sequence[int] | None = None,
        training: bool = False,
    ) -> list:
        """Tokens of what a plan shows after some blocks, without the last norm.

        Args:
            inputs: samples, with `plan`, `mask_token` and `training` as `encode`.
            plan: see `encode`.
            mask_token: see `encode`.
            blocks: blocks in rising order, counted from 1; `None` for all. Those behind the last
                of them are not computed.
            training: see `encode`.

        Returns:
            List of `(B, class + registers + k, D)`, one for each block.
        """
        depth = len(self.blocks)
        wanted = checked_layers(range(1, depth + 1) if blocks is None else blocks, depth)
        x, options = self.first_tokens(inputs, plan, mask_token)
        found = []
        for number, block in enumerate(self.blocks[: wanted[-1]], start=1):
            x = block(x, **options, training=training)
            found += [x] * wanted.count(number)
        return found

    def encode(
        self,
        inputs: Any,
        plan: Any = None,
        mask_token: MaskToken | None = None,
        blocks: Sequence[int] | None = None,
        training: bool = False,
    ) -> Any:
        """Tokens of what a plan shows; nothing else is computed.

        Args:
            inputs: samples `(B, …)`.
            plan: a `masking.MaskPlan`, or `None` for all tokens.
            mask_token: layer for the places that the plan replaces.
            blocks: blocks, counted from 1, whose mean is normalised and given; `None` is the last.
            training: whether layers run in training mode.

        Returns:
            `(B, class + registers + k, D)`, the kept tokens in the order of the plan; all L where
            the plan gathers nothing.

        Raises:
            ValueError: for a plan that replaces tokens, without a mask token.
        """
        blocks = [len(self.blocks)] if blocks is None else blocks
        found = self.hidden_states(inputs, plan, mask_token, blocks, training)
        return self.norm(sum(found) / len(found) if len(found) > 1 else found[0])

    def attention_maps(self, images: Any, block: int = -1, tokens: Any = None) -> Any:
        """How much the class token attends to every token.

        Args:
            images: `(B, …)` samples as the model takes them.
            block: index into `blocks`.
            tokens: what that block gets, `(B, N, D)`, where it is known already.

        Returns:
            float32 `(B, heads, g1, …, gd)`; with the weights of the other tokens in front a row
            would sum to 1.

        Raises:
            ValueError: without a class token.
        """
        if not self.prefix.class_token:
            raise ValueError("attention_maps shows what the class token attends to; there is none.")
        grid = tuple(self.tokenizer(images).shape)[1:-1]
        x, angles = self._parts.embed(images)
        asked = self.blocks[block]
        if tokens is None:
            for part in self.blocks[: self.blocks.index(asked)]:
                x = part(x, angles=angles)
        weights = asked.attention_weights(x if tokens is None else tokens, angles=angles)
        weights = weights[:, :, 0, self.prefix.count :]
        return ops.reshape(weights, (-1, weights.shape[1], *grid))

    def copied(self, **changes: Any) -> TokenTransformer:
        """A network of its own with the same weights and some other settings.

        Args:
            **changes: arguments of the constructor that leave the shapes of weights as they are,
                such as `positions`, `pooling` or `drop_path`. Other positions start anew.

        Returns:
            The network.

        Example:
            >>> bag = VisionTransformer("tiny", (32, 32, 3), patch=4, positions="none")
            >>> bag.copied(positions="sincos").output_shape
            (None, 192)
        """
        copy = type(self).from_config({**self.get_config(), **changes})
        parts = [(copy.tokenizer, self.tokenizer), (copy.prefix, self.prefix)]
        parts += [(copy.norm, self.norm), *zip(copy.blocks, self.blocks, strict=True)]
        if "positions" not in changes and self.positions is not None:
            parts.append((copy.positions, self.positions))
        for mine, theirs in parts:
            mine.set_weights(theirs.get_weights())
        return copy

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        config = {**self._settings, "name": self.name}
        if isinstance(config.get("tokenizer"), keras.Layer):
            config["tokenizer"] = keras.saving.serialize_keras_object(config["tokenizer"])
        if self.dtype_policy != keras.config.dtype_policy():
            config["dtype"] = self.dtype_policy.name
        return config

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> TokenTransformer:
        """Builds the model from `get_config`."""
        config = dict(config)
        if isinstance(config.get("tokenizer"), dict):
            config["tokenizer"] = keras.saving.deserialize_keras_object(config["tokenizer"])
        return cls(**config)


def _batched(shape: Any) -> Any:
    if isinstance(shape, Mapping):
        return {name: (None, *one) for name, one in shape.items()}
    return (None, *shape)


def _inputs(shape: Any) -> Any:
    if isinstance(shape, Mapping):
        return {name: keras.Input(tuple(one), name=name) for name, one in shape.items()}
    return keras.Input(tuple(shape), name="images" if len(shape) == 3 else "samples")
