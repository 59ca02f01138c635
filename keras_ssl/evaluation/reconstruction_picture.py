# SPDX-License-Identifier: Apache-2.0
"""What a masked model saw of samples and what it made of it, as one picture."""

from typing import Any

import numpy as np

SLICES, GAP, SIDE = 6, 2, 128
KINDS = ("masked", "reconstruction", "original")


def reconstruction_picture(model: Any, samples: Any, *, seed: int = 0) -> np.ndarray:
    """Draws masked samples, reconstructions and originals, of any modality.

    Images and spectrograms stand side by side, a row for each. Of videos and volumes six slices
    along the first axis are shown, in three rows. Signals are drawn as lines: the original grey,
    what was seen dark, what was predicted coloured.

    Args:
        model: a masked model whose target are the values of samples; shown are those that it puts
            back, standardised patches with their own mean and deviation.
        samples: `(B, …)` as the model takes them.
        seed: of the masks.

    Returns:
        uint8 `(height, width, 3)`.

    Raises:
        ValueError: for a model or a target whose predictions are no samples.

    Example:
        >>> picture = reconstruction_picture(model, images[:6])
        >>> keras.utils.save_img("reconstructions.png", picture)
    """
    if not hasattr(model, "reconstruct"):
        raise ValueError(
            f"{type(model).__name__} reconstructs nothing. Give a masked model such as models.MAE."
        )
    made = {kind: np.asarray(x, "float32") for kind, x in model.reconstruct(samples, seed).items()}
    rank = made["original"].ndim - 2
    if rank == 1:
        return _lines(made)
    low, high = np.percentile(made["original"], [0.5, 99.5])
    scaled = {
        kind: np.clip((x - low) / max(high - low, 1e-6), 0.0, 1.0) for kind, x in made.items()
    }
    grid = [row for sample in range(len(made["original"])) for row in _rows(scaled, sample, rank)]
    return _joined(grid)


def _rows(made: dict, sample: int, rank: int) -> list[list[np.ndarray]]:
    """Tiles of a sample: one row of an image, three of slices."""
    if rank == 2:
        return [[made[kind][sample] for kind in KINDS]]
    length = made["original"].shape[1]
    shown = np.unique(np.linspace(0, length - 1, min(SLICES, length)).astype(int))
    return [[made[kind][sample, index] for index in shown] for kind in KINDS]


def _joined(grid: list[list[np.ndarray]]) -> np.ndarray:
    """Tiles `(h, w, C)` of 0..1 in rows, on white, small ones enlarged."""
    height, width = grid[0][0].shape[:2]
    scale = max(SIDE // max(height, width), 1)
    size = height * scale + GAP, width * scale + GAP
    shape = (len(grid) * size[0] + GAP, len(grid[0]) * size[1] + GAP, 3)
    picture = np.full(shape, 255, "uint8")
    for i, row in enumerate(grid):
        for j, tile in enumerate(row):
            tile = tile if tile.shape[-1] == 3 else np.repeat(tile[..., :1], 3, axis=-1)
            tile = tile.repeat(scale, axis=0).repeat(scale, axis=1)
            top, left = i * size[0] + GAP, j * size[1] + GAP
            part = picture[top : top + tile.shape[0], left : left + tile.shape[1]]
            part[:] = np.round(tile * 255.0)
    return picture


def _lines(made: dict) -> np.ndarray:
    """The first channel of every signal `(B, steps, C)`, one below the other."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    count = len(made["original"])
    figure = Figure(figsize=(6.4, 1.1 * count + 0.3), layout="constrained")
    canvas = FigureCanvasAgg(figure)
    for row in range(count):
        axes = figure.add_subplot(count, 1, row + 1)
        original, made_of = (made[kind][row, :, 0] for kind in ("original", "reconstruction"))
        hidden = np.any(made["masked"][row] != made["original"][row], axis=-1)
        axes.plot(original, color="0.75", linewidth=2.5)
        axes.plot(np.where(hidden, np.nan, original), color="0.1", linewidth=1.2)
        axes.plot(np.where(hidden, made_of, np.nan), color="tab:orange", linewidth=1.2)
        axes.set_xticks([])
        axes.set_yticks([])
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()
