# SPDX-License-Identifier: Apache-2.0
"""The layers of a token transformer, and the ways of tokens through them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import keras
from keras import ops

from keras_ssl.core.seeds import layer_seed
from keras_ssl.tokens import (
    LearnedPositions,
    RotaryPositions,
    SinCosPositions,
    angles_at,
    attended,
    front_and_patches,
    gather_tokens,
)

POSITIONS = ("learned", "sincos", "rotary", "none")
POOLING = ("class", "mean", "concat")


class Parts:
    """The layers of a token transformer, and the way of tokens through them."""

    def __init__(self, tokenizer, positions, prefix, blocks, norm):
        self.tokenizer, self.positions, self.prefix = tokenizer, positions, prefix
        self.blocks, self.norm = blocks, norm

    def place(self, x: Any) -> tuple:
        """Tokens with positions, and the angles of rotary ones."""
        if self.positions is None:
            return x, None
        if isinstance(self.positions, RotaryPositions):
            return x, self.positions(x)
        return self.positions(x), None

    def embed(self, inputs: Any, mask: Any = None, mask_token: Any = None) -> tuple:
        """Tokens `(B, N, D)` before the first block, and the angles of rotary positions."""
        x = self.tokenizer(inputs)
        if mask_token is not None:
            x = mask_token(x, mask)
        x, angles = self.place(x)
        return self.prefix(x), angles

    def visible(self, inputs: Any, plan: Any = None, mask_token: Any = None) -> tuple[Any, dict]:
        """Tokens of what a plan shows before the first block, and what blocks need besides."""
        x = self.tokenizer(inputs)
        grid = tuple(x.shape)[1:-1]
        if plan is not None and (plan.replaced is not None or plan.keep is plan.shown is None):
            if mask_token is None:
                raise ValueError("this plan replaces tokens: encode(..., mask_token=MaskToken()).")
            x = mask_token(x, ops.reshape(plan.mask, (-1, *grid)))
        x, angles = self.place(x)
        padding = self.padding(inputs)
        if plan is not None and plan.keep is not None:
            x = gather_tokens(ops.reshape(x, (-1, math.prod(grid), x.shape[-1])), plan.keep)
            angles = angles if angles is None else self.angles_at(angles, plan.keep)
            padding = attended(plan, self.prefix.count, decoder=False)
        elif plan is not None and plan.shown is not None:
            shown = attended(plan, self.prefix.count, decoder=False)
            padding = shown if padding is None else ops.logical_and(shown, padding)
        return self.prefix(x), {"padding_mask": padding, "angles": angles}

    def angles_at(self, angles: Any, ids: Any) -> Any:
        """Angles of some tokens of every sample, `(2, B, 1, prefix + k, features)`."""
        return angles_at(angles, ids, self.prefix.count)

    def narrowed(self, x: Any, options: dict, ids: Any) -> tuple[Any, dict]:
        """Tokens in front and some of the others on their way, and what blocks need of those."""
        front, angles, padding = self.prefix.count, options["angles"], options["padding_mask"]
        if angles is not None and len(angles.shape) == 3:
            angles = self.angles_at(angles, ids)
        elif angles is not None:
            rows = [front_and_patches(part[:, 0], front, front, ids) for part in angles]
            angles = ops.expand_dims(ops.stack(rows), 2)
        if padding is not None:
            flags = ops.expand_dims(ops.cast(padding, "float32"), -1)
            padding = front_and_patches(flags, front, front, ids)[..., 0] > 0.5
        x = front_and_patches(x, front, front, ids)
        return x, {"padding_mask": padding, "angles": angles}

    def padding(self, inputs: Any) -> Any:
        """Which tokens are real `(B, N)`, those in front too; `None` where all are."""
        real = getattr(self.tokenizer, "padding_mask", lambda inputs: None)(inputs)
        if real is None:
            return None
        real = ops.cast(real, "bool")
        return ops.pad(real, ((0, 0), (self.prefix.count, 0)), constant_values=True)

    def __call__(self, inputs, wanted, mask=None, mask_token=None, last_norm=True) -> list:
        """Tokens after each of the wanted blocks."""
        x, angles = self.embed(inputs, mask, mask_token)
        padding = self.padding(inputs)
        options = {"angles": angles, "padding_mask": padding}
        options = {name: value for name, value in options.items() if value is not None}
        found = []
        for number, block in enumerate(self.blocks, start=1):
            x = block(x, **options)
            found += [self.norm(x) if last_norm else x] * wanted.count(number)
        return found

    def pooled(self, x: Any, inputs: Any, pooling: str) -> Any:
        """One vector for each sample, of its tokens `(B, N, D)`."""
        if pooling == "class":
            return x[:, 0]
        real = self.padding(inputs)
        skip = self.prefix.count
        if pooling == "concat":
            if real is not None or x.shape[1] is None:
                raise ValueError(
                    'pooling="concat" puts as many tokens side by side for every sample, and these '
                    'may be of different lengths. Use pooling="mean".'
                )
            return ops.reshape(x[:, skip:], (-1, (x.shape[1] - skip) * x.shape[2]))
        # Summed in float32 by Keras' own layer, and free of the tokens in front.
        mean = keras.layers.GlobalAveragePooling1D()
        return mean(x[:, skip:]) if real is None else mean(x[:, skip:], mask=real[:, skip:])


def positions_of(kind, shape, heads, seed, policy) -> keras.layers.Layer | None:
    """The layer of positions that a name or settings ask for."""
    grid, width = shape[1:-1], shape[-1]
    if isinstance(kind, Mapping) and "pairs" in kind:
        return RotaryPositions(width // heads, grid=grid, name="positions", **kind)
    if isinstance(kind, Mapping):
        return SinCosPositions(**kind, dtype=policy, name="positions")
    if kind not in POSITIONS:
        raise ValueError(f"positions must be one of {list(POSITIONS)}, received {kind!r}.")
    if kind == "none":
        return None
    if kind == "learned":
        return LearnedPositions(grid, seed=layer_seed(seed, 1), dtype=policy, name="positions")
    if kind == "sincos":
        return SinCosPositions(dtype=policy, name="positions")
    return RotaryPositions(width // heads, grid=grid, name="positions")


def checked_pooling(pooling: str | None, class_token: bool) -> str:
    """The pooling that is asked for, raising for one without its token."""
    pooling = pooling or ("class" if class_token else "mean")
    if pooling not in POOLING or (pooling == "class" and not class_token):
        raise ValueError(
            f"pooling must be one of {list(POOLING)}, 'class' only with class_token=True; received "
            f"pooling={pooling!r}, class_token={class_token}. tokens=True gives all tokens."
        )
    return pooling


def checked_layers(layers: Sequence[int] | None, depth: int) -> list[int]:
    """Numbers of blocks, the last where none is named, raising for ones that are not there."""
    layers = [depth] if layers is None else [int(number) for number in layers]
    if not layers or any(not 1 <= n <= depth for n in layers) or sorted(set(layers)) != layers:
        raise ValueError(
            f"layers names blocks in rising order, counted from 1 to {depth}; received {layers}."
        )
    return layers
