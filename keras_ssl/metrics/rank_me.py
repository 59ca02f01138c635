# SPDX-License-Identifier: Apache-2.0
"""RankMe: the smooth effective rank of an embedding matrix."""

from typing import Any

from keras import ops

from keras_ssl.metrics._rows import as_rows


def rank_me(
    z: Any, *, epsilon: float = 1e-7, center: bool = False, values: str = "singular"
) -> Any:
    """Effective rank of embeddings: exp of the entropy of their normalised singular values.

    It lies between 1 (all rows on one line) and min(N, D) (orthogonal columns of equal norm), and
    ignores the scale of `z`. Compare it only between runs of one method, with the same N, and say
    whether it was taken of the representation or of the projection; N should be well above D.

    Args:
        z: (N, D) embeddings, one sample a row. float16 and bfloat16 are computed in float32,
            float64 in float64.
        epsilon: added to every probability, which are not renormalised after it (equation 1).
        center: subtract the mean row first. The paper does not; other libraries do.
        values: "singular" for the singular values of `z` (the paper), or "covariance" for their
            squares, the eigenvalues of the second-moment matrix (with `center=True`: of the
            covariance). The two give different numbers.

    Returns:
        Scalar.

    Raises:
        ValueError: if `z` is not (N, D), or `values` is unknown.

    Source: RankMe: Assessing the Downstream Performance of Pretrained Self-Supervised
    Representations by Their Rank, 2023, equation 1.

    Example:
        >>> import numpy as np
        >>> round(float(rank_me(np.eye(4))), 3)
        4.0
    """
    z = as_rows(z, "z")
    if values not in ("singular", "covariance"):
        raise ValueError(f'values is {values!r}, expected "singular" or "covariance".')
    if center:
        z = z - ops.mean(z, axis=0, keepdims=True)
    # Without it the squares of very large or very small embeddings leave float32.
    largest = ops.max(ops.abs(z))
    z = z / ops.where(largest > 0, largest, ops.ones_like(largest))
    spectrum = ops.svd(z, compute_uv=False)
    if values == "covariance":
        spectrum = ops.square(spectrum)
    total = ops.sum(spectrum)
    # All-zero embeddings have no direction at all: the entropy of nothing but epsilon, rank 1.
    p = spectrum / ops.where(total > 0, total, ops.ones_like(total)) + epsilon
    return ops.exp(-ops.sum(p * ops.log(p)))
