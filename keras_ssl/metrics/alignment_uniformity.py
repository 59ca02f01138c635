# SPDX-License-Identifier: Apache-2.0
"""Alignment and uniformity on the hypersphere (Wang and Isola, 2020)."""

from typing import Any

import keras
from keras import ops

from keras_ssl.core import distribution
from keras_ssl.metrics._rows import as_rows, unit_rows


def alignment(x: Any, y: Any, *, alpha: float = 2.0, normalize: bool = False) -> Any:
    """Mean distance of two views of a sample, to the power alpha: 0 when views coincide.

    Differentiable; the gradient at distance 0 is 0 for every alpha, also below 2.

    Args:
        x: (N, D) embeddings of the first views, rows of unit length.
        y: (N, D) embeddings of the second views, row i of the same sample as x's row i.
        alpha: positive exponent of the Euclidean distance.
        normalize: scale the rows to unit length first; leave it off when they are already.

    Returns:
        Scalar, `mean_i ||x_i - y_i||**alpha`; at most `2**alpha` on the sphere.

    Raises:
        ValueError: if the shapes differ or are not (N, D), or alpha is not positive.

    Source: Understanding Contrastive Representation Learning through Alignment and Uniformity on
    the Hypersphere, 2020, section 4.1.

    Example:
        >>> import numpy as np
        >>> float(alignment(np.eye(3), -np.eye(3)))
        4.0
    """
    return ops.mean(_distances(x, y, alpha, normalize))


def _distances(x: Any, y: Any, alpha: float, normalize: bool) -> Any:
    """(N,) distances of two views, to the power alpha."""
    x, y = as_rows(x, "x"), as_rows(y, "y")
    if tuple(x.shape) != tuple(y.shape):
        raise ValueError(
            f"x has shape {tuple(x.shape)} and y {tuple(y.shape)}, expected equal shapes: "
            "row i of both must embed two views of one sample."
        )
    if alpha <= 0:
        raise ValueError(f"alpha is {alpha}, expected a positive exponent (the paper uses 2).")
    if normalize:
        x, y = unit_rows(x), unit_rows(y)
    squares = ops.sum(ops.square(x - ops.cast(y, x.dtype)), axis=1)
    # d^alpha has an infinite slope at 0 for alpha < 2, and `where` multiplies it by 0 to a NaN:
    # the power sees 1 there instead.
    apart = squares > 0
    powers = ops.power(ops.where(apart, squares, ops.ones_like(squares)), alpha / 2)
    return ops.where(apart, powers, ops.zeros_like(powers))


def uniformity(x: Any, *, t: float = 2.0, normalize: bool = False) -> Any:
    """Logarithm of the mean Gaussian potential of all pairs: 0 when collapsed, lower is better.

    Differentiable. The mean is over the N(N-1)/2 unordered pairs, no row paired with itself.

    Args:
        x: (N, D) embeddings, rows of unit length, N at least 2.
        t: positive sharpness of the potential `exp(-t * distance**2)`.
        normalize: scale the rows to unit length first; leave it off when they are already.

    Returns:
        Scalar, `log mean_{i<j} exp(-t ||x_i - x_j||**2)`, from -4t (two antipodes) to 0.

    Raises:
        ValueError: if `x` is not (N, D) with N at least 2, or t is not positive.

    Source: Understanding Contrastive Representation Learning through Alignment and Uniformity on
    the Hypersphere, 2020, section 4.1.

    Example:
        >>> import numpy as np
        >>> round(float(uniformity(np.array([[1.0, 0.0], [-1.0, 0.0]]), t=2)), 6)
        -8.0
    """
    x = as_rows(x, "x", at_least=2)
    _positive(t)
    x = unit_rows(x) if normalize else x
    return _log_mean_potential(x, t, ops.ones((ops.shape(x)[0],), dtype=x.dtype))


class Alignment(keras.metrics.Mean):
    """`alignment` of pairs that come in batches, equal to that of all at once.

    `update_state(x, y)` takes the embeddings of two views.

    Args:
        alpha: as `alignment`.
        normalize: as `alignment`.
        name: of the metric.
        dtype: of the result.

    Source: Understanding Contrastive Representation Learning through Alignment and Uniformity on
    the Hypersphere, 2020, section 4.1.

    Example:
        >>> import numpy as np
        >>> metric = Alignment()
        >>> for sign in (1.0, -1.0):
        ...     metric.update_state(np.eye(3), sign * np.eye(3))
        >>> float(metric.result())
        2.0
    """

    def __init__(
        self,
        alpha: float = 2.0,
        normalize: bool = False,
        name: str = "alignment",
        dtype: Any = None,
    ):
        super().__init__(name=name, dtype=dtype)
        self.alpha, self.normalize = alpha, normalize

    def update_state(self, x: Any, y: Any) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Takes pairs in.

        Args:
            x: (N, D), as `alignment`.
            y: (N, D), as `alignment`.
        """
        super().update_state(_distances(x, y, self.alpha, self.normalize))

    def get_config(self) -> dict:
        """The constructor's arguments."""
        return {**super().get_config(), "alpha": self.alpha, "normalize": self.normalize}


