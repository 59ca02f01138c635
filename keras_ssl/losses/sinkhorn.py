# SPDX-License-Identifier: Apache-2.0
"""Balanced assignment of samples to prototypes by the Sinkhorn-Knopp algorithm."""

from __future__ import annotations

from typing import Any

from keras import ops

from keras_ssl.core import distribution
from keras_ssl.losses._math import as_float32, check_positive

# The logarithm of no mass; minus infinity would meet plus infinity where nobody has any.
_NOTHING = -1e30


@distribution.kind("gathered")
def sinkhorn_knopp(
    scores: Any, *, epsilon: float = 0.05, iterations: int = 3, weights: Any = None
) -> Any:
    """Soft codes that give every prototype the same share of the batch, without gradient.

    Of `exp(scores / epsilon)`, turn by turn: every prototype's mass over the global batch is made
    equal, then every sample's. The last turn is the samples', so that the codes of one sum to 1.
    Computed with logarithms, so no score over- or underflows; adding a constant to the scores of
    a sample or of a prototype changes nothing.

    Unsupervised Learning of Visual Features by Contrasting Cluster Assignments, Caron et al. 2020,
    section 3.1; Sinkhorn Distances, Cuturi 2013, algorithm 1.

    Args:
        scores: `(..., B, K)` of samples and prototypes, any float dtype. Leading axes are problems
            of their own, solved together.
        epsilon: weight of the entropy, or the temperature of a teacher; smaller is sharper.
        iterations: turns of both normalisations.
        weights: `(..., B)` of at least 0, the mass of a sample; 0 for padding, which takes no
            part. None for 1.

    Returns:
        float32 `(..., B, K)`, rows that sum to 1.

    Raises:
        ValueError: for scores of fewer than two axes, or settings that are not positive.

    Example:

    >>> codes = sinkhorn_knopp(np.random.normal(size=(64, 10)))
    >>> codes.shape
    (64, 10)
    """
    check_positive("sinkhorn_knopp", "epsilon", epsilon)
    check_positive("sinkhorn_knopp", "iterations", iterations)
    if len(scores.shape) < 2:
        raise ValueError(
            "sinkhorn_knopp expects scores of shape (..., samples, prototypes); received "
            f"{tuple(scores.shape)}."
        )
    scores = ops.stop_gradient(as_float32(scores)) / epsilon
    if weights is None:
        masked = scores
    else:
        mass = ops.expand_dims(ops.stop_gradient(as_float32(weights)), -1)
        present = mass > 0.0
        logarithm = ops.log(ops.where(present, mass, 1.0))
        masked = ops.where(present, scores + logarithm, _NOTHING)
    prototypes = -_over_samples(masked)
    for _ in range(int(iterations) - 1):
        samples = -ops.logsumexp(scores + prototypes, axis=-1, keepdims=True)
        if weights is not None:
            samples = ops.where(present, samples, 0.0)
        prototypes = -_over_samples(masked + samples)
    return ops.stop_gradient(ops.softmax(scores + prototypes, axis=-1))


def _over_samples(x: Any) -> Any:
    """logsumexp over the samples of all replicas, `(..., 1, K)`."""
    own = ops.logsumexp(x, axis=-2, keepdims=True)
    if distribution.replica_count() == 1:
        return own
    everyone = distribution.all_gather(ops.expand_dims(own, 0))
    return ops.logsumexp(everyone, axis=0)
