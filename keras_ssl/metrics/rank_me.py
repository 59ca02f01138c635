# SPDX-License-Identifier: Apache-2.0
"""RankMe: the smooth effective rank of an embedding matrix."""

from typing import Any

from keras import ops

from keras_ssl.metrics._moments import Moments, covariance, effective_rank, eigenvalues
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
    _known(values)
    if center:
        z = z - ops.mean(z, axis=0, keepdims=True)
    # Without it the squares of very large or very small embeddings leave float32.
    largest = ops.max(ops.abs(z))
    z = z / ops.where(largest > 0, largest, ops.ones_like(largest))
    spectrum = ops.svd(z, compute_uv=False)
    if values == "covariance":
        spectrum = ops.square(spectrum)
    return effective_rank(spectrum, epsilon)


class RankMe(Moments):
    """`rank_me` of rows that come in batches, equal to that of all rows at once.

    It keeps the sum of outer products, D x D numbers in double precision, whatever the number of
    rows; replicas' sums are added. `update_state(z)` takes embeddings, so it is used in a loop or a
    callback, not in `compile`.

    Args:
        dimensions: D, width of an embedding.
        epsilon: as `rank_me`.
        center: as `rank_me`.
        values: as `rank_me`.
        name: of the metric.
        dtype: of the result.

    Raises:
        ValueError: for a width below 1, an unknown `values`, or embeddings of another width.

    Source: RankMe: Assessing the Downstream Performance of Pretrained Self-Supervised
    Representations by Their Rank, 2023, equation 1.

    Example:
        >>> import numpy as np
        >>> metric = RankMe(4)
        >>> for rows in np.split(np.eye(4), 2):
        ...     metric.update_state(rows)
        >>> round(float(metric.result()), 3)
        4.0
    """

    def __init__(
        self,
        dimensions: int,
        epsilon: float = 1e-7,
        center: bool = False,
        values: str = "singular",
        name: str = "rank_me",
        dtype: Any = None,
    ):
        super().__init__(dimensions, name=name, dtype=dtype)
        _known(values)
        self.epsilon, self.center, self.values = epsilon, center, values

    def result(self) -> Any:
        """The effective rank of all rows so far."""
        matrix = ops.convert_to_tensor(self.sums["squares"])
        if self.center:
            # Only shares count, so that what covariance divides by does not matter.
            matrix = covariance(*(ops.convert_to_tensor(v) for v in self.sums.values()))
        found = eigenvalues(matrix)
        found = found if self.values == "covariance" else ops.sqrt(found)
        return ops.cast(effective_rank(found, self.epsilon), self.dtype)

    def get_config(self) -> dict:
        """The constructor's arguments."""
        own = {"epsilon": self.epsilon, "center": self.center, "values": self.values}
        return {**super().get_config(), **own}


def _known(values: str) -> None:
    if values not in ("singular", "covariance"):
        raise ValueError(f'values is {values!r}, expected "singular" or "covariance".')
