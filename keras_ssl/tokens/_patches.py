# SPDX-License-Identifier: Apache-2.0
"""Signals, images, videos and volumes as grids of patches."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops


def patchify(x: Any, patch: Sequence[int]) -> Any:
    """Cuts samples of any rank into patches that do not overlap.

    Args:
        x: `(B, N1, …, Nd, C)`, any dtype.
        patch: sizes `(p1, …, pd)` of a patch; each must divide its axis.

    Returns:
        `(B, N1/p1, …, Nd/pd, p1 ⋯ pd · C)`, values within a patch in the order of the axes, the
        channels last.

    Raises:
        ValueError: if the rank differs or a size does not divide its axis.
    """
    patch = tuple(patch)
    grid = grid_of(x.shape, patch)
    sizes, sample = _sizes(x), []
    for axis, step in enumerate(patch):
        # At most one axis may be open in a reshape; the shape of the tensor knows the others.
        count = sizes[axis + 1] // step if grid[axis] is None else grid[axis]
        sample += [count, step]
    x = ops.reshape(x, (sizes[0], *sample, x.shape[-1]))
    rank = len(patch)
    grids, inside = range(1, 2 * rank, 2), range(2, 2 * rank + 1, 2)
    x = ops.transpose(x, (0, *grids, *inside, 2 * rank + 1))
    length = x.shape[-1]
    for step in patch:
        length *= step
    return ops.reshape(x, (sizes[0], *sample[::2], length))


def unpatchify(patches: Any, patch: Sequence[int]) -> Any:
    """Puts patches together again, the inverse of `patchify`.

    Args:
        patches: `(B, g1, …, gd, p1 ⋯ pd · C)`.
        patch: sizes `(p1, …, pd)` of a patch.

    Returns:
        `(B, g1·p1, …, gd·pd, C)`.

    Raises:
        ValueError: if the last axis is no multiple of a patch's volume.
    """
    patch, rank = tuple(patch), len(patch)
    volume = 1
    for step in patch:
        volume *= step
    if len(patches.shape) != rank + 2 or patches.shape[-1] % volume:
        raise ValueError(
            f"unpatchify expects (batch, {rank} grid axes, a multiple of {volume} values) for "
            f"patch {patch}; received shape {tuple(patches.shape)}."
        )
    sizes, channels = _sizes(patches), patches.shape[-1] // volume
    grid = sizes[1:-1]
    x = ops.reshape(patches, (sizes[0], *grid, *patch, channels))
    order = [axis for k in range(rank) for axis in (1 + k, 1 + rank + k)]
    x = ops.transpose(x, (0, *order, 2 * rank + 1))
    return ops.reshape(x, (sizes[0], *(g * p for g, p in zip(grid, patch, strict=True)), channels))


def spread(x: Any, grid: Sequence[int], patch: Sequence[int]) -> Any:
    """Gives every value of a sample the number of its token.

    Args:
        x: `(B, L)`, a number of every token.
        grid: `(g1, …, gd)`, tokens on every axis.
        patch: sizes `(p1, …, pd)` of a patch.

    Returns:
        `(B, g1·p1, …, gd·pd, 1)`.
    """
    x = ops.reshape(x, (-1, *grid, 1))
    for axis, step in enumerate(patch, start=1):
        x = ops.repeat(x, step, axis=axis)
    return x


def grid_of(shape: Sequence, patch: Sequence[int]) -> tuple:
    """Number of patches on every axis, None where the axis is open.

    Args:
        shape: `(B, N1, …, Nd, C)`.
        patch: sizes of a patch.

    Returns:
        Tuple of d entries.

    Raises:
        ValueError: if the rank differs or a size does not divide its axis.
    """
    sides, patch = tuple(shape)[1:-1], tuple(patch)
    if len(sides) != len(patch):
        raise ValueError(
            f"patch {patch} cuts {len(patch)} axes, so it takes (batch, {len(patch)} axes, "
            f"channels); received shape {tuple(shape)}."
        )
    if any(side is not None and side % step for side, step in zip(sides, patch, strict=True)):
        raise ValueError(
            f"a patch of {patch} does not tile samples of {sides}: every side must be a multiple. "
            "Resize or pad the samples, or choose another patch."
        )
    return tuple(s if s is None else s // step for s, step in zip(sides, patch, strict=True))


def _sizes(x: Any) -> list:
    """Static sizes where they are known, else those of the tensor."""
    actual = ops.shape(x)
    return [a if s is None else s for a, s in zip(actual, x.shape, strict=True)]


@keras.saving.register_keras_serializable(package="keras_ssl")
class PatchTokenizer(keras.layers.Layer):
    """Turns samples of any rank into a grid of tokens: one linear map of every patch.

    The rank is `len(patch)`: signals `(16,)`, images and spectrograms `(16, 16)`, videos
    `(2, 16, 16)`, volumes `(8, 8, 8)`. Equal to a convolution whose kernel and stride are the
    patch. The grid is kept, so that positions of any size can be added; `PrefixTokens` flattens
    it.

    Args:
        patch: sizes of a patch.
        width: features of a token.
        kernel_initializer: of the `(p1 ⋯ pd · C, width)` matrix; Glorot-uniform on it is MAE's
            choice, where a convolution would count its fan otherwise.
        use_bias: whether the map has an offset.
        seed: integer for the initial weights, or `None`.
        **kwargs: `name`, `dtype` and other arguments of `keras.layers.Layer`.

    Call: `(B, N1, …, Nd, C)` → `(B, N1/p1, …, Nd/pd, width)`.

    Raises:
        ValueError: for sizes below 1, or samples that the patch does not tile.

    Source: An Image is Worth 16x16 Words, 2020, equation 1.

    Example:
        >>> PatchTokenizer((4, 4), 192)(keras.ops.ones((2, 32, 32, 3))).shape
        (2, 8, 8, 192)
    """

    def __init__(
        self,
        patch: Sequence[int],
        width: int,
        kernel_initializer: str = "glorot_uniform",
        use_bias: bool = True,
        seed: int | None = None,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.patch = tuple(int(step) for step in patch)
        if not self.patch or min(self.patch) < 1 or width < 1:
            raise ValueError(
                f"PatchTokenizer needs patch sizes and width of at least 1; received "
                f"patch={patch!r}, width={width!r}."
            )
        self.width, self.use_bias, self.seed = int(width), use_bias, seed
        self.kernel_initializer = keras.initializers.get(kernel_initializer)
        if seed is not None:
            config = {**self.kernel_initializer.get_config(), "seed": seed}
            self.kernel_initializer = type(self.kernel_initializer).from_config(config)
        self.projection = keras.layers.Dense(
            self.width,
            use_bias=use_bias,
            kernel_initializer=self.kernel_initializer,
            dtype=self.dtype_policy,
            name="projection",
        )

    def build(self, input_shape: Any) -> None:
        """Builds the linear map for `(B, N1, …, Nd, C)`."""
        grid_of(input_shape, self.patch)
        self.channels = length = input_shape[-1]
        for step in self.patch:
            length *= step
        self.projection.build((None, length))
        self.built = True

    def call(self, inputs: Any) -> Any:
        """Tokens on their grid."""
        if inputs.shape[-1] is None:
            # Pipelines may lose it; the linear map knows it.
            sizes = _sizes(inputs)[:-1]
            inputs = ops.reshape(inputs, (*sizes, self.channels))
        return self.projection(patchify(inputs, self.patch))

    def compute_output_shape(self, input_shape: Any) -> Any:
        """`(B, N1/p1, …, Nd/pd, width)`."""
        return (input_shape[0], *grid_of(input_shape, self.patch), self.width)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        own = {
            "patch": list(self.patch),
            "width": self.width,
            "kernel_initializer": keras.initializers.serialize(self.kernel_initializer),
            "use_bias": self.use_bias,
            "seed": self.seed,
        }
        return {**super().get_config(), **own}
