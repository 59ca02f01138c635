# SPDX-License-Identifier: Apache-2.0
"""What every metric does first: rows of at least single precision, checked and normalised."""

from typing import Any

from keras import ops


def as_rows(x: Any, name: str, *, at_least: int = 1) -> Any:
    """Turns an embedding matrix into a float tensor of at least single precision.

    Args:
        x: array or tensor of shape (N, D), any numeric dtype.
        name: what to call `x` in an error.
        at_least: fewest rows that the caller's formula can use.

    Returns:
        Tensor (N, D), float64 if `x` is float64, else float32.

    Raises:
        ValueError: if `x` has another rank or too few rows.
    """
    x = ops.convert_to_tensor(x)
    x = ops.cast(x, "float64" if x.dtype == "float64" else "float32")
    if len(x.shape) != 2:
        raise ValueError(
            f"{name} has shape {tuple(x.shape)}, expected (rows, dimensions). "
            "Pool or flatten every sample to one vector first."
        )
    if x.shape[0] is not None and x.shape[0] < at_least:
        raise ValueError(
            f"{name} has {x.shape[0]} row(s), expected at least {at_least}. Pass a larger batch."
        )
    return x


def unit_rows(x: Any) -> Any:
    """Divides every row by its length; a zero row stays zero, its gradient finite.

    Args:
        x: float tensor (N, D).

    Returns:
        Tensor (N, D) of the same dtype.
    """
    # The largest entry is taken out first: squares of tiny or huge rows leave float32 otherwise.
    largest = ops.stop_gradient(ops.max(ops.abs(x), axis=1, keepdims=True))
    x = x / ops.where(largest > 0, largest, ops.ones_like(largest))
    squares = ops.sum(ops.square(x), axis=1, keepdims=True)
    return x / ops.sqrt(ops.where(squares > 0, squares, ops.ones_like(squares)))
