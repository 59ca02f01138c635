# SPDX-License-Identifier: Apache-2.0
"""Reading the columns of data frames, whatever library made them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

# Kinds of NumPy's types: numbers, and what counts as categories.
NUMBERS, CATEGORIES = "fiu", "bOSUT"
NAMED = 5


def column_names(frame: Any) -> list:
    """Names of the columns of a data frame, or of a dict of arrays.

    Raises:
        ValueError: If it is neither.
    """
    if isinstance(frame, Mapping):
        return list(frame)
    if not hasattr(frame, "columns"):
        raise ValueError(
            f"Expected a data frame with columns or a dict of arrays; got {type(frame).__name__}."
        )
    return list(frame.columns)


def column_values(frame: Any, name: Any) -> np.ndarray:
    """A column as an array (N,); one that its own type calls numbers as float64."""
    column = frame[name]
    values = np.asarray(column)
    if values.ndim != 1:
        raise ValueError(f"Column {name!r} has shape {values.shape}; expected one value per row.")
    # What pandas calls Int64 or Float64 comes as objects where values are missing.
    told = getattr(getattr(column, "dtype", None), "kind", None)
    if values.dtype.kind == "O" and isinstance(told, str) and told in NUMBERS:
        return as_numbers(values, name)
    if values.dtype.kind not in NUMBERS + CATEGORIES:
        raise ValueError(
            f"Column {name!r} is of type {values.dtype}, neither numbers nor categories. Turn it "
            "into numbers, a date for example into days, or leave it out."
        )
    return values


def as_numbers(values: np.ndarray, name: Any) -> np.ndarray:
    """Numbers as float64, NaN where they are missing."""
    if values.dtype.kind in CATEGORIES and values.dtype.kind != "b":
        known = [np.nan if as_category(v) is None else v for v in values.tolist()]
        values = np.array(known, object)
    try:
        numbers = values.astype("float64")
    except (TypeError, ValueError):
        raise ValueError(
            f"Column {name!r} is numeric by the schema, and holds other things than numbers."
        ) from None
    if np.isinf(numbers).any():
        raise ValueError(
            f"Column {name!r} holds {int(np.isinf(numbers).sum())} infinite values. Repair them, "
            "or set them to NaN for missing."
        )
    return numbers


def as_category(value: Any) -> Any:
    """A category as a string, a number or a boolean; None where it is missing."""
    if isinstance(value, bytes):
        value = value.decode()
    try:
        missing = value is None or value == "" or bool(value != value)
    except (TypeError, ValueError):
        # pandas' NA says of nothing whether it is equal.
        missing = True
    if missing:
        return None
    item = getattr(value, "item", None)
    value = value if item is None else item()
    return value if isinstance(value, (str, int, float)) else str(value)


def check_lengths(values: Mapping[Any, np.ndarray]) -> None:
    """Raises where columns have no rows, or not as many each."""
    lengths = {name: len(column) for name, column in values.items()}
    if not lengths or min(lengths.values()) < 1 or len(set(lengths.values())) > 1:
        raise ValueError(f"Columns must have as many rows each, at least one; they have {lengths}.")


def listed(names: Sequence) -> str:
    """Names for a message, the first few of many."""
    shown = ", ".join(repr(name) for name in list(names)[:NAMED])
    return shown + (f" and {len(names) - NAMED} more" if len(names) > NAMED else "")
