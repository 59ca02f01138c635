# SPDX-License-Identifier: Apache-2.0
"""Masks of videos: tubes, and cells that run through the frames."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_ssl.masking._plan import Masking, MaskPlan, plan_in_order, uniform, visible_count


@keras.saving.register_keras_serializable(package="keras_ssl")
class TubeMasking(Masking):
    """Hides the same places in every frame, so that no frame tells what another hides.

    Args:
        ratio: share of hidden places of a frame.
        rounding: how it becomes a number of places, see `visible_count`.
        **kwargs: `name` and `dtype` of `keras.layers.Layer`.

    Call: as `RandomMasking`, on a grid of `(frames, rows, columns)` of tokens.

    Raises:
        ValueError: for a ratio outside (0, 1), an unknown rounding, or a grid without frames.

    Source: VideoMAE, Tong et al. 2022, section 3.3.

    Example:
        >>> plan = TubeMasking(0.9).plan(8, (8, 14, 14), distribution.fixed_seed(0))
        >>> plan.keep.shape
        (8, 160)
    """

    def __init__(self, ratio: float = 0.9, rounding: str = "floor_hidden", **kwargs: Any):
        super().__init__(ratio, rounding, **kwargs)

    def visible(self, grid: Sequence[int], ratio: float | None = None) -> int:
        """Number of tokens of a grid that are shown, see `Masking.visible`."""
        frames, places = self.together(grid), math.prod(grid[1:])
        ratio = self.ratio if ratio is None else ratio
        return frames * visible_count(places, ratio, self.rounding)

    def together(self, grid: Sequence[int]) -> int:
        """Number of frames."""
        if len(grid) != 3:
            raise ValueError(
                f"{type(self).__name__} needs a grid (frames, rows, columns) of tokens; received "
                f"{tuple(grid)}."
            )
        return grid[0]

    def plan(self, rows: Any, grid: Sequence[int], seed: Any, **context: Any) -> MaskPlan:
        """Which tokens are shown, tube by tube; see `Masking.plan`."""
        visible, places = self.visible(grid), math.prod(grid[1:])
        order = ops.cast(ops.argsort(uniform(seed, rows, places), axis=1), "int32")
        starts = ops.convert_to_tensor(np.arange(grid[0], dtype="int32") * places)
        # Tube by tube: whoever takes a part of the order takes whole tubes, not the first frames.
        order = ops.reshape(order[:, :, None] + starts, (-1, math.prod(grid)))
        return plan_in_order(order, visible)


@keras.saving.register_keras_serializable(package="keras_ssl")
class RunningCellMasking(Masking):
    """Hides a part of every small cell of places, another part in every frame.

    Over the frames every place is shown as often. VideoMAE V2 chooses so which tokens its decoder
    predicts. A sample starts at one of the parts, drawn at random.

    Args:
        ratio: share of hidden tokens of a cell, rounded down to whole tokens.
        cell: sides of a cell in tokens, which must divide those of a frame.
        **kwargs: `name` and `dtype` of `keras.layers.Layer`.

    Call: as `RandomMasking`, on a grid of `(frames, rows, columns)` of tokens.

    Raises:
        ValueError: for a ratio that hides none or all of a cell, or a grid that cells do not tile.

    Source: VideoMAE V2, Wang et al. 2023, section 3.2; MGMAE's running cell, Qing et al. 2023.

    Example:
        >>> plan = RunningCellMasking(0.5).plan(8, (8, 14, 14), distribution.fixed_seed(0))
        >>> plan.keep.shape
        (8, 784)
    """

    def __init__(self, ratio: float = 0.5, cell: Sequence[int] = (2, 2), **kwargs: Any):
        super().__init__(ratio, "floor_hidden", **kwargs)
        self.cell = tuple(int(side) for side in cell)
        if len(self.cell) != 2 or min(self.cell) < 1:
            raise ValueError(f"cell is (rows, columns) of tokens, at least 1; received {cell!r}.")
        visible_count(math.prod(self.cell), self.ratio, self.rounding)

    def visible(self, grid: Sequence[int], ratio: float | None = None) -> int:
        """Number of tokens of a grid that are shown, see `Masking.visible`."""
        _check_cells(grid, self.cell)
        size, ratio = math.prod(self.cell), self.ratio if ratio is None else ratio
        return math.prod(grid) // size * visible_count(size, ratio, self.rounding)

    def plan(self, rows: Any, grid: Sequence[int], seed: Any, **context: Any) -> MaskPlan:
        """Which tokens are shown, in reading order; see `Masking.plan`."""
        maps = running_cells(grid, self.ratio, self.cell).reshape(-1, math.prod(grid))
        orders = np.argsort(maps, axis=1, kind="stable").astype("int32")
        drawn = ops.floor(uniform(seed, rows) * len(maps))
        drawn = ops.minimum(ops.cast(drawn, "int32"), len(maps) - 1)
        order = ops.take(ops.convert_to_tensor(orders), drawn, axis=0)
        return plan_in_order(order, self.visible(grid))

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        config = {**super().get_config(), "cell": list(self.cell)}
        config.pop("rounding")
        return config


def running_cells(
    grid: Sequence[int], ratio: float = 0.5, cell: Sequence[int] = (2, 2)
) -> np.ndarray:
    """The masks that `RunningCellMasking` draws from, one for every start.

    Args:
        grid: `(frames, rows, columns)` of tokens.
        ratio: share of hidden tokens of a cell, rounded down.
        cell: sides of a cell in tokens.

    Returns:
        int8 `(tokens of a cell, frames, rows · columns)`, 1 where hidden: the first tokens of a
        cell in reading order, moved back around the cell by one for the first start and frame, and
        by one more for every further start and frame.

    Raises:
        ValueError: for a grid that cells do not tile.

    Example:
        >>> running_cells((2, 2, 2))[0].tolist()
        [[1, 0, 0, 1], [0, 0, 1, 1]]
    """
    grid, cell = tuple(grid), tuple(cell)
    _check_cells(grid, cell)
    size = math.prod(cell)
    first = (np.arange(size) < int(size * ratio)).astype("int8")
    tiles = (grid[1] // cell[0], grid[2] // cell[1])
    # So many places back: the order of the starts is that of the released code.
    phases = [np.tile(np.roll(first, -back).reshape(cell), tiles) for back in range(size)]
    maps = [
        [phases[(start + frame + 1) % size] for frame in range(grid[0])] for start in range(size)
    ]
    return np.array(maps).reshape(size, grid[0], -1)


def _check_cells(grid: Sequence[int], cell: Sequence[int]) -> None:
    if len(grid) != 3 or len(cell) != 2 or grid[1] % cell[0] or grid[2] % cell[1]:
        raise ValueError(
            f"cells of {tuple(cell)} tokens do not tile frames of a grid {tuple(grid)}: it must be "
            "(frames, rows, columns), rows and columns multiples of the cell's."
        )
