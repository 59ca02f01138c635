# SPDX-License-Identifier: Apache-2.0
"""VICReg: variance, invariance and covariance regularisation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from keras import ops

from keras_ssl.core import distribution
from keras_ssl.losses._math import (
    as_float32,
    center,
    check_batch,
    check_pair,
    check_views,
    global_rows,
    off_diagonal_square_sum,
)


@distribution.kind("local")
def vicreg_invariance(first: Any, second: Any) -> Any:
    """Mean squared difference over rows and features (Bardes et al. 2021, equation 5, / D).

    Args:
        first: `(B, D)`, any float dtype.
        second: `(B, D)`.

    Returns:
        float32 scalar.

    Raises:
        ValueError: if the shapes differ.
    """
    first, second = as_float32(first), as_float32(second)
    check_pair("vicreg_invariance", "first", first, "second", second)
    return ops.mean(ops.square(first - second))


@distribution.kind("reduced")
def vicreg_variance(projections: Any, *, epsilon: float = 1e-4) -> Any:
    """Hinge `mean_d max(0, 1 - sqrt(var_d + epsilon))` of one view, unbiased variance.

    VICReg, Bardes et al. 2021, equations 1 and 2.

    Args:
        projections: `(B, D)`, any float dtype.
        epsilon: added to the variance.

    Returns:
        float32 scalar in [0, 1], equal on every replica.

    Raises:
        ValueError: if the batch has one row.
    """
    x = as_float32(projections)
    check_pair("vicreg_variance", "projections", x, "projections", x)
    check_batch("vicreg_variance", x, "over which the variance is taken")
    rows = global_rows(x)
    squares = distribution.all_reduce_sum(ops.sum(ops.square(center(x, rows)), axis=0))
    deviation = ops.sqrt(squares / (rows - 1.0) + epsilon)
    return ops.mean(ops.relu(1.0 - deviation))


@distribution.kind("reduced")
def vicreg_covariance(projections: Any) -> Any:
    """Sum of squared off-diagonal covariances of one view, divided by D.

    VICReg, Bardes et al. 2021, equations 3 and 4; the covariance divides by B - 1.

    Args:
        projections: `(B, D)`, any float dtype.

    Returns:
        float32 scalar, equal on every replica.

    Raises:
        ValueError: if the batch has one row.
    """
    x = as_float32(projections)
    check_pair("vicreg_covariance", "projections", x, "projections", x)
    check_batch("vicreg_covariance", x, "over which the covariance is taken")
    rows = global_rows(x)
    x = center(x, rows)
    covariance = distribution.all_reduce_sum(ops.matmul(ops.transpose(x), x)) / (rows - 1.0)
    return off_diagonal_square_sum(covariance) / x.shape[1]


@distribution.kind("reduced")
def vicreg(
    projections: Sequence,
    *,
    invariance: float = 25.0,
    variance: float = 25.0,
    covariance: float = 1.0,
    epsilon: float = 1e-4,
    variance_scale: float = 1.0,
) -> dict[str, Any]:
    """The three weighted terms of VICReg; their sum is the loss.

    With two views: `invariance · MSE(z1, z2) + variance · (V(z1) + V(z2)) / 2 +
    covariance · (C(z1) + C(z2))`. With more views, the mean of that over all pairs of views.
    The official code halves the variance term, the paper's equation 6 does not:
    `variance_scale=2` gives the latter.

    VICReg, Bardes et al. 2021, equation 6.

    Args:
        projections: list of at least two `(B, D)` tensors, not normalised, any float dtype.
        invariance: weight of the mean squared difference.
        variance: weight of the variance hinge.
        covariance: weight of the covariance term.
        epsilon: added to the variance under the square root.
        variance_scale: further factor of the variance term.

    Returns:
        dict of float32 scalars `"invariance"`, `"variance"` and `"covariance"`.

    Raises:
        ValueError: for fewer than two views, different shapes or a batch of one row.

    Example:

    >>> z = np.random.normal(size=(2, 32, 8))
    >>> loss = sum(vicreg([z[0], z[1]]).values())
    """
    views = check_views("vicreg", projections)
    count = len(views)
    pairs = [(v, w) for v in range(count) for w in range(v + 1, count)]
    distances = [vicreg_invariance(views[v], views[w]) for v, w in pairs]
    hinges = [vicreg_variance(view, epsilon=epsilon) for view in views]
    products = [vicreg_covariance(view) for view in views]
    return {
        "invariance": invariance * sum(distances) / len(pairs),
        "variance": variance * variance_scale * sum(hinges) / count,
        "covariance": covariance * 2.0 * sum(products) / count,
    }
