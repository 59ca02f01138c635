# SPDX-License-Identifier: Apache-2.0
"""Batches that every replica can share evenly."""

from __future__ import annotations

import contextlib
import logging
import re
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np
from keras import ops

logger = logging.getLogger("keras_ssl")
DROPPED = "The last batch of each epoch (%d of %d rows) is dropped."


@contextlib.contextmanager
def plain_errors() -> Iterator[None]:
    """Raises a ValueError of the input pipeline as one, which tf.data wraps into its own error."""
    try:
        yield
    except Exception as error:
        found = re.search(r"ValueError: (.*?)\nTraceback", str(error), re.DOTALL)
        if found is None or not type(error).__module__.startswith("tensorflow"):
            raise
        raise ValueError(found.group(1)) from error


def whole_batches(
    x: Any,
    y: Any,
    batch_size: int | None,
    replicas: int,
    minimum: int,
    shuffle: bool,
    together: int = 1,
) -> tuple[Any, Any]:
    """Leaves out a last batch that cannot be trained exactly, and says so once.

    On one replica a short last batch is exact and stays, unless it has fewer rows than the
    objective needs or ends within a group. On several, `tf.distribute` would give some replicas no
    rows at all.

    Args:
        x: data set, arrays or `PyDataset`.
        y: labels or `None`.
        batch_size: rows in a global batch, for arrays.
        replicas: number of replicas.
        minimum: fewest rows that the objective needs.
        shuffle: whether arrays are shuffled each epoch.
        together: number of neighbouring rows that form a group.

    Returns:
        `(x, y)` to hand to Keras.

    Raises:
        ValueError: for an empty data set, or a batch that the replicas cannot share in whole
            groups.
    """
    if isinstance(x, keras.utils.PyDataset):
        return _py_dataset(x, replicas, minimum, together), y
    if hasattr(x, "element_spec"):
        return (x if replicas == together == 1 else _dataset(x, replicas, together)), y
    arrays = [a for a in keras.tree.flatten((x, y)) if hasattr(a, "shape") and len(a.shape)]
    if not arrays:
        return x, y
    rows, size = len(arrays[0]), batch_size or 32
    if rows == 0:
        raise ValueError("The data set is empty (0 rows). Give fit at least one batch of rows.")
    if rows < minimum:
        raise ValueError(
            f"The data set has {rows} row(s); this objective compares rows and needs at least "
            f"{minimum}."
        )
    rest = rows % size
    _check_share(min(rows, size), replicas, together)
    if rest and rows > size and (replicas > 1 or rest < minimum or rest % together):
        logger.info(DROPPED, rest, size)
    elif not (rest and replicas > 1):
        return x, y
    import tensorflow as tf

    data = tf.data.Dataset.from_tensor_slices(x if y is None else (x, y))
    if shuffle:
        data = data.shuffle(rows, reshuffle_each_iteration=True)
    return data.batch(min(size, rows), drop_remainder=True).prefetch(tf.data.AUTOTUNE), None


def numbered(model: Any, x: Any, y: Any) -> tuple[Any, Any]:
    """Gives arrays the numbers of their rows; a data set has to bring them.

    Args:
        model: an `SSLModel` with `uses_indices`.
        x: data set, arrays or `PyDataset`.
        y: what was given beside it; None.

    Returns:
        `(x, index)`, or a data set as it was.

    Raises:
        ValueError: for labels, or more rows than the model's `samples`.
    """
    if isinstance(x, keras.utils.PyDataset) or hasattr(x, "element_spec"):
        return x, y
    if y is not None:
        raise ValueError(
            f"{type(model).__name__} uses the number of each row and no labels. Leave y out of "
            "fit, which numbers arrays itself."
        )
    rows = len(keras.tree.flatten(x)[0])
    if rows > model.samples:
        raise ValueError(
            f"{type(model).__name__} was made for samples={model.samples} rows; received {rows}. "
            "Build it with samples=len(x)."
        )
    return x, np.arange(rows, dtype="int32")