class Uniformity(keras.metrics.Metric):
    """`uniformity` of embeddings that come in batches, equal to that of all at once.

    Every row meets every other, so that rows are kept: rows x D numbers, and rows x rows for the
    result. More rows than that are left out, and so are those of replicas beyond their share.

    Args:
        dimensions: D, width of an embedding.
        rows: most embeddings that count, over all replicas.
        t: as `uniformity`.
        normalize: as `uniformity`.
        name: of the metric.
        dtype: of the result.

    Raises:
        ValueError: for a width below 1, fewer than two rows, a sharpness that is not positive, or
            embeddings of another width.

    Source: Understanding Contrastive Representation Learning through Alignment and Uniformity on
    the Hypersphere, 2020, section 4.1.

    Example:
        >>> import numpy as np
        >>> metric = Uniformity(2)
        >>> for row in ([[1.0, 0.0]], [[-1.0, 0.0]]):
        ...     metric.update_state(np.array(row))
        >>> round(float(metric.result()), 4)
        -8.0
    """

    def __init__(
        self,
        dimensions: int,
        rows: int = 2048,
        t: float = 2.0,
        normalize: bool = False,
        name: str = "uniformity",
        dtype: Any = None,
    ):
        super().__init__(name=name, dtype=dtype)
        _positive(t)
        if dimensions < 1 or rows < 2:
            raise ValueError(
                f"dimensions is {dimensions} and rows {rows}, expected the width of an embedding "
                "and at least two rows."
            )
        self.dimensions, self.rows, self.t, self.normalize = dimensions, rows, t, normalize
        # Those that are too many go to one row more.
        self.kept = self.add_variable((rows + 1, dimensions), "zeros", name="kept")
        self.full = self.add_variable((rows + 1,), "zeros", name="full")
        self.seen = self.add_variable((), "zeros", "int32", name="seen")

    def update_state(self, x: Any) -> None:
        """Takes embeddings in.

        Args:
            x: (N, D), any number of rows.
        """
        x = as_rows(x, "x")
        if x.shape[1] != self.dimensions:
            raise ValueError(f"x has {x.shape[1]} dimensions, expected {self.dimensions}.")
        x = ops.cast(unit_rows(x) if self.normalize else x, self.kept.dtype)
        count = ops.shape(x)[0]
        # What replicas hold is added, so that each has places of its own.
        turn, turns = distribution.replica_id(), distribution.replica_count()
        place = (ops.convert_to_tensor(self.seen) + ops.arange(count, dtype="int32")) * turns + turn
        place = ops.minimum(place, self.rows)[:, None]
        self.kept.assign(ops.scatter_update(ops.convert_to_tensor(self.kept), place, x))
        ones = ops.ones((count,), dtype=self.full.dtype)
        self.full.assign(ops.scatter_update(ops.convert_to_tensor(self.full), place, ones))
        self.seen.assign_add(count)

    def result(self) -> Any:
        """The uniformity of all rows so far."""
        kept, full = (ops.convert_to_tensor(v)[: self.rows] for v in (self.kept, self.full))
        return ops.cast(_log_mean_potential(kept, self.t, full), self.dtype)

    def get_config(self) -> dict:
        """The constructor's arguments."""
        names = ("dimensions", "rows", "t", "normalize")
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}


def _log_mean_potential(x: Any, t: float, weights: Any) -> Any:
    """The logarithm of the mean potential of pairs of rows of weight 1; others have 0."""
    norms = ops.sum(ops.square(x), axis=1)
    squares = norms[:, None] + norms[None, :] - 2 * ops.matmul(x, ops.transpose(x))
    pairs = ops.outer(weights, weights) * (1 - ops.eye(ops.shape(x)[0], dtype=x.dtype))
    # Rounding may leave a tiny negative square. What is no pair lies far below all, and drops
    # out of the sum.
    potentials = -t * ops.maximum(squares, 0) - 1e9 * (1 - pairs)
    number = ops.sum(weights)
    return ops.logsumexp(potentials) - ops.log(number * (number - 1))


def _positive(t: float) -> None:
    if t <= 0:
        raise ValueError(f"t is {t}, expected a positive sharpness (the paper uses 2).")
