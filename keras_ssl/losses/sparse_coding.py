# SPDX-License-Identifier: Apache-2.0
"""What a sparse autoencoder is asked: a small error, few latents, and none of them dead."""

from __future__ import annotations

from typing import Any

from keras import ops

from keras_ssl.core import distribution
from keras_ssl.losses._math import as_float32, check_pair


@distribution.kind("local")
def relative_error(reconstruction: Any, x: Any) -> Any:
    """Squared error of a row as a share of the row's own square, averaged over rows.

    Args:
        reconstruction: `(B, D)`.
        x: `(B, D)`, what is reconstructed; a row of zeros counts nothing.

    Returns:
        float32 scalar.

    Source: Gao et al., 2024, released code; https://arxiv.org/abs/2406.04093.

    Example:
        >>> float(relative_error([[1.0, 1.0]], [[2.0, 0.0]]))
        0.5
    """
    reconstruction, x = as_float32(reconstruction), as_float32(x)
    check_pair("relative_error", "reconstruction", reconstruction, "x", x)
    squares = ops.sum(ops.square(x), axis=1)
    return ops.mean(_share(ops.sum(ops.square(reconstruction - x), axis=1), squares))


@distribution.kind("local")
def relative_l1(latents: Any, x: Any) -> Any:
    """Sum of the sizes of a row's latents as a share of the row's length, averaged over rows.

    Args:
        latents: `(B, N)`.
        x: `(B, D)`, what they stand for; a row of zeros counts nothing.

    Returns:
        float32 scalar.

    Source: Gao et al., 2024, released code; https://arxiv.org/abs/2406.04093.

    Example:
        >>> float(relative_l1([[1.0, -2.0, 0.0]], [[3.0, 4.0]]))
        0.6
    """
    latents, x = as_float32(latents), as_float32(x)
    squares = ops.sum(ops.square(x), axis=1)
    # The root of 0 has no gradient.
    lengths = ops.where(squares > 0.0, ops.sqrt(ops.where(squares > 0.0, squares, 1.0)), 0.0)
    return ops.mean(_share(ops.sum(ops.abs(latents), axis=1), lengths))


@distribution.kind("reduced")
def dead_latent_error(prediction: Any, residual: Any) -> Any:
    """What share of a residual dead latents leave unexplained, over the global batch.

    Args:
        prediction: `(B, D)`, what dead latents alone make of the samples.
        residual: `(B, D)`, what the living ones have left; no gradient passes into it.

    Returns:
        float32 scalar: 1 where nothing is predicted, 0 where the residual is.

    Source: the auxiliary loss of Gao et al., 2024, appendix A.2; https://arxiv.org/abs/2406.04093.
    The released code divides by the variance of residual and bias together; this is the share of
    the paper, whose bias takes no part.

    Example:
        >>> float(dead_latent_error([[1.0, 0.0]], [[1.0, 1.0]]))
        0.5
    """
    prediction, residual = as_float32(prediction), ops.stop_gradient(as_float32(residual))
    check_pair("dead_latent_error", "prediction", prediction, "residual", residual)
    squares = distribution.all_reduce_mean(ops.mean(ops.square(residual)))
    return _share(ops.mean(ops.square(prediction - residual)), squares)


def _share(part: Any, whole: Any) -> Any:
    """A quotient, 0 where there is nothing to divide by."""
    some = whole > 0.0
    return ops.where(some, part / ops.where(some, whole, 1.0), 0.0)