def some_rows(x: Any, count: int) -> Any:
    """Some rows of what `fit` gets: of arrays evenly spread ones, of other data the first.

    Args:
        x: data set, arrays or `PyDataset`.
        count: how many at most.

    Returns:
        Arrays, or a structure of them.

    Raises:
        ValueError: for data that can be read but once, or none.
    """
    if isinstance(x, keras.utils.PyDataset):
        parts = (x[index] for index in range(x.num_batches or 0))
    elif hasattr(x, "element_spec"):
        parts = iter(x)
    elif all(hasattr(part, "shape") for part in keras.tree.flatten(x)):
        rows = len(keras.tree.flatten(x)[0])
        chosen = np.unique(np.linspace(0, rows - 1, min(count, rows)).astype(int))
        return keras.tree.map_structure(lambda part: np.asarray(part)[chosen], x)
    else:
        raise ValueError(
            f"fit reads some rows before training, which {type(x).__name__} may give but once. "
            "Give arrays, a tf.data.Dataset or a PyDataset, or adapt the target before."
        )
    found, rows = [], 0
    for part in parts:
        samples, _, _ = keras.utils.unpack_x_y_sample_weight(part)
        found.append(keras.tree.map_structure(np.asarray, samples))
        rows += len(keras.tree.flatten(found[-1])[0])
        if rows >= count:
            break
    if not found:
        raise ValueError("The data set is empty. Give fit at least one batch.")
    return keras.tree.map_structure(lambda *part: np.concatenate(part)[:count], *found)


def some_rows_or_none(x: Any, count: int) -> Any:
    """`some_rows`, or `None` of data that can be read but once, or none."""
    try:
        return some_rows(x, count)
    except ValueError:
        return None


def indices(model: Any, x: Any, index: Any, required: bool) -> Any:
    """The row numbers of a batch.

    Args:
        model: an `SSLModel` with `uses_indices`.
        x: the rows.
        index: what the data yielded beside them.
        required: whether there must be numbers; else -1 stands for none.

    Returns:
        `(B,)` int32.

    Raises:
        ValueError: if there are none, or they are no integers of which each row has one.
    """
    name = type(model).__name__
    if index is None and not required:
        return ops.full((ops.shape(keras.tree.flatten(x)[0])[0],), -1, "int32")
    if index is None:
        raise ValueError(
            f"{name} uses the number of each row in the data set but the data yields none. Yield "
            "(x, index), for example from data.EpochData(..., indices=True), or pass arrays."
        )
    if len(index.shape) != 1 or "int" not in keras.backend.standardize_dtype(index.dtype):
        raise ValueError(
            f"{name} expects row numbers of shape (batch,), integers from 0 to samples - 1; "
            f"received shape {tuple(index.shape)} of {index.dtype}."
        )
    return ops.cast(index, "int32")


def _check_share(size: int, replicas: int, together: int) -> None:
    parts = replicas * together
    if size % parts:
        groups = "" if together == 1 else f" in whole groups of {together} rows"
        raise ValueError(
            f"A global batch of {size} rows cannot be shared evenly by {replicas} replica(s)"
            f"{groups}. Use a multiple of {parts}, for example "
            f"{max(parts, size // parts * parts)}."
        )


def _rows(element: Any) -> Any:
    return keras.tree.flatten(element)[0].shape[0]


def _dataset(data: Any, replicas: int, together: int) -> Any:
    import tensorflow as tf

    size = _rows(data.element_spec)
    if size is None:
        first = next(iter(data.take(1)), None)
        if first is None:
            raise ValueError("The data set is empty. Give fit at least one batch.")
        size = int(_rows(first))
        logger.info("Batches of other than %d rows are dropped.", size)
        data = data.filter(lambda *e: tf.equal(tf.shape(keras.tree.flatten(e)[0])[0], size))
    _check_share(int(size), replicas, together)
    return data


def _py_dataset(data: Any, replicas: int, minimum: int, together: int) -> Any:
    count = data.num_batches
    if not count:
        return data
    first, last = int(_rows(data[0])), int(_rows(data[count - 1]))
    _check_share(first, replicas, together)
    exact = replicas == 1 and last >= minimum and not last % together
    if count == 1 or last == first or exact:
        return data
    logger.info(DROPPED, last, first)
    return _WithoutLast(data)


class _WithoutLast(keras.utils.PyDataset):
    def __init__(self, data: keras.utils.PyDataset):
        super().__init__(data.workers, data.use_multiprocessing, data.max_queue_size)
        self._data = data

    def __getitem__(self, index: int) -> Any:
        return self._data[index]

    def __len__(self) -> int:
        return self._data.num_batches - 1

    def on_epoch_end(self) -> None:
        self._data.on_epoch_end()
