# SPDX-License-Identifier: Apache-2.0
"""Layers that tell tokens where they are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_ssl.tokens._sincos import interpolate_positions, sincos_table


def known_grid(layer: str, shape: Sequence) -> tuple[int, ...]:
    """The grid of tokens `(B, g1, …, gd, D)`.

    Args:
        layer: name for the message.
        shape: of the tokens.

    Returns:
        `(g1, …, gd)`.

    Raises:
        ValueError: if a side is not known when the graph is made.
    """
    grid = tuple(shape)[1:-1]
    if not grid or None in grid:
        raise ValueError(
            f"{layer} needs tokens (batch, grid axes, width) whose grid is known; received shape "
            f"{tuple(shape)}. Give batches of one image size each, so that shapes are static."
        )
    return grid


@keras.saving.register_keras_serializable(package="keras_ssl")
class LearnedPositions(keras.layers.Layer):
    """Adds a learned vector to the token of every place; interpolated for other grids.

    Args:
        grid: number of tokens on every axis that the table is made for; `None` takes that of the
            input it is built on.
        method: interpolation for other grids, `"bicubic"` as torch computes it, or `"bilinear"`.
        antialias: see `resize_matrix`.
        stddev: of the initial truncated normal.
        seed: integer for the initial weights, or `None`.
        **kwargs: `name`, `dtype` and other arguments of `keras.layers.Layer`.

    Call: `(B, g1, …, gd, D)` → the same shape.

    Raises:
        ValueError: if no grid is known.

    Source: An Image is Worth 16x16 Words, 2020, equation 1 and section 3.2.
    """

    def __init__(
        self,
        grid: Sequence[int] | None = None,
        method: str = "bicubic",
        antialias: bool = False,
        stddev: float = 0.02,
        seed: int | None = None,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.grid = None if grid is None else tuple(int(n) for n in grid)
        self.method, self.antialias, self.stddev, self.seed = method, antialias, stddev, seed

    def build(self, input_shape: Any) -> None:
        """Makes the table for tokens `(B, g1, …, gd, D)`."""
        self.grid = self.grid or known_grid(type(self).__name__, input_shape)
        self.table = self.add_weight(
            shape=(int(np.prod(self.grid)), input_shape[-1]),
            initializer=keras.initializers.TruncatedNormal(stddev=self.stddev, seed=self.seed),
            name="positions",
        )
        self.built = True

    def call(self, inputs: Any) -> Any:
        """Tokens with their positions."""
        grid = known_grid(type(self).__name__, inputs.shape)
        options = {"method": self.method, "antialias": self.antialias}
        table, own = ops.cast(self.table, "float32"), self.grid or grid
        table = interpolate_positions(table, own, grid, **options)
        return inputs + ops.cast(ops.reshape(table, (*grid, inputs.shape[-1])), inputs.dtype)

    def compute_output_shape(self, input_shape: Any) -> Any:
        """Same as the input's."""
        return input_shape

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        own = {n: getattr(self, n) for n in ("grid", "method", "antialias", "stddev", "seed")}
        return {**super().get_config(), **own}


@keras.saving.register_keras_serializable(package="keras_ssl")
class SinCosPositions(keras.layers.Layer):
    """Adds a fixed sine-cosine vector to the token of every place; of any grid.

    Args:
        **settings: `order`, `split`, `indexing`, `interleaved`, `flat` and `base` of
            `sincos_table`, and `name`, `dtype` of `keras.layers.Layer`. Without any of the first,
            grids of two axes get MAE's table, the column first, and others share the width evenly
            with zeros for what is left.

    Call: `(B, g1, …, gd, D)` → the same shape.

    Raises:
        ValueError: if the width cannot be shared by the axes.

    Example:
        >>> SinCosPositions(order=(1, 0))(keras.ops.zeros((1, 14, 14, 192))).shape
        (1, 14, 14, 192)
    """

    def __init__(self, **settings: Any):
        names = ("order", "split", "indexing", "interleaved", "flat", "base")
        self_settings = {name: settings.pop(name) for name in names if name in settings}
        super().__init__(**settings)
        self.settings = self_settings

    def build(self, input_shape: Any) -> None:
        """Checks that the width can be shared."""
        self.table([1] * (len(input_shape) - 2), input_shape[-1])
        self.built = True

    def table(self, grid: Sequence[int], width: int) -> np.ndarray:
        """The positions of a grid, float32 `(tokens, width)`."""
        usual: dict[str, Any] = {"order": (1, 0)} if len(grid) == 2 else {"split": "pad"}
        return sincos_table(grid, width, **(self.settings or usual)).astype("float32")

    def call(self, inputs: Any) -> Any:
        """Tokens with their positions."""
        grid = known_grid(type(self).__name__, inputs.shape)
        table = np.reshape(self.table(grid, inputs.shape[-1]), (*grid, inputs.shape[-1]))
        return inputs + ops.cast(ops.convert_to_tensor(table), inputs.dtype)

    def compute_output_shape(self, input_shape: Any) -> Any:
        """Same as the input's."""
        return input_shape

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {**super().get_config(), **self.settings}


