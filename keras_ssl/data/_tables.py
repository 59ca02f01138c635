# SPDX-License-Identifier: Apache-2.0
"""Tables of named columns as arrays of numbers and codes, by a schema that can be kept."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from keras_ssl.data._columns import (
    NUMBERS,
    as_category,
    as_numbers,
    check_lengths,
    column_names,
    column_values,
    listed,
)


@dataclasses.dataclass(frozen=True)
class TableSchema:
    """What the columns of a table hold, as learned from one table and used for others.

    Args:
        numeric: Mean and scale of every numeric column, by its name: the deviation, or 1 where
            only missing values tell rows apart.
        categorical: Categories of every categorical column, by its name, in the order of their
            codes: strings, numbers or booleans.

    Example:
        >>> schema = TableSchema({"age": (38.6, 13.6)}, {"sex": ("Female", "Male")})
        >>> schema.cardinalities, schema.shapes
        ((2,), {'numeric': (1,), 'categorical': (1,)})
    """

    numeric: Mapping[Any, tuple[float, float]]
    categorical: Mapping[Any, tuple]

    @property
    def columns(self) -> tuple:
        """Names of the columns in the order of their tokens: numeric ones first."""
        return (*self.numeric, *self.categorical)

    @property
    def cardinalities(self) -> tuple[int, ...]:
        """Number of categories of every categorical column."""
        return tuple(len(known) for known in self.categorical.values())

    @property
    def shapes(self) -> dict[str, tuple[int]]:
        """Shape of a row, as `backbones.TokenTransformer` takes it."""
        counts = {"numeric": len(self.numeric), "categorical": len(self.categorical)}
        return {name: (count,) for name, count in counts.items() if count}

    def inputs(self, frame: Any) -> dict[str, np.ndarray]:
        """The arrays of a table.

        Args:
            frame: As `from_dataframe`; columns that the schema does not name are left alone.

        Returns:
            `"numeric"` (N, n) float32, standardised, NaN where a value is missing; `"categorical"`
            (N, m) int32, -1 where it is missing or no category of the schema. Either is left out
            where there are no such columns.

        Raises:
            ValueError: If a column is missing or holds something else than the schema says, or a
                row has no value at all.
        """
        lost = [name for name in self.columns if name not in column_names(frame)]
        if lost:
            raise ValueError(
                f"The table lacks {listed(lost)}, which the schema was made with. Add the "
                "columns, filled with NaN or None where nothing is known."
            )
        values = {name: column_values(frame, name) for name in self.columns}
        check_lengths(values)
        made = {}
        if self.numeric:
            parts = [(as_numbers(values[n], n) - m) / s for n, (m, s) in self.numeric.items()]
            made["numeric"] = np.stack(parts, axis=1).astype("float32")
        if self.categorical:
            parts = [_codes(values[n], n, known) for n, known in self.categorical.items()]
            made["categorical"] = np.stack(parts, axis=1)
        _require_values(made)
        return made

    def get_config(self) -> dict[str, list]:
        """Lists and numbers, for JSON."""
        return {
            "numeric": [[name, *numbers] for name, numbers in self.numeric.items()],
            "categorical": [[name, list(known)] for name, known in self.categorical.items()],
        }

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> TableSchema:
        """Makes a schema from `get_config`."""
        numeric = {name: (float(mean), float(scale)) for name, mean, scale in config["numeric"]}
        return cls(numeric, {name: tuple(known) for name, known in config["categorical"]})


def from_dataframe(
    frame: Any,
    schema: TableSchema | None = None,
    categorical: Sequence = (),
    leave_out: Sequence = (),
) -> tuple[dict[str, np.ndarray], TableSchema]:
    """A table as what a `tokens.FeatureTokenizer` takes, and the schema that says how.

    Numbers are standardised by the mean and deviation of this table; strings, booleans, objects and
    categories of a data frame become codes. NaN, None and "" are missing values. A column that is
    the same in all rows is left out with a warning.

    Args:
        frame: A pandas or polars data frame, anything else with `columns` whose `frame[name]` NumPy
            can read, or a dict of arrays (N,).
        schema: Of an earlier table, which decides everything then: the schema of the training part
            belongs to the test part. None makes one.
        categorical: Names of numeric columns that hold codes of categories.
        leave_out: Names of columns that are no inputs, such as the label.

    Returns:
        `(inputs, schema)`, see `TableSchema.inputs`.

    Raises:
        ValueError: For an unknown name, a column of dates or of several axes, infinity, columns of
            different lengths, nothing that tells rows apart, or as `TableSchema.inputs`.

    Example:
        >>> frame = {"age": np.array([31.0, np.nan, 52.0]), "job": np.array(["clerk", "", "cook"])}
        >>> inputs, schema = from_dataframe({**frame, "id": np.arange(3)}, leave_out=["id"])
        >>> inputs["categorical"].tolist(), schema.categorical
        ([[0], [-1], [1]], {'job': ('clerk', 'cook')})
    """
    schema = schema or _learned(frame, categorical, leave_out)
    return schema.inputs(frame), schema


def _learned(frame: Any, categorical: Sequence, leave_out: Sequence) -> TableSchema:
    names = column_names(frame)
    unknown = [name for name in (*categorical, *leave_out) if name not in names]
    if unknown:
        raise ValueError(f"The table has no {listed(unknown)}; it has {listed(names)}.")
    found = {name: column_values(frame, name) for name in names if name not in leave_out}
    check_lengths(found)
    numeric, categories, constant = {}, {}, []
    for name, values in found.items():
        if values.dtype.kind in NUMBERS and name not in categorical:
            numbers = as_numbers(values, name)
            known = numbers[~np.isnan(numbers)]
            states = len(np.unique(known)) + (len(known) < len(numbers))
            if len(known) and states > 1:
                numeric[name] = (float(known.mean()), float(known.std()) or 1.0)
        else:
            read = [as_category(value) for value in values.tolist()]
            present = sorted({v for v in read if v is not None}, key=lambda v: (str(type(v)), v))
            if present and len(present) + (None in read) > 1:
                categories[name] = tuple(present)
        if name not in numeric and name not in categories:
            constant.append(name)
    if constant:
        warnings.warn(
            f"The same in all rows, and left out: {listed(constant)}.",
            stacklevel=3,
        )
    if not numeric and not categories:
        raise ValueError(
            f"No column of {listed(names)} tells rows apart: give more rows or other columns."
        )
    return TableSchema(numeric, categories)


def _codes(values: np.ndarray, name: Any, known: tuple) -> np.ndarray:
    """Codes of categories, int32; -1 for missing ones and, with a warning, for others."""
    numbers: dict[Any, int] = {value: code for code, value in enumerate(known)}
    read = [as_category(value) for value in values.tolist()]
    unseen = [value for value in read if value is not None and value not in numbers]
    if unseen:
        some = listed(list(dict.fromkeys(unseen)))
        warnings.warn(
            f"Column {name!r} holds {len(unseen)} values of {len(read)} that are no category of "
            f"the schema, {some}: they become -1, as missing ones.",
            stacklevel=4,
        )
    return np.array([numbers.get(value, -1) for value in read], "int32")


def _require_values(made: Mapping[str, np.ndarray]) -> None:
    """Raises where a row is all missing."""
    gone = [np.isnan(x) if x.dtype.kind == "f" else x < 0 for x in made.values()]
    rows = np.flatnonzero(np.concatenate(gone, axis=1).all(axis=1))
    if len(rows):
        raise ValueError(
            f"Rows without any value that the schema knows: {listed(rows.tolist())} "
            f"({len(rows)} in all). Drop them; there is nothing to learn from them."
        )
