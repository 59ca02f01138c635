# SPDX-License-Identifier: Apache-2.0
"""Predicts latents of tokens that were not seen, under several masks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import keras
from keras import ops

from keras_ssl.tokens._decoder import TransformerDecoder
from keras_ssl.tokens._positions import RotaryPositions, angles_at


@keras.saving.register_keras_serializable(package="keras_ssl")
class LatentPredictor(TransformerDecoder):
    """A `TransformerDecoder` with a mask token for each of several masks, and rotary positions.

    The mask tokens start at zero, as in V-JEPA's released code.

    Args:
        values: features of the latents; `None` takes those of the target.
        width: features of a token.
        depth: number of blocks.
        heads: heads of a block.
        kinds: number of masks, each with its own mask token.
        rotary: settings of `RotaryPositions` besides `head_width`, in place of fixed positions;
            `None` for these.
        **kwargs: other arguments of `TransformerDecoder` but windows.

    Call: as `TransformerDecoder`, with `kind` the number of the mask.

    Raises:
        ValueError: for windows, or sizes below 1.

    Source: V-JEPA, Bardes et al. 2024, section 3.1; V-JEPA 2, Assran et al. 2025, section 2.1.
    """

    def __init__(
        self,
        values: int | None = None,
        width: int = 384,
        depth: int = 12,
        heads: int = 12,
        kinds: int = 1,
        rotary: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ):
        super().__init__(values, width, depth, heads, **kwargs)
        if self.window is not None or kinds < 1:
            raise ValueError(
                f"LatentPredictor has no windows and at least one kind of mask; received "
                f"window={self.window}, kinds={kinds}."
            )
        self.kinds, self.rotary = int(kinds), None if rotary is None else dict(rotary)
        self.turns = None
        if rotary is not None:
            self.turns = RotaryPositions(self.width // self.heads, **self.rotary)
            self.turns.built = True

    def make_mask_token(self) -> Any:
        """The mask tokens `(kinds, width)`."""
        shape = (self.kinds, self.width)
        return self.add_weight(shape=shape, initializer="zeros", name="mask_token")

    def call(
        self,
        inputs: Any,
        plan: Any,
        grid: Sequence[int],
        seen: bool = False,
        kind: int = 0,
        training: bool = False,
    ) -> Any:
        """Predicted latents of the tokens that are asked for."""
        x = self.hidden(inputs, plan, grid, training=training, kind=kind)
        return self.predicted(x, plan, grid, seen)

    def hidden(
        self,
        inputs: Any,
        plan: Any,
        grid: Sequence[int],
        depth: int | None = None,
        training: bool = False,
        kind: int = 0,
    ) -> Any:
        """All tokens behind a block, see `TransformerDecoder.hidden`."""
        x, padding = self.sequence(inputs, plan, grid, self.mask_token[kind])
        angles = self._angles(plan, grid, x)
        for block in self.blocks[:depth]:
            x = block(x, padding_mask=padding, angles=angles, training=training)
        return x

    def _angles(self, plan: Any, grid: Sequence[int], x: Any) -> Any:
        """Cosines and sines of the tokens of a sequence; `None` without rotary positions."""
        if self.turns is None:
            return None
        angles = self.turns.angles(tuple(grid))
        ids = ops.concatenate([plan.keep, plan.decode], axis=1)
        front = x.shape[1] - ids.shape[1]
        if front:
            # Those in front are not turned.
            still = ops.stack([ops.ones_like(angles[0, :front]), ops.zeros_like(angles[0, :front])])
            angles = ops.concatenate([still, angles], axis=1)
        return angles_at(angles, ids, front)

    def _embedded(self, inputs: Any, grid: Sequence[int]) -> tuple[Any, Any]:
        """Encoded tokens in the predictor's width, and positions to add."""
        x, table = super()._embedded(inputs, grid)
        return x, table if self.turns is None else 0.0 * table

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        config = {**super().get_config(), "kinds": self.kinds, "rotary": self.rotary}
        return {n: v for n, v in config.items() if n not in ("window", "shift", "global_blocks")}
