# SPDX-License-Identifier: Apache-2.0
"""How far apart embeddings lie on the sphere: the two numbers that show a collapse first."""

from typing import Any

from keras import ops

from keras_ssl.metrics._rows import as_rows, unit_rows


def feature_std(z: Any) -> Any:
    """Mean over dimensions of the standard deviation of the L2-normalised rows.

    Near `1 / sqrt(D)` when the rows fill the sphere evenly, 0 when they are all alike.

    Args:
        z: (N, D) embeddings, N at least 2; need not be normalised.

    Returns:
        Scalar. The standard deviation is the unbiased one (divided by N - 1).

    Raises:
        ValueError: if `z` is not (N, D) with N at least 2.

    Source: Exploring Simple Siamese Representation Learning, 2021, figure 2 (middle).

    Example:
        >>> import numpy as np
        >>> float(feature_std(np.ones((8, 3))))
        0.0
    """
    z = unit_rows(as_rows(z, "z", at_least=2))
    rows = ops.cast(ops.shape(z)[0], z.dtype)
    # The first row is taken out before the mean: rows that are all alike then give exactly 0.
    variance = ops.var(z - z[:1], axis=0) * rows / (rows - 1)
    return ops.mean(ops.sqrt(variance))


def mean_cosine(z: Any) -> Any:
    """Mean cosine of all pairs of different rows: 1 when all rows point the same way.

    Args:
        z: (N, D) embeddings, N at least 2; need not be normalised. A zero row has cosine 0.

    Returns:
        Scalar between -1/(N-1) and 1.

    Raises:
        ValueError: if `z` is not (N, D) with N at least 2.

    Example:
        >>> import numpy as np
        >>> float(mean_cosine(np.eye(3)))
        0.0
    """
    z = unit_rows(as_rows(z, "z", at_least=2))
    rows = ops.cast(ops.shape(z)[0], z.dtype)
    # The sum of all rows, squared, holds every ordered pair once, and each row with itself.
    everything = ops.sum(ops.square(ops.sum(z, axis=0)))
    return (everything - ops.sum(ops.square(z))) / (rows * (rows - 1))
