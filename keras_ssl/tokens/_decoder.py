# SPDX-License-Identifier: Apache-2.0
"""From the tokens that an encoder saw to values of those that it did not."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import keras
from keras import ops

from keras_ssl.core.seeds import layer_seed
from keras_ssl.tokens._blocks import TransformerBlock
from keras_ssl.tokens._positions import SinCosPositions
from keras_ssl.tokens._sequence import gather_tokens
from keras_ssl.tokens._windows import Windows, checked_axes, restored


@keras.saving.register_keras_serializable(package="keras_ssl")
class TransformerDecoder(keras.layers.Layer):
    """A small transformer over what was seen and mask tokens at the places that are asked for.

    Mask tokens stand behind the encoded ones, each with the position of its place; a transformer
    does not care for their order. Only tokens that are asked for cost anything.

    With a window all tokens stand at their places in the grid, and a block attends within windows
    of it, which move in every second block; at the border of a grid that they do not tile they are
    smaller. Tokens in front belong to no window and are left out. A place that is neither seen nor
    asked for is empty, though it costs as much as others; one that is both keeps what was seen.

    Args:
        values: numbers to predict for a token; `None` takes those of the target, 0 gives tokens as
            the last block leaves them.
        width: features of a token.
        depth: number of blocks.
        heads: heads of a block.
        mlp_ratio: hidden features of a block's feed-forward, in widths.
        positions: settings of `SinCosPositions`; `None` for its usual ones.
        embed_bias: whether the map from the encoder's width has an offset (MAE; VideoMAE: not).
        window: tokens of a window on every axis of the grid; `None` attends to all.
        shift: tokens by which windows move in every second block; `None` for half a window.
        global_blocks: last blocks that attend to all nevertheless ("hybrid").
        seed: integer for the initial weights, or `None`.
        **kwargs: `name`, `dtype` and other arguments of `keras.layers.Layer`.

    Call: `decoder(encoded, plan=…, grid=…, seen=False, training=False)` with encoded
    `(B, e + k, D)`, e tokens in front (class token, registers) and the kept ones of a
    `masking.MaskPlan`, gives `(B, q, values)` for `plan.decode`; with `seen` those of the kept ones
    in front, `(B, k + q, values)`. Where the plan gathers nothing, encoded is `(B, e + L, D)` and
    all L tokens are predicted.

    Raises:
        ValueError: for sizes below 1, shifts that are no part of a window, or a grid with another
            number of axes than the window.

    Source: MAE, He et al. 2021, section 3; subsets: VideoMAE V2, Wang et al. 2023; windows:
    Audio-MAE, Huang et al. 2022, section 3.

    Example:
        >>> plan = RandomMasking(0.75).plan(8, (14, 14), distribution.fixed_seed(0))
        >>> decoder = TransformerDecoder(768, 512, 8, 16)
        >>> decoder(keras.ops.ones((8, 1 + 49, 192)), plan=plan, grid=(14, 14)).shape
        (8, 147, 768)
    """

    def __init__(
        self,
        values: int | None = None,
        width: int = 512,
        depth: int = 8,
        heads: int = 16,
        mlp_ratio: float = 4.0,
        positions: Mapping[str, Any] | None = None,
        embed_bias: bool = True,
        window: Sequence[int] | None = None,
        shift: Sequence[int] | None = None,
        global_blocks: int = 0,
        seed: int | None = None,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        if min(width, heads) < 1 or min(depth, values or 0) < 0:
            raise ValueError(
                "TransformerDecoder needs width and heads of at least 1 and values and a depth of "
                f"at least 0; received {values}, {width}, {heads} and {depth}."
            )
        self.values, self.width, self.depth, self.heads = values, int(width), int(depth), int(heads)
        self.mlp_ratio, self.embed_bias, self.seed = mlp_ratio, embed_bias, seed
        self.positions = dict(positions or {})
        self.window, self.shift = _checked_window(window, shift, global_blocks, self.depth)
        self.global_blocks = int(global_blocks)
        policy = self.dtype_policy
        glorot = keras.initializers.GlorotUniform(layer_seed(seed, 1))
        self.embed = keras.layers.Dense(
            self.width,
            use_bias=embed_bias,
            kernel_initializer=glorot,
            dtype=policy,
            name="embed",
        )
        options = {"kernel_initializer": "glorot_uniform", "dtype": policy}
        self.blocks = [
            self.make_block(seed=layer_seed(seed, 2, index), name=f"block{index + 1}", **options)
            for index in range(self.depth)
        ]
        self.norm = keras.layers.LayerNormalization(epsilon=1e-6, dtype=policy, name="norm")
        self.place = SinCosPositions(**self.positions, dtype=policy, name="positions")

    def make_block(self, **options: Any) -> keras.Layer:
        """One of the blocks."""
        return TransformerBlock(self.heads, self.mlp_ratio, **options)

    def build(self, encoded_shape: Any, *args: Any, **kwargs: Any) -> None:
        """Makes all parts for encoded tokens `(B, e + k, D)`."""
        if self.values is None:
            raise ValueError(f"{self.name}: say how many values a token has, values=...")
        inner = (None, None, self.width)
        self.embed.build((None, None, encoded_shape[-1]))
        for part in self.blocks:
            part.build(inner)
        self.mask_token = self.make_mask_token()
        self.built = True
        if not self.values:
            return
        self.norm.build(inner)
        glorot = keras.initializers.GlorotUniform(layer_seed(self.seed, 4))
        self.head = keras.layers.Dense(
            self.values, kernel_initializer=glorot, dtype=self.dtype_policy, name="head"
        )
        self.head.build(inner)

    def make_mask_token(self) -> Any:
        """The variable of what stands for a hidden token."""
        start = keras.initializers.TruncatedNormal(stddev=0.02, seed=layer_seed(self.seed, 3))
        return self.add_weight(shape=(self.width,), initializer=start, name="mask_token")

    def check(self, grid: Sequence[int]) -> None:
        """Raises when a grid of tokens cannot be decoded.

        Raises:
            ValueError: for another number of axes than the window's.
        """
        if self.window is not None:
            checked_axes(grid, self.window)

    def call(
        self,
        inputs: Any,
        plan: Any,
        grid: Sequence[int],
        seen: bool = False,
        training: bool = False,
    ) -> Any:
        """Predicted values of the tokens that are asked for."""
        x = self.hidden(inputs, plan, grid, training=training)
        if self.window is not None and plan.keep is not None:
            x = gather_tokens(x, ops.concatenate(_asked(plan, seen), axis=1))
        return self.predicted(x, plan, grid, seen)

    def hidden(
        self,
        inputs: Any,
        plan: Any,
        grid: Sequence[int],
        depth: int | None = None,
        training: bool = False,
    ) -> Any:
        """All tokens behind a block, without the last norm.

        Args:
            inputs: encoded tokens `(B, e + k, D)`.
            plan: a `masking.MaskPlan`.
            grid: tokens on every axis.
            depth: blocks to run; `None` for all.
            training: whether layers run in training mode.

        Returns:
            `(B, e + k + q, width)`: tokens in front, kept ones and those that are asked for; all L
            in their order where the plan gathers nothing. With a window `(B, L, width)`, the places
            in their order.
        """
        if self.window is not None:
            return self._in_windows(inputs, plan, grid, depth, training)
        x, padding = self.sequence(inputs, plan, grid)
        for block in self.blocks[:depth]:
            x = block(x, padding_mask=padding, training=training)
        return x

    def predicted(self, x: Any, plan: Any, grid: Sequence[int], seen: bool = False) -> Any:
        """Values of the tokens that are asked for, which stand last; of 0 values the tokens."""
        count = sum(ids.shape[1] for ids in _asked(plan, seen)) or math.prod(grid)
        x = x[:, -count:]
        return self.head(self.norm(x)) if self.values else x

    def _embedded(self, inputs: Any, grid: Sequence[int]) -> tuple[Any, Any]:
        """Encoded tokens in the decoder's width, and the positions of a grid."""
        x = self.embed(inputs)
        return x, ops.cast(self.place.table(grid, self.width), x.dtype)

    def sequence(
        self, inputs: Any, plan: Any, grid: Sequence[int], mask_token: Any = None
    ) -> tuple[Any, Any]:
        """Tokens for the blocks, and which of them are real; `None` takes its own mask token."""
        x, table = self._embedded(inputs, grid)
        mask_token = self.mask_token if mask_token is None else mask_token
        if plan.keep is None:
            before = x.shape[1] - table.shape[0]
            parts = [x[:, :before], x[:, before:] + table[None]]
        else:
            before = x.shape[1] - plan.keep.shape[1]
            kept = x[:, before:] + ops.take(table, plan.keep, axis=0)
            wanted = ops.cast(mask_token, x.dtype) + ops.take(table, plan.decode, axis=0)
            parts = [x[:, :before], kept, wanted]
        return ops.concatenate(parts, axis=1), attended(plan, before)

    def _in_windows(
        self, inputs: Any, plan: Any, grid: Sequence[int], depth: int | None, training: bool
    ) -> Any:
        """Tokens of all places `(B, L, width)` behind a block."""
        x, table = self._embedded(inputs, grid)
        x, real = restored(x, ops.cast(self.mask_token, x.dtype), table, plan)
        still = (0,) * len(self.window)
        kinds = [Windows(grid, self.window, shift) for shift in (still, self.shift)]
        local = self.depth - self.global_blocks
        for number, block in enumerate(self.blocks[:depth]):
            if number >= local:
                x = block(x, padding_mask=real, training=training)
                continue
            windows = kinds[number % 2]
            inside = windows.attended(real, x)
            x = windows.join(block(windows.cut(x), padding_mask=inside, training=training))
        return x

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        names = ("values", "width", "depth", "heads", "mlp_ratio", "embed_bias", "seed")
        own = {name: getattr(self, name) for name in (*names, "window", "shift", "global_blocks")}
        return {**super().get_config(), **own, "positions": self.positions}


