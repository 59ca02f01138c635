# SPDX-License-Identifier: Apache-2.0
"""What ties prototypes to samples, so that each of them can be shown as one."""

from __future__ import annotations

from typing import Any

from keras import ops

from keras_ssl.core import distribution
from keras_ssl.losses._math import as_float32


@distribution.kind("gathered")
def nearest_sample(distances: Any) -> Any:
    """How far prototypes are from the sample that is nearest to them, on average.

    Small when every prototype looks like some sample of the batch, that of all replicas.

    Args:
        distances: `(B, P)` of B samples to P prototypes, squared.

    Returns:
        float32 scalar.

    Source: R1 of Li et al., 2018, section 3; https://arxiv.org/abs/1710.04806.

    Example:
        >>> float(nearest_sample([[1.0, 4.0], [2.0, 3.0]]))
        2.0
    """
    everyone = distribution.all_gather(_checked(distances))
    return ops.mean(ops.min(everyone, axis=0))


@distribution.kind("local")
def nearest_prototype(distances: Any) -> Any:
    """How far samples are from the prototype that is nearest to them, on average.

    Small when every sample looks like some prototype: then prototypes stand for groups of samples.

    Args:
        distances: `(B, P)` of B samples to P prototypes, squared.

    Returns:
        float32 scalar.

    Source: R2 of Li et al., 2018, section 3; https://arxiv.org/abs/1710.04806.

    Example:
        >>> float(nearest_prototype([[1.0, 4.0], [2.0, 3.0]]))
        1.5
    """
    return ops.mean(ops.min(_checked(distances), axis=1))


def _checked(distances: Any) -> Any:
    distances = as_float32(distances)
    if len(distances.shape) != 2:
        raise ValueError(
            f"distances have shape {tuple(distances.shape)}, expected (samples, prototypes); "
            "layers.PrototypeDistance gives these."
        )
    return distances
