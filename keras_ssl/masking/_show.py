# SPDX-License-Identifier: Apache-2.0
"""A picture of masks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from keras_ssl.core import distribution
from keras_ssl.masking._plan import MaskPlan
from keras_ssl.masking._subset import each_alone

# Red, green, blue of a token that is seen, of one that is hidden, and of one that is gathered but
# replaced or not attended to.
SEEN, HIDDEN, BETWEEN = (0, 121, 107), (218, 218, 218), (255, 179, 0)
# Of one that a set of a plan with several sets asks for.
ASKED = (92, 107, 192)
LINE, GAP = 1, 6


def show(
    masking: Any,
    grid: Sequence[int],
    rows: int = 4,
    *,
    seed: int = 0,
    cell: int = 8,
    inputs: Any = None,
    step: Any = None,
) -> Any:
    """Draws what a masking strategy shows of several samples.

    Seen tokens are green and hidden ones grey; orange ones are gathered but replaced by a mask
    token, or nobody attends to them. Where a plan has sets of tokens that are predicted, those are
    blue, and what fills up the context is not marked; sets that are encoded by themselves are drawn
    one after the other. Of several plans all samples are drawn, plan by plan. Planes stand side by
    side; sequences are strips, and videos rows of frames, one below the other.

    Args:
        masking: a strategy.
        grid: tokens on every axis, one to three.
        rows: number of samples.
        seed: integer that decides the draw.
        cell: side of a token in pixels, at least 2.
        inputs: samples `(B, …)` of which the first are shown, for strategies that look at them.
        step: number of updates, for strategies that follow a schedule.

    Returns:
        A `PIL.Image.Image` in RGB.

    Raises:
        ValueError: for a grid of other than one to three axes, no rows or smaller cells.

    Example:
        >>> show(ColoredMasking("green"), (14, 14)).save("masks.png")
    """
    from PIL import Image

    grid = tuple(int(side) for side in grid)
    if not 1 <= len(grid) <= 3 or rows < 1 or cell < 2:
        raise ValueError(
            "show draws at least one row of a grid of one to three axes in cells of at least 2 "
            f"pixels; received grid={grid}, rows={rows}, cell={cell}."
        )
    if inputs is not None:
        inputs = keras.tree.map_structure(lambda x: x[:rows], inputs)
        rows = len(keras.tree.flatten(inputs)[0])
    plan = masking.plan(rows, grid, distribution.fixed_seed(seed), inputs=inputs, step=step)
    plans = [plan] if isinstance(plan, MaskPlan) else plan
    colours = np.concatenate([_colours(one) for one in plans])
    colours = colours.reshape(-1, *(1,) * (3 - len(grid)), *grid, 3)
    tiles = [[_tile(plane, cell) for plane in sample] for sample in colours]
    if len(grid) == 2:
        # A row of samples rather than a column.
        tiles = [[plane for sample in tiles for plane in sample]]
    height, width = (side + GAP for side in tiles[0][0].shape[:2])
    picture = np.full((len(tiles) * height + GAP, len(tiles[0]) * width + GAP, 3), 255, "uint8")
    for i, line in enumerate(tiles):
        for j, tile in enumerate(line):
            top, left = GAP + i * height, GAP + j * width
            picture[top : top + tile.shape[0], left : left + tile.shape[1]] = tile
    return Image.fromarray(picture)


def _colours(plan: Any) -> np.ndarray:
    """Colours of tokens, uint8 `(B, L, 3)`; `(B · m, L, 3)` of m sets encoded by themselves."""
    plan = each_alone(plan) if plan.apart else plan
    mask = keras.ops.convert_to_numpy(plan.mask) > 0.5
    colours = np.where(mask[..., None], HIDDEN, SEEN).astype("uint8")
    if plan.sets:
        ids, asked = (keras.ops.convert_to_numpy(x) for x in (plan.decode, plan.asked))
        for row, chosen in enumerate(zip(ids, asked, strict=True)):
            colours[row, chosen[0][chosen[1]]] = ASKED
    elif plan.shown is not None or plan.replaced is not None:
        keep = keras.ops.convert_to_numpy(plan.keep)
        gathered = np.zeros_like(mask)
        gathered[np.arange(len(keep))[:, None], keep] = True
        colours[gathered & mask] = BETWEEN
    return colours


def _tile(plane: np.ndarray, cell: int) -> np.ndarray:
    """A plane of tokens `(rows, columns, 3)` with white lines between them."""
    tile = plane.repeat(cell, axis=0).repeat(cell, axis=1)
    tile[cell - LINE :: cell] = 255
    tile[:, cell - LINE :: cell] = 255
    return tile[:-LINE, :-LINE]
