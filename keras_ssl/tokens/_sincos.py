# SPDX-License-Identifier: Apache-2.0
"""Tables of sine and cosine positions, and how tables change their size."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from keras import ops

SPLITS = ("equal", "half", "cut", "pad")


def sincos_table(
    grid: Sequence[int],
    width: int,
    *,
    order: Sequence[int] | None = None,
    split: str | Sequence[int] = "equal",
    indexing: Literal["ij", "xy"] = "ij",
    interleaved: bool = False,
    flat: bool = False,
    prefix: int = 0,
    base: float = 10000.0,
) -> np.ndarray:
    """Fixed positions on a grid of any rank: `[sin | cos]` of each coordinate.

    The frequencies of an axis with d channels are `base^(-i / (d/2))`. Published tables differ in
    which axis comes first and in how channels are shared; in these terms:

    | table | settings |
    |---|---|
    | MAE, I-JEPA (2-D) | `order=(1, 0)`: the column first |
    | V-JEPA (2-D) | the row first, the default |
    | V-JEPA (3-D) | `split="half"`; its uniform form `split="cut"` |
    | CineMA (n-D) | `split="pad", indexing="xy"` |
    | VideoMAE | `flat=True, interleaved=True` |

    Args:
        grid: number of tokens on every axis.
        width: channels of a position.
        order: axes in the order of their channels; `None` for the order of the grid.
        split: channels of the axes, in the order of the grid: `"equal"` shares; `"half"`, half
            for the first axis and the rest in equal shares; `"cut"`, equal even shares rounded up,
            the surplus cut off at the end; `"pad"`, equal even shares rounded down, zeros at
            the end; or a list of even numbers.
        indexing: `"ij"`, or `"xy"` where the first coordinate runs along the second axis.
        interleaved: whether sines and cosines alternate instead of standing in two halves.
        flat: whether the position is the one index of the flattened grid.
        prefix: rows of zeros in front, for a class token and registers.
        base: of the frequencies.

    Returns:
        float64 array `(prefix + tokens, width)`.

    Raises:
        ValueError: for an unknown split, or channels that cannot be shared evenly.

    Source: Attention Is All You Need, 2017, section 3.5; the codes named above.

    Example:
        >>> sincos_table((14, 14), 768, order=(1, 0), prefix=1).shape
        (197, 768)
    """
    grid = tuple(int(n) for n in grid)
    if flat:
        grid = (int(np.prod(grid)),)
    shares = _shares(split, len(grid), width)
    coordinates = np.meshgrid(*(np.arange(n, dtype="float64") for n in grid), indexing=indexing)
    codes = [
        _code(place.reshape(-1), share, base, interleaved)
        for place, share in zip(coordinates, shares, strict=True)
    ]
    table = np.concatenate([codes[axis] for axis in order or range(len(grid))], axis=1)[:, :width]
    return np.pad(table, ((prefix, 0), (0, width - table.shape[1])))


def _shares(split: str | Sequence[int], axes: int, width: int) -> list[int]:
    if not isinstance(split, str):
        shares = [int(share) for share in split]
    elif split == "equal":
        shares = [width // axes] * axes
    elif split == "half":
        shares = [width // 2] + [width // 2 // (axes - 1)] * (axes - 1) if axes > 1 else [width]
    elif split == "cut":
        shares = [2 * -(-width // (2 * axes))] * axes
    elif split == "pad":
        shares = [2 * (width // (2 * axes))] * axes
    else:
        raise ValueError(f"split must be one of {SPLITS} or channel counts; received {split!r}.")
    exact = split not in ("cut", "pad")
    if len(shares) != axes or any(s % 2 for s in shares) or (exact and sum(shares) != width):
        raise ValueError(
            f"{width} channels on {axes} axes with split={split!r} gives {shares}: every axis "
            "needs an even number, and their sum must be the width. Choose a width that is a "
            f"multiple of {2 * axes}, or split='pad'."
        )
    return shares


def _code(place: np.ndarray, share: int, base: float, interleaved: bool) -> np.ndarray:
    half = share // 2
    angles = place[:, None] * base ** (-np.arange(half, dtype="float64") / max(half, 1))
    parts = [np.sin(angles), np.cos(angles)]
    if interleaved:
        return np.stack(parts, axis=-1).reshape(len(place), share)
    return np.concatenate(parts, axis=1)


def resize_matrix(
    old: int, new: int, method: str = "bicubic", antialias: bool = False
) -> np.ndarray:
    """Interpolation along one axis as a matrix, as torch does it (half-pixel centres).

    Args:
        old: number of values given.
        new: number of values wanted.
        method: `"bicubic"` (coefficient -0.75, with `antialias` -0.5) or `"bilinear"`.
        antialias: whether the kernel widens when there are fewer new values, and weights beyond
            the border are dropped instead of falling to the last value.

    Returns:
        float64 array `(new, old)` whose rows sum to 1.

    Raises:
        ValueError: for another method or sizes below 1.
    """
    if method not in ("bicubic", "bilinear") or min(old, new) < 1:
        raise ValueError(
            f"resize_matrix knows 'bicubic' and 'bilinear' between sizes of at least 1; received "
            f"{method!r}, {old} to {new}."
        )
    if old == new:
        return np.eye(old)
    stretch = max(old / new, 1.0) if antialias else 1.0
    centres = (np.arange(new) + 0.5) * old / new - 0.5
    reach = int(np.ceil(2 * stretch)) + 1
    taps = np.floor(centres)[:, None] + np.arange(-reach, reach + 1)[None]
    weights = _kernel(np.abs(taps - centres[:, None]) / stretch, method, antialias)
    if antialias:
        weights = weights * ((taps >= 0) & (taps < old))
        weights /= weights.sum(axis=1, keepdims=True)
    matrix = np.zeros((new, old))
    places = np.clip(taps, 0, old - 1).astype(int)
    np.add.at(matrix, (np.arange(new)[:, None], places), weights)
    return matrix


def _kernel(x: np.ndarray, method: str, antialias: bool) -> np.ndarray:
    if method == "bilinear":
        return np.maximum(1.0 - x, 0.0)
    a = -0.5 if antialias else -0.75
    near = ((a + 2.0) * x - (a + 3.0)) * x * x + 1.0
    far = ((a * x - 5.0 * a) * x + 8.0 * a) * x - 4.0 * a
    return np.where(x <= 1.0, near, np.where(x < 2.0, far, 0.0))


def interpolate_positions(
    table: Any,
    old: Sequence[int],
    new: Sequence[int],
    *,
    prefix: int = 0,
    method: str = "bicubic",
    antialias: bool = False,
) -> Any:
    """Positions of a grid of another size: one small matrix product an axis, with gradient.

    Args:
        table: `(prefix + tokens of old, D)` or `(1, prefix + tokens, D)`.
        old: grid of the table.
        new: grid wanted.
        prefix: rows in front that stay as they are.
        method: `"bicubic"` or `"bilinear"`.
        antialias: see `resize_matrix`.

    Returns:
        Tensor of the same rank and dtype with `prefix + tokens of new` rows.

    Raises:
        ValueError: if the table has another number of rows than `old` says.

    Source: Masked Autoencoders Are Scalable Vision Learners, 2021, fine-tuning code.
    """
    table = ops.convert_to_tensor(table)
    shape, rows = tuple(table.shape), int(np.prod(old))
    if shape[-2] != prefix + rows or len(old) != len(new):
        raise ValueError(
            f"a table of {shape[-2]} rows does not hold {prefix} + {tuple(old)} positions."
        )
    kept, x = table[..., :prefix, :], table[..., prefix:, :]
    x = ops.reshape(x, (*old, shape[-1]))
    for axis, (before, after) in enumerate(zip(old, new, strict=True)):
        if before != after:
            matrix = ops.cast(resize_matrix(before, after, method, antialias), table.dtype)
            x = ops.moveaxis(ops.tensordot(matrix, x, axes=([1], [axis])), 0, axis)
    x = ops.reshape(x, (*shape[:-2], int(np.prod(new)), shape[-1]))
    return ops.concatenate([kept, x], axis=-2)
