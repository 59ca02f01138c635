# SPDX-License-Identifier: Apache-2.0
"""alpha-ReQ: how fast the spectrum of embeddings decays."""

from typing import Any, NamedTuple

from keras import ops

from keras_ssl.metrics._moments import Moments, covariance, eigenvalues
from keras_ssl.metrics._rows import as_rows

# Eigenvalues below this share of the largest are rounding.
_NOTHING = 1e-13


class PowerLaw(NamedTuple):
    """What a power law fitted to a spectrum says.

    Args:
        alpha: exponent of the decay.
        r_squared: share of the variance of logarithms that the law explains, 1 at best.
    """

    alpha: Any
    r_squared: Any


def power_law(spectrum: Any, *, ranks: tuple[int, int] | None = None) -> PowerLaw:
    """Fits `log value = c - alpha log rank` to a spectrum, by least squares weighted by 1 / rank.

    Args:
        spectrum: (K,) eigenvalues, descending; those of 0 are left out.
        ranks: first and last rank of the fit, from 1; None for 11 to 100, as far as there are so
            many, and from 1 where fewer than 22 are.

    Returns:
        Scalars `alpha` and `r_squared`.

    Raises:
        ValueError: if the ranks are not two of the spectrum, in order.

    Source: alpha-ReQ: Assessing Representation Quality in Self-Supervised Learning by measuring
    eigenspectrum decay, 2022, and its authors' code.

    Example:
        >>> import numpy as np
        >>> round(float(power_law(np.arange(1, 200) ** -1.5).alpha), 6)
        1.5
    """
    spectrum = ops.cast(ops.convert_to_tensor(spectrum), "float64")
    if len(spectrum.shape) != 1:
        raise ValueError(
            f"spectrum has shape {tuple(spectrum.shape)}, expected (eigenvalues,). alpha_req takes "
            "embeddings."
        )
    first, last = _range(int(spectrum.shape[0]), ranks)
    rank = ops.cast(ops.arange(first, last + 1), "float64")
    chosen = spectrum[first - 1 : last]
    there = chosen > _NOTHING * ops.max(spectrum)
    weight = ops.where(there, 1.0 / rank, 0.0)
    x = ops.log(rank)
    y = ops.log(ops.where(there, chosen, ops.ones_like(chosen)))
    total = ops.sum(weight)
    total = ops.where(total > 0, total, ops.ones_like(total))
    x = x - ops.sum(weight * x) / total
    y = y - ops.sum(weight * y) / total
    slope = _ratio(ops.sum(weight * x * y), ops.sum(weight * ops.square(x)))
    left = ops.sum(weight * ops.square(y - slope * x))
    return PowerLaw(-slope, 1.0 - _ratio(left, ops.sum(weight * ops.square(y))))


def alpha_req(z: Any, *, ranks: tuple[int, int] | None = None) -> PowerLaw:
    """Decay of the eigenvalues of the covariance of embeddings, as the exponent of a power law.

    Representations that serve well tend to have an alpha near 1: below, many directions hold
    noise; far above, few hold everything. Few rows push it up, so N should be well above D.

    Args:
        z: (N, D) embeddings, N at least 3.
        ranks: see `power_law`.

    Returns:
        Scalars `alpha` and `r_squared`, float64.

    Raises:
        ValueError: if `z` is not (N, D), or as `power_law`.

    Source: alpha-ReQ: Assessing Representation Quality in Self-Supervised Learning by measuring
    eigenspectrum decay, 2022.

    Example:
        >>> import numpy as np
        >>> z = np.random.default_rng(0).normal(size=(5000, 32)) * np.arange(1, 33) ** -0.5
        >>> abs(float(alpha_req(z, ranks=(1, 32)).alpha) - 1.0) < 0.1
        True
    """
    z = ops.cast(as_rows(z, "z", at_least=3), "float64")
    # Embeddings that share a large common part would lose small eigenvalues to rounding.
    z = z - ops.mean(z, axis=0)
    rows = ops.shape(z)[0]
    return power_law(eigenvalues(ops.matmul(ops.transpose(z), z) / (rows - 1)), ranks=ranks)


class AlphaReQ(Moments):
    """`alpha_req` of rows that come in batches, equal to that of all rows at once.

    Used in a loop or a callback, as `RankMe`.

    Args:
        dimensions: D, width of an embedding, at least 3.
        ranks: see `power_law`.
        name: of the metric.
        dtype: of the results.

    Raises:
        ValueError: as `power_law`, or for embeddings of another width.

    Source: alpha-ReQ: Assessing Representation Quality in Self-Supervised Learning by measuring
    eigenspectrum decay, 2022.

    Example:
        >>> import numpy as np
        >>> metric = AlphaReQ(4)
        >>> metric.update_state(np.random.default_rng(0).normal(size=(100, 4)))
        >>> sorted(metric.result())
        ['alpha', 'r_squared']
    """

    def __init__(
        self,
        dimensions: int,
        ranks: tuple[int, int] | None = None,
        name: str = "alpha_req",
        dtype: Any = None,
    ):
        super().__init__(dimensions, name=name, dtype=dtype)
        _range(dimensions, ranks)
        self.ranks = ranks if ranks is None else (int(ranks[0]), int(ranks[1]))

    def result(self) -> dict[str, Any]:
        """`alpha` and `r_squared` of all rows so far."""
        sums = (ops.convert_to_tensor(v) for v in self.sums.values())
        found = power_law(eigenvalues(covariance(*sums)), ranks=self.ranks)
        return {name: ops.cast(value, self.dtype) for name, value in found._asdict().items()}

    def get_config(self) -> dict:
        """The constructor's arguments."""
        return {**super().get_config(), "ranks": self.ranks}


def _range(number: int, ranks: tuple[int, int] | None) -> tuple[int, int]:
    """First and last rank of a fit."""
    if ranks is None:
        last = min(100, number)
        ranks = (11 if last >= 22 else 1), last
    first, last = ranks
    if not 1 <= first < last <= number:
        raise ValueError(
            f"ranks is {tuple(ranks)}, expected a first and a later one from 1 to {number}, the "
            "number of eigenvalues."
        )
    return first, last


def _ratio(part: Any, whole: Any) -> Any:
    return part / ops.where(whole > 0, whole, ops.ones_like(whole))
