# SPDX-License-Identifier: Apache-2.0
"""Barlow Twins: the cross-correlation of two views is pushed to the identity."""

from __future__ import annotations

from typing import Any

from keras import ops

from keras_ssl.core import distribution
from keras_ssl.losses._math import (
    as_float32,
    center,
    check_batch,
    check_pair,
    global_rows,
    off_diagonal_square_sum,
)


@distribution.kind("reduced")
def cross_correlation(
    first: Any, second: Any, *, variance: str = "biased", epsilon: float = 1e-5
) -> Any:
    """Cross-correlation matrix of two views over the global batch.

    Every feature is standardised with the mean and variance of the global batch (a batch
    normalisation without scale and offset, always in training mode), then
    `C_ij = mean_b first_bi second_bj`. A constant feature correlates with nothing.

    Barlow Twins, Zbontar et al. 2021, equation 2.

    Args:
        first: `(B, D)`, any float dtype.
        second: `(B, D)`.
        variance: `"biased"` divides by B (the official code), `"unbiased"` by B - 1, with
            which the diagonal of two equal views is (B - 1) / B.
        epsilon: added to the variance.

    Returns:
        `(D, D)` float32, equal on every replica.

    Raises:
        ValueError: for different shapes, a batch of one row or an unknown `variance`.
    """
    check_variance(variance)
    first, second = as_float32(first), as_float32(second)
    check_pair("barlow_twins", "first", first, "second", second)
    check_batch("barlow_twins", first, "over which features are standardised")
    rows = global_rows(first)
    degrees = rows - 1.0 if variance == "unbiased" else rows
    first, second = (_standardise(z, rows, degrees, epsilon) for z in (first, second))
    return distribution.all_reduce_sum(ops.matmul(ops.transpose(first), second)) / rows


def _standardise(x: Any, rows: Any, degrees: Any, epsilon: float) -> Any:
    x = center(x, rows)
    spread = distribution.all_reduce_sum(ops.sum(ops.square(x), axis=0)) / degrees + epsilon
    return x * inverse_root(spread)


def check_variance(variance: str) -> None:
    """Requires a known way to estimate a variance.

    Args:
        variance: `"biased"` or `"unbiased"`.

    Raises:
        ValueError: for another.
    """
    if variance not in ("biased", "unbiased"):
        raise ValueError(f'variance is "biased" or "unbiased"; received {variance!r}.')


def inverse_root(spread: Any) -> Any:
    """One over the root of variances; 0 for a feature that does not vary.

    Args:
        spread: `(D,)` float32.

    Returns:
        `(D,)` float32, with finite gradient.
    """
    usable = spread > 0.0
    return ops.where(usable, ops.rsqrt(ops.where(usable, spread, 1.0)), 0.0)


def distance_from_identity(matrix: Any, lambd: float) -> Any:
    """`sum_i (C_ii - 1)^2 + lambd * sum_{i != j} C_ij^2`.

    Args:
        matrix: `(D, D)` cross-correlation.
        lambd: weight of what is off the diagonal.

    Returns:
        scalar.
    """
    invariance = ops.sum(ops.square(ops.diagonal(matrix) - 1.0))
    return invariance + lambd * off_diagonal_square_sum(matrix)


@distribution.kind("reduced")
def barlow_twins(
    first: Any,
    second: Any,
    *,
    lambd: float = 0.0051,
    variance: str = "biased",
    epsilon: float = 1e-5,
    scale: float = 1.0,
) -> Any:
    """`scale * (sum_i (C_ii - 1)^2 + lambd * sum_{i != j} C_ij^2)`.

    The value grows with the number of features. Barlow Twins, Zbontar et al. 2021, equation 1.

    Args:
        first: `(B, D)` projections of view 1, not normalised, any float dtype.
        second: `(B, D)` projections of view 2.
        lambd: weight of the redundancy term.
        variance: `"biased"` or `"unbiased"`, see `cross_correlation`.
        epsilon: added to the variance.
        scale: factor of the whole loss (0.1 in small-image recipes with one learning rate).

    Returns:
        float32 scalar, equal on every replica.

    Raises:
        ValueError: as `cross_correlation`.

    Example:

    >>> z = np.random.normal(size=(2, 32, 8))
    >>> loss = barlow_twins(z[0], z[1])
    """
    matrix = cross_correlation(first, second, variance=variance, epsilon=epsilon)
    return scale * distance_from_identity(matrix, lambd)
