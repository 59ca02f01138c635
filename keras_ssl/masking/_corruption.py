# SPDX-License-Identifier: Apache-2.0
"""Connected groups of pixels, filled with noise or with another image."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from keras_ssl.core import distribution

FILLS = ("noise", "zeros")


@keras.saving.register_keras_serializable(package="keras_ssl")
class GroupCorruption(keras.layers.Layer):
    """Overwrites rectangles of an image with noise, or with the same places of another image.

    Rectangles are added until a share of the image is covered; they may overlap and touch. Of a
    part of the images the rectangles show another image of the global batch, as its own share says.

    Args:
        share: greatest share of an image that is covered with noise; each image's own is drawn
            from there down to a half (or exactly this where it is less).
        alien_share: the same where another image is shown.
        alien: probability that another image is shown.
        fill: `"noise"` (standard normal) or `"zeros"`.
        side: longest side of a rectangle, as a share of the image's.
        align: sides and places of rectangles are multiples of so many pixels; the patch's side
            makes whole patches of them.
        attempts: most rectangles of an image.
        **kwargs: `name` and `dtype` of `keras.layers.Layer`.

    Call: `layer(images, seed=…)` with float images `(B, H, W, C)` and an int32 `(2,)` seed gives
    the corrupted images and float32 `(B, H, W, 1)`, 1 where they were overwritten.

    Raises:
        ValueError: for shares or probabilities outside [0, 1].

    Source: GMML, Atito et al., 2022, section 3.1; released code (Sara-Ahmed/GMML).

    Example:
        >>> corrupted, mask = GroupCorruption()(images, seed=distribution.fixed_seed(0))
        >>> mask.shape
        (8, 32, 32, 1)
    """

    def __init__(
        self,
        share: float = 0.75,
        alien_share: float = 0.3,
        alien: float = 0.5,
        fill: str = "noise",
        side: float = 0.3,
        align: int = 1,
        attempts: int = 200,
        **kwargs: Any,
    ):
        super().__init__(**{"dtype": "float32", **kwargs})
        shares = (share, alien_share, alien, side)
        if any(not 0.0 <= number <= 1.0 for number in shares) or fill not in FILLS:
            raise ValueError(
                "GroupCorruption needs shares and a probability from 0 to 1 and fill one of "
                f"{FILLS}; received {shares} and {fill!r}."
            )
        if align < 1 or attempts < 1:
            raise ValueError(
                f"GroupCorruption needs align and attempts of at least 1; received {align} and "
                f"{attempts}."
            )
        self.share, self.alien_share, self.alien = float(share), float(alien_share), float(alien)
        self.fill, self.side, self.align, self.attempts = fill, float(side), align, attempts
        self.built = True

    def call(self, inputs: Any, seed: Any) -> tuple[Any, Any]:
        """Corrupted images and where they are."""
        images, rows = ops.cast(inputs, "float32"), ops.shape(inputs)[0]
        fold = distribution.fold_in
        kind, amount = (distribution.uniform_rows(fold(seed, n), rows) for n in (0, 1))
        alien = kind < self.alien
        most = ops.where(alien, self.alien_share, self.share)
        least = ops.minimum(most, 0.5)
        mask = self.groups(rows, tuple(images.shape[1:3]), least + (most - least) * amount, seed)
        filling = ops.zeros_like(images)
        if self.fill == "noise":
            filling = distribution.normal_rows(fold(seed, 3), rows, tuple(images.shape[1:]))
        alien = ops.reshape(alien, (-1, 1, 1, 1))
        filling = ops.where(alien, self.donors(images, fold(seed, 4)), filling)
        return ops.where(mask > 0.5, filling, images), mask

    def groups(self, rows: Any, size: tuple[int, int], share: Any, seed: Any) -> Any:
        """Places that rectangles cover, float32 `(rows, H, W, 1)`.

        Args:
            rows: number of rows of this replica; they are drawn for those of all.
            size: height and width in pixels.
            share: `(rows,)` of the pixels to cover; one rectangle at most goes beyond.
            seed: int32 `(2,)`, alike on all replicas.
        """
        seed = distribution.fold_in(seed, 2)
        draws = distribution.uniform_rows(seed, rows, (self.attempts, 4))
        wanted = share * (size[0] * size[1])
        places = [
            ops.reshape(ops.arange(n, dtype="float32"), (1, n, 1) if axis == 0 else (1, 1, n))
            for axis, n in enumerate(size)
        ]

        def attempt(index, mask):
            inside = None
            for axis, n in enumerate(size):
                longest = max(n * self.side, float(self.align))
                length = self.align + (longest - self.align) * draws[:, index, axis]
                length = self._aligned(length)
                start = self._aligned(draws[:, index, 2 + axis] * (n - length))
                first = ops.reshape(start, (-1, 1, 1))
                last = first + ops.reshape(length, (-1, 1, 1))
                here = ops.logical_and(places[axis] >= first, places[axis] < last)
                inside = here if inside is None else ops.logical_and(inside, here)
            missing = ops.reshape(ops.sum(mask, axis=(1, 2)) < wanted, (-1, 1, 1))
            return ops.maximum(mask, ops.cast(ops.logical_and(inside, missing), "float32"))

        start = ops.zeros((rows, *size), "float32")
        return ops.expand_dims(ops.fori_loop(0, self.attempts, attempt, start), -1)

    def _aligned(self, x: Any) -> Any:
        return ops.round(x / self.align) * self.align

    def donors(self, images: Any, seed: Any) -> Any:
        """For every image another one of the global batch; itself where it is alone."""
        rows = ops.shape(images)[0]
        everyone = distribution.all_gather(images)
        count = rows * distribution.replica_count()
        drawn = distribution.uniform_rows(seed, rows)
        step = 1 + ops.cast(ops.floor(drawn * ops.cast(count - 1, "float32")), "int32")
        own = distribution.replica_id() * rows + ops.arange(rows, dtype="int32")
        return ops.take(everyone, ops.mod(own + step, count), axis=0)

    def compute_output_spec(self, inputs: Any, seed: Any = None) -> Any:
        """Images of the same shape and a mask `(B, H, W, 1)`."""
        mask = (*inputs.shape[:3], 1)
        return keras.KerasTensor(inputs.shape, "float32"), keras.KerasTensor(mask, "float32")

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        names = ("share", "alien_share", "alien", "fill", "side", "align", "attempts")
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}
