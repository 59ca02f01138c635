# SPDX-License-Identifier: Apache-2.0
"""Which features deep linear networks learn first, from latents or from inputs: the equations."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

KINDS = ("jepa", "mae")


def deep_linear_learning(
    kind: str,
    depth: int,
    covariance: Sequence[float],
    regression: Sequence[float],
    times: Sequence[float],
    start: float,
) -> np.ndarray:
    """How a deep linear network learns independent features by gradient flow.

    An encoder of L linear layers and one more predict a second view, or what the encoder makes of
    it without gradient, by squared errors. From layers that are all alike every layer's weight u of
    a feature moves by λ u^2L (1 - u/ρ) for latents, and by λ u^L (1 - u^(L+1)/ρ) for inputs. A
    small ρ is a noisy feature: latents learn it late, inputs ask for λ only.

    Args:
        kind: `"jepa"` for latents or `"mae"` for inputs.
        depth: L, at least 1.
        covariance: λ of every feature, its covariance E[xy] between the views; positive.
        regression: ρ of every feature, E[xy] / E[x²]; positive.
        times: rising points in time, in units of the flow.
        start: weight of every layer at the first of them; positive.

    Returns:
        float64 `(features, times)`: u^L, what the encoder makes of each feature.

    Raises:
        ValueError: for another kind, fewer than one layer, or numbers that are not positive.

    Source: How JEPA Avoids Noisy Features, Littwin et al. 2024, section 3, in the layers' weights.

    Example:
        >>> found = deep_linear_learning("jepa", 2, [1.0], [0.5], [0.0, 200.0], 0.35)
        >>> round(found[0, 1], 3)
        0.25
    """
    from scipy.integrate import solve_ivp

    rate, ratio = (np.asarray(x, "float64") for x in (covariance, regression))
    _check(kind, depth, start, *rate, *ratio)

    def speed(time: float, u: np.ndarray) -> np.ndarray:
        if kind == "jepa":
            return rate * u ** (2 * depth) * (1.0 - u / ratio)
        return rate * u**depth * (1.0 - u ** (depth + 1) / ratio)

    span = (float(times[0]), float(times[-1]))
    options: dict[str, Any] = {"method": "DOP853", "rtol": 1e-11, "atol": 1e-12}
    first = np.full(len(rate), float(start))
    return solve_ivp(speed, span, first, t_eval=np.asarray(times), **options).y ** depth


def deep_linear_end(kind: str, depth: int, regression: Sequence[float]) -> np.ndarray:
    """What the encoder makes of features in the end: ρ^L from latents, ρ^(L/(L+1)) from inputs.

    Args:
        kind: `"jepa"` or `"mae"`.
        depth: L, at least 1.
        regression: ρ of every feature; positive.

    Returns:
        float64 `(features,)`.

    Raises:
        ValueError: as `deep_linear_learning`.
    """
    ratio = np.asarray(regression, "float64")
    _check(kind, depth, *ratio)
    return ratio ** (depth if kind == "jepa" else depth / (depth + 1))


def deep_linear_start(depth: int, covariance: float, regression: float, start: float) -> float:
    """When prediction of latents leaves a small start, about: the sum over powers of the start.

    Its leading term asks for λ alone; all others grow where ρ is small.

    Args:
        depth: L, at least 1.
        covariance: λ of the feature.
        regression: ρ of the feature.
        start: weight of every layer at time 0.

    Returns:
        The time.

    Raises:
        ValueError: as `deep_linear_learning`.

    Source: Littwin et al. 2024, section 3.2.
    """
    _check("jepa", depth, covariance, regression, start)
    powers = range(1, 2 * depth)
    return sum(regression ** (m + 1 - 2 * depth) * start**-m / m for m in powers) / covariance


def _check(kind: str, depth: int, *positive: float) -> None:
    if kind not in KINDS or depth < 1 or not all(number > 0.0 for number in positive):
        raise ValueError(
            f"deep linear learning is of kind {list(KINDS)}, has at least 1 layer, and numbers "
            f"that are positive; received kind={kind!r}, depth={depth}, {positive}."
        )
