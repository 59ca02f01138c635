# SPDX-License-Identifier: Apache-2.0
"""Mixed Barlow Twins: a mixed view correlates with both views as the mixture says."""

from __future__ import annotations

from typing import Any

from keras import ops

from keras_ssl.core import distribution
from keras_ssl.losses._math import as_float32, check_batch, check_pair
from keras_ssl.losses.barlow_twins import check_variance, distance_from_identity, inverse_root

FORMS = ("cifar", "imagenet")


@distribution.kind("gathered")
def mixed_barlow_twins(
    first: Any,
    second: Any,
    mixed: Any,
    permutation: Any,
    alpha: Any,
    *,
    lambd: float = 1 / 128,
    mix_scale: Any = 4.0,
    scale: float = 1.0,
    variance: str = "unbiased",
    epsilon: float = 0.0,
    form: str = "cifar",
) -> dict[str, Any]:
    """Barlow Twins, and how far the mixed view is from a mixture of correlations.

    With m the projections of `alpha x1 + (1 - alpha) x2[permutation]` and C(a, b) the
    cross-correlation matrix of two views, the second term is
    `mix_scale * lambd * (|C(m, 1) - T1|^2 + |C(m, 2) - T2|^2)`, where
    `T1 = alpha C(1, 1) + (1 - alpha) C(2[permutation], 1)` and T2 the same with the last view 2.
    The released ImageNet code has C(2, 2) in place of C(1, 2) in T2 and halves the term. The
    targets get gradients too.

    Guarding Barlow Twins Against Overfitting with Mixed Samples, Bandara et al. 2023, equations 4
    to 7; the authors' code.

    Args:
        first: `(B, D)` projections of view 1, any float dtype.
        second: `(B, D)` projections of view 2.
        mixed: `(B, D)` projections of the mixed images.
        permutation: integers `(B,)` over the rows of the global batch, equal on all replicas: row
            i was mixed with row `permutation[i]` of view 2.
        alpha: share of view 1 in the mixture, number or scalar in 0..1.
        lambd: weight of the off-diagonal correlations, and of the second term.
        mix_scale: further factor of the second term, number or scalar.
        scale: factor of both.
        variance: `"unbiased"` (the authors' code) or `"biased"`, see `cross_correlation`.
        epsilon: added to the variance.
        form: `"cifar"` (T2 as above) or `"imagenet"`.

    Returns:
        dict of float32 scalars `"barlow_twins"` and `"mixed"`, equal on every replica.

    Raises:
        ValueError: for different shapes, a batch of one row, a permutation of another length, an
            unknown `variance` or an unknown `form`.

    Example:

    >>> z = np.random.normal(size=(3, 32, 8))
    >>> order = np.random.permutation(32)
    >>> loss = sum(mixed_barlow_twins(z[0], z[1], z[2], order, 0.3).values())
    """
    if form not in FORMS:
        raise ValueError(f"form is one of {FORMS}; received {form!r}.")
    check_variance(variance)
    first, second, mixed = as_float32(first), as_float32(second), as_float32(mixed)
    check_pair("mixed_barlow_twins", "first", first, "second", second)
    check_pair("mixed_barlow_twins", "first", first, "mixed", mixed)
    check_batch("mixed_barlow_twins", first, "over which features are standardised")
    # Gathered for the statistics, and for partners on other replicas.
    everyone = distribution.all_gather([first, second, mixed])
    permutation = ops.cast(ops.convert_to_tensor(permutation), "int32")
    _check_permutation(permutation, everyone[0])
    one, two, three = (_standardise(view, variance, epsilon) for view in everyone)
    alpha = as_float32(alpha)
    partner = (1.0 - alpha) * ops.take(two, permutation, axis=0)
    # C(m, v) - T_v is one product: what is left of the mixed rows, times view v.
    rest = [three - alpha * own - partner for own in (one, one if form == "cifar" else two)]
    count = ops.shape(first)[0]
    one, two, *rest = (distribution.own_rows(x, count) for x in (one, two, *rest))
    pairs = [(one, two), (rest[0], one), (rest[1], two)]
    products = [ops.matmul(ops.transpose(a), b) for a, b in pairs]
    rows = ops.cast(ops.shape(everyone[0])[0], "float32")
    matrices = distribution.all_reduce_sum(ops.stack(products)) / rows
    half = 1.0 if form == "cifar" else 0.5
    return {
        "barlow_twins": scale * distance_from_identity(matrices[0], lambd),
        "mixed": scale * half * mix_scale * lambd * ops.sum(ops.square(matrices[1:])),
    }


def _standardise(x: Any, variance: str, epsilon: float) -> Any:
    """Features of mean 0 and variance 1 over the rows."""
    rows = ops.cast(ops.shape(x)[0], "float32")
    x = x - ops.mean(x, axis=0)
    degrees = rows - 1.0 if variance == "unbiased" else rows
    return x * inverse_root(ops.sum(ops.square(x), axis=0) / degrees + epsilon)


def _check_permutation(permutation: Any, everyone: Any) -> None:
    shape, rows = tuple(permutation.shape), everyone.shape[0]
    if len(shape) != 1 or None not in (shape[0], rows) and shape[0] != rows:
        raise ValueError(
            "mixed_barlow_twins needs one partner for every row of the global batch, a permutation "
            f"of shape ({rows},); received shape {shape}."
        )
