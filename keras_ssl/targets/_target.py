# SPDX-License-Identifier: Apache-2.0
"""What all targets have in common: float32, no gradient, one row for every token."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from keras_ssl.tokens._patches import grid_of, patchify


class Target(keras.layers.Layer):
    """Base of what a masked model predicts for every token of a sample.

    A target of your own defines `call` and `compute_output_shape`.

    Class attributes:
        categorical: whether the target is one of a number of classes, given as int32 ids
            `(B, L)`, instead of numbers, float32 `(B, L, P)`.

    Args:
        **kwargs: `name` and other arguments of `keras.layers.Layer`; the dtype is float32 whatever
            the policy, for a target that is rounded is another target.

    Call: `(B, N1, …, Nd, C)` samples → `(B, L, P)` float32 or `(B, L)` int32, without gradient,
    tokens in row-major order (the last axis fastest).
    """

    categorical: bool = False

    def __init__(self, **kwargs: Any):
        super().__init__(**{**kwargs, "dtype": "float32"})

    def compute_output_shape(self, input_shape: Any) -> Any:
        """`(B, L, P)`, or `(B, L)` where categorical."""
        raise NotImplementedError(f"{type(self).__name__} must define compute_output_shape.")

    def compute_output_spec(self, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        """Shape and dtype of the target of symbolic samples."""
        shape = self.compute_output_shape(tuple(inputs.shape))
        return keras.KerasTensor(shape, dtype="int32" if self.categorical else "float32")

    def head_width(self, input_shape: Sequence) -> int:
        """Numbers that a head must give for every token.

        Args:
            input_shape: `(B, N1, …, Nd, C)`, B may be None.

        Returns:
            P, or the number of classes where categorical.
        """
        return self.compute_output_shape(input_shape)[-1]

    def check(self, input_shape: Sequence, grid: Sequence[int]) -> None:
        """Requires one row of the target for every token of a model.

        Args:
            input_shape: `(B, N1, …, Nd, C)` of the samples, B may be None.
            grid: the model's tokens on every axis.

        Raises:
            ValueError: if the numbers of tokens differ.
        """
        count = self.compute_output_shape(input_shape)[1]
        if count is not None and count != math.prod(grid):
            raise ValueError(
                f"{type(self).__name__} gives {count} tokens for samples of {input_shape}, "
                f"and the model has a grid of {tuple(grid)}, {math.prod(grid)} tokens. Choose a "
                "target with a row for every token."
            )


class PatchTarget(Target):
    """Base of targets that are computed from the patches of a sample.

    Args:
        patch: sizes `(p1, …, pd)` of a patch.
        **kwargs: `name` and other arguments of `keras.layers.Layer`.

    Raises:
        ValueError: for sizes below 1.
    """

    def __init__(self, patch: Sequence[int], **kwargs: Any):
        super().__init__(**kwargs)
        sizes = tuple(int(step) for step in patch) if isinstance(patch, (list, tuple)) else ()
        if not sizes or min(sizes) < 1:
            raise ValueError(
                f"{type(self).__name__} needs the sizes of a patch, one of at least 1 for every "
                f"axis, for example (16, 16) for images; received patch={patch!r}."
            )
        self.patch = sizes

    def grid(self, input_shape: Sequence) -> tuple:
        """Number of patches on every axis of samples `(B, N1, …, Nd, C)`, None where open."""
        return grid_of(input_shape, self.patch)

    def check(self, input_shape: Sequence, grid: Sequence[int]) -> None:
        """Requires the patches of the target to be the tokens of a model.

        Args:
            input_shape: `(B, N1, …, Nd, C)` of the samples, B may be None.
            grid: the model's tokens on every axis.

        Raises:
            ValueError: if the grids differ.
        """
        mine = self.grid(input_shape)
        if None not in mine and mine != tuple(grid):
            raise ValueError(
                f"{type(self).__name__} with patch {self.patch} cuts samples "
                f"{tuple(input_shape)[1:]} into a grid of {mine}, and the model has one of "
                f"{tuple(grid)}. Give the target the patch of the model's tokenizer."
            )

    def values(self, channels: int) -> int:
        """Numbers of one token, P, for samples of so many channels."""
        raise NotImplementedError(f"{type(self).__name__} must define values.")

    def compute_output_shape(self, input_shape: Any) -> Any:
        """`(B, L, P)`."""
        count = token_count(self.grid(input_shape))
        return (input_shape[0], count, self.values(input_shape[-1]))

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {**super().get_config(), "patch": list(self.patch)}


def token_count(grid: Sequence) -> int | None:
    """Tokens of a grid, None where an axis is open."""
    return None if None in grid else math.prod(grid)


def patch_tokens(x: Any, patch: Sequence[int]) -> Any:
    """Patches of `(B, N1, …, Nd, C)` one after the other: `(B, L, p1 ⋯ pd · C)`."""
    x = patchify(x, patch)
    rows, *grid, width = sizes_of(x)
    return ops.reshape(x, (rows, math.prod(grid), width))


def sizes_of(x: Any) -> list:
    """Sizes of a tensor: static where they are known, else those of the running step."""
    return [a if s is None else s for a, s in zip(ops.shape(x), x.shape, strict=True)]
