# SPDX-License-Identifier: Apache-2.0
"""A comparison of methods as a page and as a picture."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from keras_ssl.run.text import markdown

ACCURACIES = {"knn": "kNN", "linear": "linear probe"}
NUMBERS: dict[str, tuple[str, Callable[[float], float], int]] = {
    "rank_me": ("RankMe", float, 1),
    "seconds": ("seconds", float, 1),
    "step_seconds": ("ms/step", lambda value: 1e3 * value, 1),
    "memory": ("memory (MB)", lambda value: value / 1e6, 0),
}


def table(content: Mapping[str, Any]) -> str:
    """The rows of a `compare.json` as a table in Markdown; a failure is told in its row."""
    with_labels = content["without_accuracies"] is None
    accuracies = ACCURACIES if with_labels else {}
    rows = [["method", *accuracies.values(), *(name for name, *_ in NUMBERS.values())]]
    for name, row in content["rows"].items():
        cells = [_accuracy(row.get(key)) for key in accuracies]
        for key, (_, scale, digits) in NUMBERS.items():
            value = row.get(key)
            cells.append("-" if value is None else f"{scale(value):.{digits}f}")
        if "failed" in row:
            cells = [f"failed: {row['failed']}".replace("|", "\\|"), *cells[1:]]
        rows.append([name, *cells])
    return markdown(rows)


def page(content: Mapping[str, Any]) -> str:
    """A `compare.json` as a page in Markdown: what was done, the table, how to read it."""
    settings, data = content["settings"], content["data"]
    options = ", ".join(f"{k}={v!r}" for k, v in (settings["backbone_options"] or {}).items())
    did = (
        f"Each method was trained for {settings['steps']} steps of "
        f"{min(settings['batch_size'], data['rows'])} images, with its own recipe but the same "
        f"encoder (`{settings['backbone']}`{', ' + options if options else ''}, the same initial "
        f"weights), on the same {data['rows']} images of {data['name']}, seed {settings['seed']}. "
        "Schedules end with the last step. One seed and so many steps say what learns here, not "
        "which method is best."
    )
    read = [
        f"No accuracies: {content['without_accuracies']}."
        if content["without_accuracies"]
        else (
            f"kNN, linear probe: accuracy on {data['test_rows']} test images, in brackets where "
            f"{100 * content['confidence']:.0f} % of bootstrap draws of them lie; another seed of "
            "the training may differ by more. compare.json has the same of the difference from the "
            "untrained encoder (`above_untrained`). That row is the encoder as it began, behind "
            f"the normalisation of {content['normalised_as']}'s views."
        ),
        f"RankMe: effective rank of the test images' representations, at most "
        f"{content['rows']['untrained']['width']}; it compares runs of one method better than "
        "methods.",
        "seconds: of the training, compilation included; ms/step: the median without the first.",
        "memory: peak resident memory of the method's own process while it trained, less "
        f"{_before(content)} that it held with the data loaded and no model built. That of a GPU "
        "is not in it.",
    ]
    lines = [textwrap.fill(f"* {text}", 100, subsequent_indent="  ") for text in read]
    head = f"# Methods on {data['name']}\n\n{textwrap.fill(did, 100)}"
    return "\n\n".join([head, table(content), "\n".join(lines)]) + "\n"


def picture(content: Mapping[str, Any]) -> Any:
    """A `PIL.Image.Image`: bars of every column, methods below one another."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from PIL import Image

    rows = content["rows"]
    accuracies = ACCURACIES if content["without_accuracies"] is None else {}
    panels = [*accuracies, *NUMBERS]
    size = (2.4 * len(panels) + 1, 0.4 * len(rows) + 1.2)
    figure = Figure(figsize=size, dpi=110, layout="constrained")
    canvas = FigureCanvasAgg(figure)
    grid = figure.subplots(1, len(panels), sharey=True)
    for axes, key in zip(grid, panels, strict=True):
        _draw(axes, key, [row.get(key) for row in rows.values()])
    names = [f"{name} (failed)" if "failed" in row else name for name, row in rows.items()]
    grid[0].set_yticks(range(len(rows)), names)
    # The first on top, and room for those without bars.
    grid[0].set_ylim(len(rows) - 0.5, -0.5)
    canvas.draw()
    return Image.fromarray(np.asarray(canvas.buffer_rgba())[..., :3].copy())


def _draw(axes: Any, key: str, cells: list) -> None:
    """Bars of one column, of accuracies with their intervals; nothing where there is no number."""
    places = [place for place, cell in enumerate(cells) if cell is not None]
    found: list[Any] = [cells[place] for place in places]
    if key in ACCURACIES:
        title, digits, errors = ACCURACIES[key], 3, None
        widths = np.array([cell["accuracy"] for cell in found])
        if found:
            errors = np.abs(np.array([cell["interval"] for cell in found]).T - widths)
        bars = axes.barh(places, widths, xerr=errors, capsize=3)
        axes.set_xlim(0, 1)
    else:
        title, scale, digits = NUMBERS[key]
        bars = axes.barh(places, [scale(cell) for cell in found])
    labels = [f"{bar.get_width():.{digits}f}" for bar in bars]
    axes.bar_label(bars, labels, label_type="center", color="white", size="small")
    axes.set_title(title, size="medium")
    axes.spines[["top", "right"]].set_visible(False)


def _accuracy(cell: Mapping[str, Any] | None) -> str:
    if cell is None:
        return "-"
    low, high = cell["interval"]
    return f"{cell['accuracy']:.3f} ({low:.3f} - {high:.3f})"


def _before(content: Mapping[str, Any]) -> str:
    """Memory before the model, which differs a little from process to process."""
    found = [row["memory_before"] / 1e6 for row in content["rows"].values() if row.get("memory")]
    if not found:
        return "what"
    low, high = round(min(found)), round(max(found))
    return f"the {low} MB" if low == high else f"the {low} to {high} MB"
