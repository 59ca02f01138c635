# SPDX-License-Identifier: Apache-2.0
"""LeJEPA: views agree, and in every direction their projections look standard normal."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from keras import ops

from keras_ssl.core import distribution
from keras_ssl.losses._math import as_float32, check_positive, check_views


@distribution.kind("reduced")
def epps_pulley(samples: Any, *, knots: int = 17, t_max: float = 3.0) -> Any:
    """How far each column of a sample is from the standard normal distribution.

    `T = B Σ_k w_k [(mean_i cos(t_k x_i) - φ_k)² + (mean_i sin(t_k x_i))²]` with `φ_k =
    exp(-t_k² / 2)`, `t` from 0 to `t_max` in equal steps, and `w` the trapezoid rule times `φ`,
    doubled because the integrand is even. B counts the rows of all replicas: T of a normal sample
    does not depend on it, T of any other grows with it.

    Memory of value and gradient is that of a few copies of `samples`, whatever the number of
    knots.

    Args:
        samples: `(B, slices)`, any float dtype.
        knots: number of points of the quadrature, from 2.
        t_max: upper end of the quadrature.

    Returns:
        `(slices,)` float32, equal on every replica.

    Raises:
        ValueError: for another rank, fewer than two knots or a `t_max` not above zero.

    Source: Epps and Pulley, 1983; Balestriero and LeCun, 2025, section 4;
    https://arxiv.org/abs/2511.08544.

    Example:

    >>> epps_pulley(np.random.normal(size=(4096, 3))).shape
    (3,)
    """
    check_quadrature("epps_pulley", knots, t_max)
    x = as_float32(samples)
    if len(x.shape) != 2:
        raise ValueError(
            f"epps_pulley expects samples of shape (batch, slices); received {tuple(x.shape)}."
        )
    step = t_max / (knots - 1)
    # At t = 0 both functions are 1 for every sample, so the sums start at the second knot.
    normal = [math.exp(-((step * k) ** 2) / 2) for k in range(1, knots)]
    weight = [(1.0 if k == knots - 1 else 2.0) * step for k in range(1, knots)]
    phi = ops.reshape(as_float32(normal), (-1, 1))
    w = ops.reshape(as_float32(weight), (-1, 1)) * phi
    sums = _wave_sums(x, step, knots - 1)
    # Rows are counted, since replicas may differ in them in a last batch.
    sums, rows = distribution.all_reduce_sum([sums, ops.cast(ops.shape(x)[0], "float32")])
    distance = ops.square(sums[0] / rows - phi) + ops.square(sums[1] / rows)
    return rows * ops.sum(w * distance, axis=0)


@distribution.kind("reduced")
def sigreg(
    projections: Sequence,
    directions: Any,
    *,
    flatten: bool = False,
    knots: int = 17,
    t_max: float = 3.0,
) -> Any:
    """Sketched isotropic Gaussian regularisation: mean of `epps_pulley` over random directions.

    Near its smallest value when the projections are spread like an isotropic standard normal
    distribution, so that they can neither collapse nor hold redundant features. Draw new unit
    directions every step, the same on all replicas; `keras_ssl.layers.SIGReg` does.

    Args:
        projections: list of `(B, D)` tensors, one a view, not normalised, any float dtype.
        directions: `(D, slices)`, columns of length 1; no gradient flows into them.
        flatten: False: statistics of each view by itself, averaged (the authors' minimal
            example). True: one statistic of the rows of all views together, whose factor is
            the number of all these rows (stable-pretraining).
        knots: as `epps_pulley`.
        t_max: as `epps_pulley`.

    Returns:
        float32 scalar, equal on every replica.

    Raises:
        ValueError: for shapes that do not fit, and as `epps_pulley`.

    Source: Balestriero and LeCun, 2025, section 4; https://arxiv.org/abs/2511.08544.

    Example:

    >>> z = np.random.normal(size=(2, 64, 8))
    >>> loss = sigreg([z[0], z[1]], normalize(np.random.normal(size=(8, 32)), axis=0))
    """
    views = check_views("sigreg", projections, least=1)
    directions = ops.stop_gradient(as_float32(directions))
    width = views[0].shape[1]
    if len(directions.shape) != 2 or directions.shape[0] != width:
        raise ValueError(
            f"sigreg expects directions of shape (features, slices) for projections of width "
            f"{width}; received {tuple(directions.shape)}."
        )
    if flatten:
        views = [ops.concatenate(views, axis=0)]
    # Views side by side are more columns: one pass and one collective for all of them.
    samples = ops.concatenate([ops.matmul(view, directions) for view in views], axis=1)
    return ops.mean(epps_pulley(samples, knots=knots, t_max=t_max))


@distribution.kind("reduced")
def lejepa(
    projections: Sequence,
    directions: Any,
    *,
    trade_off: float = 0.05,
    centre: str = "global",
    global_views: int = 2,
    combine: str = "convex",
    flatten: bool = False,
    knots: int = 17,
    t_max: float = 3.0,
) -> dict[str, Any]:
    """The two weighted terms of LeJEPA; their sum is the loss.

    `λ SIGReg + (1 - λ) mean_{v, i, d} (z_v - μ)²`, where `μ` is the mean of the global views, or
    of all. The gradient flows into `μ` too.

    Args:
        projections: list of at least two `(B, D)` tensors, one a view, global views first, not
            normalised, any float dtype.
        directions: `(D, slices)`, columns of length 1.
        trade_off: λ; 0.01 to 0.1 in the paper.
        centre: `"global"` (multi-crop) or `"all"` views (the authors' minimal example).
        global_views: number of global views, which come first.
        combine: `"convex"` weighs the invariance by 1 - λ (the paper), `"sum"` by 1
            (stable-pretraining).
        flatten: as `sigreg`.
        knots: as `epps_pulley`.
        t_max: as `epps_pulley`.

    Returns:
        dict of float32 scalars `"sigreg"` and `"invariance"`.

    Raises:
        ValueError: for an unknown option, a λ outside of 0..1, fewer views than `global_views` or
            than two, and as `sigreg`.

    Source: Balestriero and LeCun, 2025, section 5; https://arxiv.org/abs/2511.08544.

    Example:

    >>> z = np.random.normal(size=(2, 64, 8))
    >>> directions = normalize(np.random.normal(size=(8, 32)), axis=0)
    >>> loss = sum(lejepa([z[0], z[1]], directions).values())
    """
    check_lejepa("lejepa", trade_off, centre, global_views, combine)
    views = check_views("lejepa", projections)
    if centre == "global" and global_views > len(views):
        raise ValueError(
            f"lejepa takes the mean of the first {global_views} views, but there are only "
            f'{len(views)}; set global_views, or centre="all".'
        )
    chosen = views if centre == "all" else views[:global_views]
    middle = sum(chosen) / len(chosen)
    distances = [ops.mean(ops.square(view - middle)) for view in views]
    gaussian = sigreg(views, directions, flatten=flatten, knots=knots, t_max=t_max)
    rest = 1.0 - trade_off if combine == "convex" else 1.0
    return {
        "sigreg": trade_off * gaussian,
        "invariance": rest * sum(distances) / len(distances),
    }


def check_quadrature(caller: str, knots: int, t_max: float) -> None:
    """Requires a quadrature of at least two knots on an interval.

    Args:
        caller: name for the message.
        knots: number of points.
        t_max: upper end.

    Raises:
        ValueError: if one is out of range.
    """
    if not isinstance(knots, int) or knots < 2:
        raise ValueError(f"{caller} needs knots to be an integer of at least 2; received {knots}.")
    check_positive(caller, "t_max", t_max)


def check_lejepa(
    caller: str, trade_off: float, centre: str, global_views: int, combine: str
) -> None:
    """Requires options that `lejepa` knows.

    Args:
        caller: name for the message.
        trade_off: as `lejepa`.
        centre: as `lejepa`.
        global_views: as `lejepa`.
        combine: as `lejepa`.

    Raises:
        ValueError: if one is unknown or out of range.
    """
    if not 0.0 <= trade_off <= 1.0:
        raise ValueError(f"{caller} needs trade_off between 0 and 1; received {trade_off}.")
    for name, value, known in (
        ("centre", centre, ("global", "all")),
        ("combine", combine, ("convex", "sum")),
    ):
        if value not in known:
            raise ValueError(f"{caller}: {name} is {known[0]!r} or {known[1]!r}; got {value!r}.")
    if global_views < 1:
        raise ValueError(f"{caller} needs global_views of at least 1; received {global_views}.")


def _wave_sums(x: Any, step: float, count: int) -> Any:
    """`(2, count, slices)`: sums over rows of `cos(k step x)` and `sin(k step x)`, k from 1."""

    # A gradient of its own that recomputes the waves from `x`: automatic differentiation would
    # keep every one of them, and need memory for rows times slices times knots.
    @ops.custom_gradient
    def sums(x):
        c, s = first = ops.cos(step * x), ops.sin(step * x)
        cosines, sines = [], []
        for _ in range(count):
            cosines.append(ops.sum(c, axis=0))
            sines.append(ops.sum(s, axis=0))
            c, s = _rotated(c, s, *first)

        def gradient(*upstreams, upstream=None):
            outer = upstreams[0] if upstream is None else upstream
            c, s = ops.cos(step * x), ops.sin(step * x)
            # The real part of Σ_k k step (g_sin + i g_cos)_k exp(i k step x), by Horner's rule.
            real, imaginary = ops.zeros_like(x), ops.zeros_like(x)
            for k in range(count, 0, -1):
                into_cosine, into_sine = outer[0, k - 1], outer[1, k - 1]
                real, imaginary = real + k * step * into_sine, imaginary + k * step * into_cosine
                real, imaginary = _rotated(real, imaginary, c, s)
            return real

        return ops.stack([ops.stack(cosines), ops.stack(sines)]), gradient

    return sums(x)


def _rotated(c: Any, s: Any, c1: Any, s1: Any) -> tuple[Any, Any]:
    """Product of the complex numbers `c + i s` and `c1 + i s1`.

    The waves of all knots are powers of the first: two transcendental functions instead of two
    for every knot.
    """
    return c * c1 - s * s1, s * c1 + c * s1
