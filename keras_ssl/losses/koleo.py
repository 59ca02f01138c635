# SPDX-License-Identifier: Apache-2.0
"""KoLeo: representations spread evenly by their distance to the nearest other one."""

from __future__ import annotations

from typing import Any

from keras import ops

from keras_ssl.core import distribution
from keras_ssl.losses._math import check_pair, normalize


@distribution.kind("local")
def koleo(x: Any, *, epsilon: float = 1e-8) -> Any:
    """Mean negative logarithm of each unit vector's distance to its nearest neighbour.

    The neighbour is sought among the rows of this replica only, as released; which row it is has
    no gradient, the row itself has. It pushes apart what is close, duplicates most of all.

    Args:
        x: `(B, D)`, at least 2 rows, any float dtype; normalised here.
        epsilon: added to every difference and to the distance.

    Returns:
        float32 scalar.

    Raises:
        ValueError: for another rank or a single row.

    Source: Spreading vectors for similarity search, Sablayrolles et al. 2019, equation 2; weight
    0.1 in DINOv2, Oquab et al. 2023.
    """
    check_pair("koleo", "x", x, "x", x)
    if x.shape[0] == 1:
        raise ValueError("koleo compares rows with one another; it needs at least 2 a replica.")
    x = normalize(x)
    fixed = ops.stop_gradient(x)
    similar = ops.matmul(fixed, ops.transpose(fixed))
    similar = similar - 4.0 * ops.eye(ops.shape(x)[0], dtype="float32")
    nearest = ops.take(x, ops.argmax(similar, axis=1), axis=0)
    distance = ops.sqrt(ops.sum(ops.square(x - nearest + epsilon), axis=-1))
    return -ops.mean(ops.log(distance + epsilon))
