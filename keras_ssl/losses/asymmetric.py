# SPDX-License-Identifier: Apache-2.0
"""Losses of the prototypical probe: many labels at once, and prototypes that differ."""

from __future__ import annotations

from typing import Any

from keras import ops

from keras_ssl.core import distribution
from keras_ssl.losses._math import as_float32


@distribution.kind("local")
def asymmetric_loss(
    logits: Any,
    labels: Any,
    *,
    gamma_negative: float = 4.0,
    gamma_positive: float = 1.0,
    clip: float = 0.05,
    epsilon: float = 1e-8,
) -> Any:
    """Binary cross-entropy of many labels, in which easy negatives count for little.

    A sample has few of many labels, so that almost all terms are negative ones that are right
    already. Their probability is lowered by `clip`, below which they count for nothing, and both
    kinds are weighted by how wrong they are, to a power of their own.

    Args:
        logits: `(B, classes)`.
        labels: `(B, classes)` of 0 and 1.
        gamma_negative: power for labels of 0.
        gamma_positive: power for labels of 1.
        clip: by how much a negative's probability is lowered, from 0.
        epsilon: least probability in a logarithm.

    Returns:
        float32 scalar, the mean over all labels; binary cross-entropy where both powers and `clip`
        are 0.

    Raises:
        ValueError: if the shapes differ.

    Source: Asymmetric Loss For Multi-Label Classification, Ridnik et al. 2021, equations 4 to 7;
    the powers are those of Can Masked Autoencoders Also Listen to Birds?, 2025.

    Example:
        >>> round(float(asymmetric_loss([[0.0]], [[1.0]], gamma_positive=0.0)), 4)
        0.6931
    """
    logits, labels = as_float32(logits), as_float32(labels)
    if tuple(logits.shape) != tuple(labels.shape):
        raise ValueError(
            f"asymmetric_loss takes a label of 0 or 1 for each logit; received logits of shape "
            f"{tuple(logits.shape)} and labels of {tuple(labels.shape)}. One-hot class indices."
        )
    positive = ops.sigmoid(logits)
    negative = ops.minimum(1.0 - positive + clip, 1.0)
    right = labels * positive + (1.0 - labels) * negative
    gamma = labels * gamma_positive + (1.0 - labels) * gamma_negative
    # The slope of a power below 1 at 0 is infinite; what is certain has a logarithm of 0.
    wrong = ops.maximum(1.0 - right, epsilon)
    return -ops.mean(ops.power(wrong, gamma) * ops.log(ops.maximum(right, epsilon)))


@distribution.kind("local")
def prototype_orthogonality(prototypes: Any, *, epsilon: float = 1e-4) -> Any:
    """How far the prototypes of a class are from being at right angles to one another.

    Args:
        prototypes: `(classes, J, D)`.
        epsilon: added to squared lengths.

    Returns:
        float32 scalar: the Frobenius norm of all cosines but those with oneself, over the number
        of all; 0 for orthogonal ones, but for `epsilon`.

    Raises:
        ValueError: for another rank.

    Source: Can Masked Autoencoders Also Listen to Birds?, 2025, released code.

    Example:
        >>> round(float(prototype_orthogonality([[[1.0, 0.0], [0.0, 1.0]]])), 3)
        0.0
    """
    prototypes = as_float32(prototypes)
    if len(prototypes.shape) != 3:
        raise ValueError(
            f"prototypes have shape {tuple(prototypes.shape)}, expected (classes, prototypes of a "
            "class, dimensions)."
        )
    squares = ops.sum(ops.square(prototypes), axis=-1, keepdims=True)
    unit = prototypes / ops.sqrt(squares + epsilon)
    count = prototypes.shape[1]
    apart = ops.matmul(unit, ops.transpose(unit, (0, 2, 1))) - ops.eye(count)
    squares = ops.sum(ops.square(apart))
    # At 0 the root has no slope.
    root = ops.sqrt(ops.where(squares > 0, squares, ops.ones_like(squares)))
    return ops.where(squares > 0, root, 0.0) / (prototypes.shape[0] * count * count)
