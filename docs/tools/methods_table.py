# SPDX-License-Identifier: Apache-2.0
"""Writes the table of methods into the documentation from what each class declares.

Used by MkDocs as a hook; `python docs/tools/methods_table.py` prints the table.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

ROOT = str(Path(__file__).resolve().parents[2])
MARK = "<!-- methods table -->"
NEEDS = "<!-- needs table -->"
# What a need costs beside encoder, head and views; B images, V views, D wide, queue of K.
MEMORY = {
    "negatives": "V·B rows of similarities with all negatives",
    "prototypes": "V·B rows of scores with all prototypes",
    "memory bank": "2·D numbers for every image of the data set",
    "queue": "K·D vectors",
    "teacher": "a second network",
    "wide projector": "D² correlations",
}


def table() -> str:
    """Returns the table of all registered methods as Markdown.

    Returns:
        A header and one row for each method, ordered by family, year and name.
    """
    rows = [
        "| method | what it does | paper | family | data | needs |",
        "|---|---|---|---|---|---|",
    ]
    catalogue = _catalogue()
    for method in catalogue.methods():
        cells = (
            f"[`{method.name}`](api/models.md#keras_ssl.models.{method.name})",
            catalogue.summary(method.cls),
            f"{method.paper} ({method.year})",
            method.family,
            method.modality,
            ", ".join(method.needs) or "–",
        )
        rows.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(rows)


def needs() -> str:
    """Returns what every joint-embedding method asks for as Markdown, one column a need."""
    methods = _catalogue().methods()
    from keras_ssl.models import JointEmbedding

    found = [method for method in methods if issubclass(method.cls, JointEmbedding)]
    columns = sorted({need for method in found for need in method.needs})
    head = ["method", *columns, "memory besides"]
    rows = [f"| {' | '.join(head)} |", "|---" + "|:---:" * len(columns) + "|---|"]
    for method in found:
        ticks = ["✓" if column in method.needs else "" for column in columns]
        memory = [MEMORY[need] for need in method.needs if need in MEMORY]
        cells = [f"`{method.name}`", *ticks, ", ".join(memory)]
        rows.append(f"| {' | '.join(cells)} |")
    return "\n".join(rows)


def _catalogue() -> Any:
    """What the command line prints its table of methods with."""
    # MkDocs starts with its own folder on the path, not the checkout.
    if ROOT not in sys.path:
        sys.path.insert(0, ROOT)
    from keras_ssl.run import catalogue

    return catalogue


def on_page_markdown(markdown: str, **kwargs: Any) -> str:
    """Puts the tables in the place of their marks; called by MkDocs for each page."""
    for mark, write in {MARK: table, NEEDS: needs}.items():
        markdown = markdown.replace(mark, write()) if mark in markdown else markdown
    return markdown


if __name__ == "__main__":
    print(table())
