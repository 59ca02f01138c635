# SPDX-License-Identifier: Apache-2.0
"""Tables of text."""

from __future__ import annotations

from collections.abc import Sequence


def columns(rows: Sequence[Sequence[str]], gap: str = "  ") -> list[str]:
    """Rows as lines whose cells stand below one another.

    Args:
        rows: cells, as many in each row.
        gap: what stands between two columns.

    Returns:
        One line for each row.
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    padded = ([c.ljust(w) for c, w in zip(row, widths, strict=True)] for row in rows)
    return [gap.join(cells).rstrip() for cells in padded]


def markdown(rows: Sequence[Sequence[str]]) -> str:
    """Rows as a table in Markdown, the first one its header, aligned for reading as it stands."""
    header, *others = [f"| {line}" for line in columns([[*row, "|"] for row in rows], " | ")]
    lines = [header[:-2], *(line[:-2] for line in others)]
    return "\n".join([lines[0], "".join("|" if c == "|" else "-" for c in lines[0]), *lines[1:]])