def _asked(plan: Any, seen: bool) -> list:
    """Numbers of the tokens that are asked for; none where a plan gathers nothing."""
    if plan.keep is None:
        return []
    return [plan.keep, plan.decode] if seen else [plan.decode]


@keras.saving.register_keras_serializable(package="keras_ssl")
class MLPDecoder(keras.layers.Layer):
    """Predicts the values of every token from that token alone: a linear map, or a small network.

    Args:
        values: numbers to predict for a token; `None` takes those of the target.
        hidden: widths of layers with GELU in between; none makes it linear.
        seed: integer for the initial weights, or `None`.
        **kwargs: `name`, `dtype` and other arguments of `keras.layers.Layer`.

    Call: `decoder(encoded, plan=…, grid=…, training=False)` with encoded `(B, e + L, D)` and a plan
    that gathers nothing gives `(B, L, values)`.

    Raises:
        ValueError: for sizes below 1, or for a plan whose hidden tokens the encoder never got.

    Source: SimMIM, Xie et al. 2021, section 3.2 (linear); GMML, Atito et al. 2022 (three hidden).
    """

    def __init__(
        self,
        values: int | None = None,
        hidden: Sequence[int] = (),
        seed: int | None = None,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.hidden = tuple(int(width) for width in hidden)
        if min((*self.hidden, values or 1)) < 1:
            raise ValueError(
                f"MLPDecoder needs values and hidden widths of at least 1; received {values} and "
                f"{hidden}."
            )
        self.values, self.seed = values, seed

    def build(self, encoded_shape: Any, *args: Any, **kwargs: Any) -> None:
        """Makes the maps for encoded tokens `(B, e + L, D)`."""
        if self.values is None:
            raise ValueError(f"{self.name}: say how many values a token has, values=...")
        self.maps, before = [], encoded_shape[-1]
        for index, width in enumerate((*self.hidden, self.values)):
            start = keras.initializers.GlorotUniform(layer_seed(self.seed, index))
            dense = keras.layers.Dense(width, kernel_initializer=start, dtype=self.dtype_policy)
            dense.build((None, None, before))
            self.maps.append(dense)
            before = width
        self.built = True

    def call(self, inputs: Any, plan: Any, grid: Sequence[int], training: bool = False) -> Any:
        """Predicted values of all tokens."""
        if plan.keep is not None:
            raise ValueError(
                f"{type(self).__name__} predicts a token from itself, so hidden tokens must be "
                "replaced, not left out. Take a TransformerDecoder, or a masking without indices."
            )
        x = inputs[:, -plan.mask.shape[1] :]
        for dense in self.maps[:-1]:
            x = ops.gelu(dense(x), approximate=False)
        return self.maps[-1](x)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        own = {"values": self.values, "hidden": list(self.hidden), "seed": self.seed}
        return {**super().get_config(), **own}


def attended(plan: Any, before: int, decoder: bool = True) -> Any:
    """Which tokens of a sequence may be attended to.

    Args:
        plan: a `masking.MaskPlan`.
        before: number of tokens in front.
        decoder: whether the tokens that are asked for stand behind.

    Returns:
        Boolean `(B, tokens)`, or `None` where all may.
    """
    parts = [(plan.shown, plan.keep)]
    if decoder:
        parts.append((plan.asked, plan.decode))
    if all(flags is None for flags, _ in parts):
        return None
    flags = [ops.ones_like(ids, dtype="bool") if known is None else known for known, ids in parts]
    front = ops.ones((ops.shape(flags[0])[0], before), "bool")
    return ops.concatenate([front, *flags], axis=1)


def _checked_window(
    window: Sequence[int] | None, shift: Sequence[int] | None, global_blocks: int, depth: int
) -> tuple[Any, Any]:
    """Window and shift as tuples, the shift half a window where none is given."""
    if window is None:
        if shift is not None or global_blocks:
            raise ValueError(
                "shift and global_blocks say how windows move and which blocks have none; give "
                "window=(4, 4), or leave them out."
            )
        return None, None
    window = tuple(int(step) for step in window)
    if not window or min(window) < 1 or not 0 <= global_blocks <= depth:
        raise ValueError(
            "TransformerDecoder needs windows of at least 1 token on every axis and from 0 to "
            f"depth={depth} global blocks; received window={window}, {global_blocks=}."
        )
    shift = tuple(step // 2 for step in window) if shift is None else tuple(int(s) for s in shift)
    inside = all(0 <= s < step for s, step in zip(shift, window, strict=False))
    if len(shift) != len(window) or not inside:
        raise ValueError(
            f"shift has a number from 0 to below the window's size for each of its {len(window)} "
            f"axes; received shift={shift} for window={window}."
        )
    return window, shift
