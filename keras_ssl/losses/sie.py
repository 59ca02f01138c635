# SPDX-License-Identifier: Apache-2.0
"""SIE: VICReg on halves that are invariant and equivariant."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from keras import ops

from keras_ssl.core import distribution
from keras_ssl.losses._math import (
    as_float32,
    check_batch,
    check_pair,
    off_diagonal_square_sum,
)
from keras_ssl.losses.vicreg import vicreg_invariance


@distribution.kind("reduced")
def sie(
    first: Any,
    second: Any,
    predicted: Any,
    *,
    invariant_size: int,
    invariance: float = 10.0,
    equivariance_factor: float = 0.45,
    variance: float = 10.0,
    covariance: float = 1.0,
    epsilon: float = 1e-4,
) -> dict[str, Any]:
    """The weighted terms of SIE; their sum is the loss.

    With x and y the projections of two views, `x = [x_inv | x_equi]`, and p the equivariant half
    of y as predicted from `x_equi` and the transformation between the views:
    `invariance · (MSE(x_inv, y_inv) + equivariance_factor · MSE(p, y_equi)) +
    variance · (V(x) + V(y) + V(p)) / 2 + covariance · (C(x) + C(y))`, with VICReg's hinge V and
    covariance C. V and C of x and y are those of the whole vectors, so that the halves do not
    repeat each other. No gradient is stopped. `vicreg_variance` and `vicreg_covariance` give the
    same numbers; here all means, and then all products, cross replicas together.

    Garrido et al. 2023, Self-supervised learning of Split Invariant Equivariant representations,
    section 4; the released code adds V(p), and divides C by the width.

    Args:
        first: `(B, D)` projections of view 1, not normalised, any float dtype.
        second: `(B, D)` projections of view 2.
        predicted: `(B, D - invariant_size)`, prediction of `second[:, invariant_size:]`.
        invariant_size: number of leading features that are invariant.
        invariance: weight of the distance between the invariant halves.
        equivariance_factor: weight of the predicted half's distance, as a share of `invariance`;
            0.45 in the authors' instructions, 4.5 as the default of their code.
        variance: weight of the hinges on the deviations of features and of predictions.
        covariance: weight of the squared off-diagonal covariances.
        epsilon: added to the variance under the square root.

    Returns:
        dict of float32 scalars `"invariance"`, `"equivariance"`, `"variance"`,
        `"prediction_variance"` and `"covariance"`.

    Raises:
        ValueError: for different shapes, an empty half, or a batch of one row.

    Example:

    >>> x, y = np.random.normal(size=(2, 32, 8))
    >>> loss = sum(sie(x, y, x[:, 6:], invariant_size=6).values())
    """
    x, y, p = as_float32(first), as_float32(second), as_float32(predicted)
    check_pair("sie", "first", x, "second", y)
    check_batch("sie", x, "over which the variance is taken")
    if not 0 < invariant_size < x.shape[1]:
        raise ValueError(
            f"sie needs both halves: invariant_size between 1 and {x.shape[1] - 1} of "
            f"{x.shape[1]} features; received {invariant_size}."
        )
    check_pair("sie", "predicted", p, "second[:, invariant_size:]", y[:, invariant_size:])
    rows, (x_, y_, p_) = _centered([x, y, p])
    products = [ops.matmul(ops.transpose(z), z) for z in (x_, y_)]
    squares = [ops.sum(ops.square(z), axis=0) for z in (x_, y_, p_)]
    sums = [total / (rows - 1.0) for total in distribution.all_reduce_sum([*squares, *products])]
    hinges = [ops.mean(ops.relu(1.0 - ops.sqrt(var + epsilon))) for var in sums[:3]]
    correlated = sum(off_diagonal_square_sum(matrix) for matrix in sums[3:])
    return {
        "invariance": invariance * vicreg_invariance(x[:, :invariant_size], y[:, :invariant_size]),
        "equivariance": invariance
        * equivariance_factor
        * vicreg_invariance(p, y[:, invariant_size:]),
        "variance": variance * (hinges[0] + hinges[1]) / 2.0,
        "prediction_variance": variance * hinges[2] / 2.0,
        "covariance": covariance * correlated / x.shape[1],
    }


def _centered(tensors: Sequence) -> tuple[Any, list]:
    """Number of rows of all replicas, and tensors `(b, D)` without their means over them."""
    count = ops.cast(ops.shape(tensors[0])[0], "float32")
    rows, *totals = distribution.all_reduce_sum([count, *(ops.sum(x, axis=0) for x in tensors)])
    return rows, [x - total / rows for x, total in zip(tensors, totals, strict=True)]
