# SPDX-License-Identifier: Apache-2.0
"""Sums that streaming metrics keep in place of all rows, exact for any split into batches."""

from typing import Any

import keras
from keras import ops

from keras_ssl.metrics._rows import as_rows


def effective_rank(values: Any, epsilon: float, *, renormalize: bool = False) -> Any:
    """Exp of the entropy of values as shares of their sum.

    Args:
        values: (K,) of 0 and above.
        epsilon: added to every share, so that none is 0.
        renormalize: whether it is added to the values, before they become shares that sum to 1.

    Returns:
        Scalar; 1 where all values are 0, but for what epsilon adds.
    """
    if renormalize:
        values = values + epsilon
    total = ops.sum(values)
    # All-zero values have no direction at all: the entropy of nothing but epsilon, rank 1.
    p = values / ops.where(total > 0, total, ops.ones_like(total))
    p = p if renormalize else p + epsilon
    return ops.exp(-ops.sum(p * ops.log(p)))


def eigenvalues(matrix: Any) -> Any:
    """Eigenvalues of a symmetric matrix that has none below 0 but for rounding, descending.

    Args:
        matrix: (D, D).

    Returns:
        (D,), at least 0.
    """
    return ops.flip(ops.maximum(ops.eigh(matrix)[0], 0.0))


def covariance(count: Any, total: Any, squares: Any) -> Any:
    """The unbiased covariance of rows from their sums.

    Args:
        count: scalar, number of rows, at least 2.
        total: (D,) sum of rows.
        squares: (D, D) sum of their outer products.

    Returns:
        (D, D).
    """
    mean = total / count
    return (squares - count * ops.outer(mean, mean)) / (count - 1.0)


class Moments(keras.metrics.Metric):
    """Number, sum and outer products of rows, in double precision.

    Args:
        dimensions: D, width of a row.
        name: of the metric.
        dtype: of results.
    """

    def __init__(self, dimensions: int, name: str | None = None, dtype: Any = None):
        super().__init__(name=name, dtype=dtype)
        if dimensions < 1:
            raise ValueError(
                f"dimensions is {dimensions}, expected the width of a row, at least 1."
            )
        self.dimensions = int(dimensions)
        # Singular values are roots of what is summed: single precision would lose small ones.
        sums = {"count": (), "total": (dimensions,), "squares": (dimensions, dimensions)}
        self.sums = {
            name: self.add_variable(shape, "zeros", "float64", name=name)
            for name, shape in sums.items()
        }

    def update_state(self, z: Any) -> None:
        """Takes rows in.

        Args:
            z: (N, D), any number of rows.
        """
        z = self.rows(z)
        self.sums["count"].assign_add(ops.cast(ops.shape(z)[0], "float64"))
        self.sums["total"].assign_add(ops.sum(z, axis=0))
        self.sums["squares"].assign_add(ops.matmul(ops.transpose(z), z))

    def rows(self, z: Any) -> Any:
        """Rows of the right width in double precision."""
        z = as_rows(z, "z")
        if z.shape[1] != self.dimensions:
            raise ValueError(
                f"z has {z.shape[1]} dimensions, {type(self).__name__} was made for "
                f"{self.dimensions}."
            )
        return ops.cast(z, "float64")

    def get_config(self) -> dict:
        """The constructor's arguments."""
        return {**super().get_config(), "dimensions": self.dimensions}