@keras.saving.register_keras_serializable(package="keras_ssl")
class RotaryPositions(keras.layers.Layer):
    """Angles by which attention turns queries and keys, shared evenly by the axes of a grid.

    What attention sees then depends on the distance of two tokens only. Tokens in front of the
    grid (class token, registers) are not turned.

    Args:
        head_width: features of a head, twice a multiple of the number of axes.
        prefix: tokens in front.
        grid: grid that other grids are stretched to, so that a larger image spans the same
            angles; `None` counts tokens.
        base: of the frequencies.
        pairs: which features are turned together, `"halves"` (one of the first half with one of the
            second) or `"neighbours"`, where each axis has its own features and what they cannot
            share is not turned (V-JEPA 2).
        legacy: for neighbours, the angles of V-JEPA 2's released weights: both of a pair have their
            own, so that turning changes lengths.
        **kwargs: `name`, `dtype` and other arguments of `keras.layers.Layer`.

    Call: tokens `(B, g1, …, gd, D)` → float32 `(2, prefix + g1 ⋯ gd, head_width / 2)`: cosines
    and sines; for neighbours those of every feature, `(2, prefix + g1 ⋯ gd, head_width)`.

    Raises:
        ValueError: for unknown pairs, or if the axes cannot share the features.

    Source: RoFormer, 2021, equation 34; axial form: Rotary Position Embedding for Vision
    Transformer, 2024, equation 10; neighbours: V-JEPA 2, Assran et al. 2025, section 2.1, released
    code (facebookresearch/vjepa2).
    """

    def __init__(
        self,
        head_width: int,
        prefix: int = 0,
        grid: Sequence[int] | None = None,
        base: float = 10000.0,
        pairs: str = "halves",
        legacy: bool = False,
        **kwargs: Any,
    ):
        # Half precision cannot tell the angles of neighbouring tokens far from the origin.
        super().__init__(**{"dtype": "float32", **kwargs})
        self.head_width, self.prefix, self.base = int(head_width), int(prefix), float(base)
        self.grid = None if grid is None else tuple(int(n) for n in grid)
        self.pairs, self.legacy = pairs, bool(legacy)
        if pairs not in ("halves", "neighbours") or (legacy and pairs == "halves"):
            raise ValueError(
                f"pairs are 'halves' or 'neighbours', legacy=True only with the latter; received "
                f"pairs={pairs!r}, legacy={legacy!r}."
            )

    def build(self, input_shape: Any) -> None:
        """Checks that the axes can share the features."""
        axes = len(input_shape) - 2
        if self.pairs == "neighbours" and self.head_width >= 2 * axes:
            self.built = True
            return
        if self.head_width % (2 * axes):
            raise ValueError(
                f"rotary positions share the features of a head evenly between {axes} axes in "
                f"pairs; {self.head_width} is no multiple of {2 * axes}. Choose width and heads so."
            )
        self.built = True

    def call(self, inputs: Any) -> Any:
        """Cosines and sines of every token's angles."""
        return self.angles(known_grid(type(self).__name__, inputs.shape))

    def angles(self, grid: Sequence[int]) -> Any:
        """Cosines and sines of the tokens of a grid."""
        pairs = self.head_width // (2 * len(grid))
        rates = self.base ** (-np.arange(pairs) / pairs)
        reach = self.grid or grid
        places = [np.arange(n) * (own / n) for n, own in zip(grid, reach, strict=True)]
        turned = [p.reshape(-1, 1) * rates for p in np.meshgrid(*places, indexing="ij")]
        if self.pairs == "neighbours":
            double = (lambda x: np.tile(x, 2)) if self.legacy else (lambda x: np.repeat(x, 2, 1))
            turned = [double(x) for x in turned]
        angles = np.concatenate(turned, axis=1)
        width = self._angle_width()
        angles = np.pad(angles, ((self.prefix, 0), (0, width - angles.shape[1])))
        return ops.convert_to_tensor(np.stack([np.cos(angles), np.sin(angles)]).astype("float32"))

    def _angle_width(self) -> int:
        return self.head_width // (2 if self.pairs == "halves" else 1)

    def compute_output_shape(self, input_shape: Any) -> Any:
        """`(2, prefix + tokens, head_width / 2)`, for neighbours `head_width`."""
        grid = input_shape[1:-1]
        tokens = None if None in grid else self.prefix + int(np.prod(grid))
        return (2, tokens, self._angle_width())

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        names = ("head_width", "prefix", "grid", "base", "pairs", "legacy")
        own = {name: getattr(self, name) for name in names}
        return {**super().get_config(), **own}


def rotate(x: Any, angles: Any) -> Any:
    """Turns pairs of features: the first half with the second, or neighbours.

    Args:
        x: `(…, N, head width)` queries or keys.
        angles: `(2, N, head width / 2)`, or `(2, N, head width)` for neighbours, what
            `RotaryPositions` gives.

    Returns:
        Tensor of the shape and dtype of `x`.
    """
    cosine, sine = ops.cast(angles[0], "float32"), ops.cast(angles[1], "float32")
    whole = ops.cast(x, "float32")
    if cosine.shape[-1] == x.shape[-1]:
        across = ops.stack([-whole[..., 1::2], whole[..., ::2]], axis=-1)
        return ops.cast(whole * cosine + ops.reshape(across, ops.shape(x)) * sine, x.dtype)
    first, second = ops.split(whole, 2, axis=-1)
    turned = [first * cosine - second * sine, first * sine + second * cosine]
    return ops.cast(ops.concatenate(turned, axis=-1), x.dtype)


def angles_at(angles: Any, ids: Any, front: int) -> Any:
    """Angles of some tokens of every sample.

    Args:
        angles: `(2, front + L, features)`, what `RotaryPositions` gives.
        ids: `(B, k)` integers in 0..L-1.
        front: tokens in front, which all samples have.

    Returns:
        `(2, B, 1, front + k, features)`.
    """
    first = ops.zeros_like(ids[:, :1]) + ops.arange(front, dtype=ids.dtype)[None]
    ids = ops.concatenate([first, ids + front], axis=1)
    return ops.expand_dims(ops.take(angles, ids, axis=1), 2)
