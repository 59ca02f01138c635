# SPDX-License-Identifier: Apache-2.0
"""Writes the table of methods into the documentation from what each class declares.

Used by MkDocs as a hook; `python docs/tools/methods_table.py` prints the table.
"""

from __future__ import annotations

import inspect
import sys
from pathlib import Path
from typing import Any

ROOT = str(Path(__file__).resolve().parents[2])
MARK = "<!-- methods table -->"


def table() -> str:
    """Returns the table of all registered methods as Markdown.

    Returns:
        A header and one row for each method, ordered by family, year and name.
    """
    # MkDocs starts with its own folder on the path, not the checkout.
    if ROOT not in sys.path:
        sys.path.insert(0, ROOT)
    import keras_ssl.models  # noqa: F401  (importing the models registers them)
    from keras_ssl.core import registry

    found = sorted(registry.methods().values(), key=lambda m: (m.family, m.year, m.name))
    rows = [
        "| method | what it does | paper | family | data | needs |",
        "|---|---|---|---|---|---|",
    ]
    for method in found:
        cells = (
            f"[`{method.name}`](api/models.md#keras_ssl.models.{method.name})",
            _first_line(method.cls),
            f"{method.paper} ({method.year})",
            method.family,
            method.modality,
            ", ".join(method.needs) or "–",
        )
        rows.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(rows)


def on_page_markdown(markdown: str, **kwargs: Any) -> str:
    """Puts the table in the place of its mark; called by MkDocs for each page."""
    return markdown.replace(MARK, table()) if MARK in markdown else markdown


def _first_line(cls: type) -> str:
    text = inspect.getdoc(cls) or ""
    paragraph = text.split("\n\n")[0]
    return " ".join(paragraph.split())


if __name__ == "__main__":
    print(table())
