# SPDX-License-Identifier: Apache-2.0
"""Alignment and uniformity on the hypersphere (Wang and Isola, 2020)."""

from typing import Any

from keras import ops

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
    return ops.mean(ops.where(apart, powers, ops.zeros_like(powers)))


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
    if t <= 0:
        raise ValueError(f"t is {t}, expected a positive sharpness (the paper uses 2).")
    if normalize:
        x = unit_rows(x)
    norms = ops.sum(ops.square(x), axis=1)
    squares = norms[:, None] + norms[None, :] - 2 * ops.matmul(x, ops.transpose(x))
    rows = ops.shape(x)[0]
    pairs = ops.cast(rows, x.dtype) * (ops.cast(rows, x.dtype) - 1)
    # Rounding may leave a tiny negative square; far below every real one, the diagonal drops out.
    potentials = -t * ops.maximum(squares, 0) - 1e9 * ops.eye(rows, dtype=x.dtype)
    return ops.logsumexp(potentials) - ops.log(pairs)
