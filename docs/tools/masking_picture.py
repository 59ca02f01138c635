# SPDX-License-Identifier: Apache-2.0
"""Draws what every masking strategy shows, for the reference of `keras_ssl.masking`.

python docs/tools/masking_picture.py docs/assets/masking.png
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np

from keras_ssl import masking, schedules

PLANE, VIDEO, SEQUENCE = (14, 14), (3, 8, 8), (56,)
COLUMNS = 2


def brightness(images: Any) -> Any:
    """A guide: the brightness of every token, of images `(B, rows, columns, 1)`."""
    return images.reshape(len(images), -1)


def discs(count: int) -> np.ndarray:
    """Images of one disc each, `(B, 14, 14, 1)`, for the guide."""
    centres = np.random.default_rng(0).uniform(3.0, 10.0, (count, 2, 1, 1))
    down, along = np.mgrid[:14, :14]
    distance = np.hypot(down - centres[:, 0], along - centres[:, 1])
    return -distance[..., None].astype("float32")


def pictures() -> dict[str, Any]:
    """A picture for each strategy, by its title."""
    show, images = masking.show, discs(4)
    ramp = schedules.LinearWarmup(0.5, 0.9, 3)
    plane = {
        "RandomMasking(0.75)": masking.RandomMasking(0.75),
        "GroupedMasking((2, 2), 0.6)": masking.GroupedMasking((2, 2), 0.6),
        "BlockMasking((0.1, 0.5), 1.0)": masking.BlockMasking((0.1, 0.5), 1.0),
        "BlockMasking((0.5, 0.5), exact=True)": masking.BlockMasking((0.5, 0.5), exact=True),
        "InverseBlockMasking((0.1, 0.65), 1.0)": masking.InverseBlockMasking((0.1, 0.65), 1.0),
        'ColoredMasking("red")': masking.ColoredMasking("red"),
        'ColoredMasking("green")': masking.ColoredMasking("green"),
        'ColoredMasking("blue")': masking.ColoredMasking("blue"),
        'ColoredMasking("purple")': masking.ColoredMasking("purple"),
    }
    found = {title: show(layer, PLANE) for title, layer in plane.items()}
    guided = {
        'GuidedMasking(disc, show="high")': None,
        'GuidedMasking(disc, show="high", temperature=2)': 2.0,
    }
    for title, temperature in guided.items():
        layer = masking.GuidedMasking(brightness, show="high", temperature=temperature)
        found[title] = show(layer, PLANE, inputs=images)
    drawn = masking.ScheduledMasking(masking.RandomMasking(), (0.55, 0.25))
    found["ScheduledMasking(random, (0.55, 0.25))"] = show(drawn, PLANE)
    ramped = masking.ScheduledMasking(masking.ColoredMasking("red"), ramp)
    steps = [show(ramped, PLANE, 1, step=step) for step in range(4)]
    found["ScheduledMasking(red, ramp), steps 0 to 3"] = np.concatenate(steps, axis=1)
    found["TubeMasking(0.75)"] = show(masking.TubeMasking(0.75), VIDEO, 2)
    found["RunningCellMasking(0.5)"] = show(masking.RunningCellMasking(0.5), VIDEO, 2)
    found["SpanMasking(6, 0.5)"] = show(masking.SpanMasking(6, 0.5), SEQUENCE)
    return found


def main() -> None:
    """Writes the picture."""
    from matplotlib.figure import Figure

    parser = argparse.ArgumentParser(description="Draws every masking strategy.")
    parser.add_argument("path", type=Path)
    path = parser.parse_args().path
    found = pictures()
    lines = -(-len(found) // COLUMNS)
    figure = Figure(figsize=(10, 1.75 * lines), layout="constrained")
    cells = figure.subplots(lines, COLUMNS).ravel()
    for cell in cells:
        cell.axis("off")
    for cell, (title, picture) in zip(cells, found.items(), strict=False):
        cell.imshow(np.asarray(picture), interpolation="nearest")
        cell.set_anchor("NW")
        cell.set_title(title, fontsize=10, loc="left", family="monospace")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=100)


if __name__ == "__main__":
    main()
