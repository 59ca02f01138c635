# SPDX-License-Identifier: Apache-2.0
"""What several losses share: float32 inputs, checks, unit rows, statistics over replicas."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from keras import ops

from keras_ssl.core import distribution

_TINY = 1e-24


def as_float32(x: Any) -> Any:
    """Converts an array or tensor of any dtype to a float32 tensor.

    Args:
        x: array or tensor of any shape and dtype.

    Returns:
        float32 tensor of the same shape.
    """
    return ops.cast(ops.convert_to_tensor(x), "float32")


def normalize(x: Any, axis: int = -1) -> Any:
    """Scales vectors to unit length, in float32.

    A zero vector stays zero and receives a zero gradient, where a division by `max(norm, eps)`
    would multiply its gradient by `1 / eps`.

    Args:
        x: `(..., D)`, any float dtype.
        axis: axis that holds the vectors.

    Returns:
        float32 tensor of the same shape with rows of length 1 (or 0).
    """
    x = as_float32(x)
    square = ops.sum(ops.square(x), axis=axis, keepdims=True)
    usable = square > _TINY
    # The inner where keeps the unused branch finite: 0 * inf would be NaN in the gradient.
    scale = ops.where(usable, ops.rsqrt(ops.where(usable, square, 1.0)), 0.0)
    return x * scale


def check_pair(loss: str, first_name: str, first: Any, second_name: str, second: Any) -> None:
    """Requires two `(B, D)` tensors of one shape.

    Args:
        loss: name of the loss, for the message.
        first_name: name of the first tensor, for the message.
        first: the first tensor.
        second_name: name of the second tensor, for the message.
        second: the second tensor.

    Raises:
        ValueError: if one has not two axes or the shapes differ.
    """
    shapes = tuple(first.shape), tuple(second.shape)
    names = first_name, second_name
    for name, shape in zip(names, shapes, strict=True):
        if len(shape) != 2:
            raise ValueError(
                f"{loss} expects {name} of shape (batch, features); received shape {shape}. "
                "Pool or flatten feature maps before the projector."
            )
    for mine, other in zip(*shapes, strict=True):
        if mine is not None and other is not None and mine != other:
            raise ValueError(
                f"{loss} compares rows of {first_name} with rows of {second_name}, so their "
                f"shapes must be equal; received {shapes[0]} and {shapes[1]}."
            )


def check_views(loss: str, views: Sequence, name: str = "projections", least: int = 2) -> list:
    """Converts a list of views to float32 and requires at least `least` of one shape.

    Args:
        loss: name of the loss, for the message.
        views: sequence of `(B, D)` arrays or tensors.
        name: name of the argument, for the message.
        least: smallest number of views.

    Returns:
        list of float32 tensors `(B, D)`.

    Raises:
        ValueError: if it is no sequence, too short, or the shapes differ.
    """
    if not isinstance(views, (list, tuple)):
        raise ValueError(
            f"{loss} expects {name} as a list with one (batch, features) tensor per view; "
            f"received a {type(views).__name__}."
        )
    if len(views) < least:
        raise ValueError(f"{loss} needs at least {least} view(s) in {name}; received {len(views)}.")
    tensors = [as_float32(view) for view in views]
    for index, tensor in enumerate(tensors):
        check_pair(loss, f"{name}[0]", tensors[0], f"{name}[{index}]", tensor)
    return tensors


def check_two_views(loss: str, *groups: Sequence) -> None:
    """Requires every group of tensors to hold one for each of two views.

    Args:
        loss: name of the loss, for the message.
        *groups: sequences of one tensor a view.

    Raises:
        ValueError: if one has another length.
    """
    counts = [len(group) for group in groups]
    if any(count != 2 for count in counts):
        received = " and ".join(str(count) for count in counts)
        raise ValueError(f"{loss} compares exactly two views; received {received}.")


def check_batch(loss: str, x: Any, reason: str) -> None:
    """Refuses a global batch of one row when that is known before the step runs.

    Args:
        loss: name of the loss, for the message.
        x: `(B, D)`, the rows of this replica.
        reason: what the loss needs the other rows for.

    Raises:
        ValueError: if the batch over all replicas has one row.
    """
    rows = x.shape[0]
    if rows is not None and rows * distribution.replica_count() < 2:
        raise ValueError(
            f"{loss} needs at least 2 rows in the batch, {reason}; received {rows}. "
            "Increase the batch size, and drop a last batch of one row."
        )


def own_columns(mine: Any, everyone: Any) -> tuple[Any, Any]:
    """Where the rows of this replica stand among those of all replicas.

    Args:
        mine: `(b, ...)`, the rows of this replica.
        everyone: `(B, ...)`, those of all replicas, in replica order.

    Returns:
        `(b,)` int32 positions, and a `(b, B)` boolean matrix that is True there.
    """
    local = ops.shape(mine)[0]
    positions = ops.arange(local, dtype="int32") + distribution.replica_id() * local
    columns = ops.arange(ops.shape(everyone)[0], dtype="int32")
    return positions, ops.expand_dims(positions, 1) == columns


def diagonal_blocks(block: Any, count: int) -> Any:
    """A block matrix with `block` on its diagonal and False elsewhere.

    Args:
        block: `(b, B)` boolean.
        count: blocks in a row.

    Returns:
        `(count · b, count · B)` boolean.
    """
    blank = ops.zeros_like(block)
    rows = [
        ops.concatenate([block if v == w else blank for w in range(count)], axis=1)
        for v in range(count)
    ]
    return ops.concatenate(rows, axis=0)


def check_positive(loss: str, name: str, value: Any) -> None:
    """Requires a Python number to be positive (tensors are left alone).

    Args:
        loss: name of the loss, for the message.
        name: name of the argument.
        value: number or tensor.

    Raises:
        ValueError: if it is a number that is not above zero.
    """
    if isinstance(value, (int, float)) and not value > 0:
        raise ValueError(f"{loss} needs {name} > 0; received {name}={value}.")


def global_rows(x: Any) -> Any:
    """Number of rows over all replicas, as a float32 scalar.

    Args:
        x: `(b, ...)`, the rows of this replica.

    Returns:
        float32 scalar.
    """
    # Summed, not multiplied: replicas may hold different numbers of rows in a last batch.
    return distribution.all_reduce_sum(ops.cast(ops.shape(x)[0], "float32"))


def center(x: Any, rows: Any) -> Any:
    """Subtracts from every feature its mean over the global batch.

    Args:
        x: `(b, D)` float32, the rows of this replica.
        rows: number of rows over all replicas.

    Returns:
        `(b, D)` float32.
    """
    return x - distribution.all_reduce_sum(ops.sum(x, axis=0)) / rows


def off_diagonal_square_sum(matrix: Any) -> Any:
    """Sum of the squares of a square matrix without its diagonal.

    Args:
        matrix: `(D, D)`.

    Returns:
        scalar.
    """
    # Masked rather than total minus diagonal: the difference of two large sums loses the
    # small terms in float32.
    size = matrix.shape[0]
    return ops.sum(ops.square(matrix * (1.0 - ops.eye(size, dtype=matrix.dtype))))


def per_row(loss: str, name: str, values: Any, x: Any) -> Any:
    """Numbers of which each row has one, as float32: they travel together with the rows.

    Args:
        loss: name for the message.
        name: what a row has, in the singular.
        values: `(B,)` array-like.
        x: `(B, ...)`, the rows.

    Returns:
        `(B,)` float32.

    Raises:
        ValueError: for another shape.
    """
    values, rows = as_float32(values), x.shape[0]
    shape = tuple(values.shape)
    if len(shape) != 1 or (None not in (rows, shape[0]) and shape[0] != rows):
        raise ValueError(f"{loss} expects one {name} per row, shape ({rows},); received {shape}.")
    return values
