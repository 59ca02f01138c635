# SPDX-License-Identifier: Apache-2.0
"""LiDAR: the effective rank of what tells samples apart, against what tells their views apart."""

from typing import Any

from keras import ops

from keras_ssl.metrics._moments import Moments, covariance, effective_rank, eigenvalues


def lidar(x: Any, *, delta: float = 1e-4, epsilon: float = 1e-8, renormalize: bool = False) -> Any:
    """Effective rank of the linear-discriminant matrix in which every sample is a class.

    Between 1 and D. Unlike `rank_me` it does not count directions that differ between views of one
    sample. The views must be the method's own, random ones of one sample in a row; n should be
    above D. Compare only between runs of one method with the same n, q and delta.

    Args:
        x: (n, q, D) embeddings of q views of n samples, n and q at least 2.
        delta: added to the diagonal of the covariance within samples.
        epsilon: added to every share of the eigenvalues.
        renormalize: whether it is added to eigenvalues before they become shares, as in some code.

    Returns:
        Scalar, float64.

    Raises:
        ValueError: if `x` has another rank or too few samples or views.

    Source: LiDAR: Sensing Linear Probing Performance in Joint Embedding SSL Architectures, 2024,
    section 4.

    Example:
        >>> import numpy as np
        >>> centres = np.repeat(np.eye(3)[:, None], 4, axis=1)
        >>> noise = np.random.default_rng(0).normal(size=(3, 4, 3))
        >>> 1.0 <= float(lidar(centres + 0.1 * noise)) <= 3.0
        True
    """
    return effective_rank(lidar_spectrum(x, delta=delta), epsilon, renormalize=renormalize)


def lidar_spectrum(x: Any, *, delta: float = 1e-4) -> Any:
    """Eigenvalues of the linear-discriminant matrix in which every sample is a class.

    An eigenvalue is the variance between samples along a direction, in units of that between views.

    Args:
        x: (n, q, D), as `lidar`.
        delta: as `lidar`.

    Returns:
        (D,), descending, float64.

    Raises:
        ValueError: as `lidar`.

    Example:
        >>> import numpy as np
        >>> x = np.array([[[3.0], [5.0]], [[-3.0], [-5.0]]])
        >>> lidar_spectrum(x, delta=0.0).numpy().tolist()
        [16.0]
    """
    x = ops.cast(_views(x), "float64")
    # Embeddings that share a large common part would lose what is between samples to rounding.
    x = x - ops.mean(x, axis=(0, 1))
    means, within = _scatter(x)
    samples, views = x.shape[0], x.shape[1]
    between = ops.matmul(ops.transpose(means), means) / (samples - 1)
    return _spectrum(between, within / (samples * (views - 1)), delta)


class LiDAR(Moments):
    """`lidar` of samples that come in batches, equal to that of all at once.

    It keeps two D x D sums in double precision; replicas' are added. `update_state(x)` takes
    `(n, q, D)`, all q views of each of n samples, so it is used in a loop or a callback.

    Args:
        dimensions: D, width of an embedding.
        delta: as `lidar`.
        epsilon: as `lidar`.
        renormalize: as `lidar`.
        name: of the metric.
        dtype: of the result.

    Raises:
        ValueError: for embeddings of another width or rank, or of one view.

    Source: LiDAR: Sensing Linear Probing Performance in Joint Embedding SSL Architectures, 2024.

    Example:
        >>> import numpy as np
        >>> x, metric = np.random.default_rng(0).normal(size=(8, 3, 4)), LiDAR(4)
        >>> for part in np.split(x, 2):
        ...     metric.update_state(part)
        >>> abs(float(metric.result()) - float(lidar(x))) < 1e-5
        True
    """

    def __init__(
        self,
        dimensions: int,
        delta: float = 1e-4,
        epsilon: float = 1e-8,
        renormalize: bool = False,
        name: str = "lidar",
        dtype: Any = None,
    ):
        super().__init__(dimensions, name=name, dtype=dtype)
        self.delta, self.epsilon, self.renormalize = delta, epsilon, renormalize
        self.within = self.add_variable((dimensions, dimensions), "zeros", "float64", name="within")
        self.degrees = self.add_variable((), "zeros", "float64", name="degrees")

    def update_state(self, x: Any) -> None:
        """Takes samples in.

        Args:
            x: (n, q, D) embeddings of q views of n samples, q at least 2.
        """
        x = ops.cast(_views(x, at_least=1), "float64")
        means, within = _scatter(x)
        super().update_state(means)
        self.within.assign_add(within)
        self.degrees.assign_add(ops.cast(ops.shape(x)[0] * (x.shape[1] - 1), "float64"))

    def result(self) -> Any:
        """The effective rank of all samples so far."""
        between = covariance(*(ops.convert_to_tensor(v) for v in self.sums.values()))
        within = ops.convert_to_tensor(self.within) / ops.convert_to_tensor(self.degrees)
        found = _spectrum(between, within, self.delta)
        rank = effective_rank(found, self.epsilon, renormalize=self.renormalize)
        return ops.cast(rank, self.dtype)

    def get_config(self) -> dict:
        """The constructor's arguments."""
        own = {"delta": self.delta, "epsilon": self.epsilon, "renormalize": self.renormalize}
        return {**super().get_config(), **own}


def _views(x: Any, at_least: int = 2) -> Any:
    """Embeddings of several views."""
    x = ops.convert_to_tensor(x)
    if len(x.shape) != 3 or x.shape[1] is None or x.shape[1] < 2:
        raise ValueError(
            f"x has shape {tuple(x.shape)}, expected (samples, views, dimensions) with at least "
            "two random views of every sample."
        )
    if x.shape[0] is not None and x.shape[0] < at_least:
        raise ValueError(f"x has {x.shape[0]} sample(s), expected at least {at_least}.")
    return x


def _scatter(x: Any) -> tuple[Any, Any]:
    """Means of samples (n, D), and the sum of outer products of what differs from them (D, D)."""
    means = ops.mean(x, axis=1)
    apart = ops.reshape(x - means[:, None], (-1, x.shape[2]))
    return means, ops.matmul(ops.transpose(apart), apart)


def _spectrum(between: Any, within: Any, delta: float) -> Any:
    """Eigenvalues of `between` in a space where `within` is the unit matrix, descending."""
    root = ops.cholesky(within + delta * ops.eye(within.shape[0], dtype=within.dtype))
    half = ops.solve_triangular(root, between, lower=True)
    whitened = ops.solve_triangular(root, ops.transpose(half), lower=True)
    return eigenvalues(0.5 * (whitened + ops.transpose(whitened)))
