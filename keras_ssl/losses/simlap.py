# SPDX-License-Identifier: Apache-2.0
"""SimLAP (Hydra): pairs of any two classes are positive in a subspace of their own."""

from __future__ import annotations

from typing import Any

from keras import ops

from keras_ssl.core import distribution
from keras_ssl.losses._math import (
    as_float32,
    check_batch,
    check_pair,
    check_positive,
    normalize,
    own_columns,
    per_row,
)

# Finite: where every logit of a row is left out, the gradient of logsumexp would be NaN.
_LEFT_OUT = -1e9
_TINY = 1e-24


@distribution.kind("gathered")
def simlap(
    projections: Any,
    gates: Any,
    labels: Any,
    partners: Any,
    *,
    temperature: float = 0.1,
    include_self: bool = True,
) -> Any:
    """Multi-positive contrast under gates: the rows of a partner class are the positives.

    With `q_i = n(g_i * z_i)`, `k_ij = n(g_i * z_j)` and `l_ij = q_i · k_ij / t`, the positives of
    row i are all rows j of class `partners[i]`, the negatives those of neither its own nor that
    class: the mean over all positive pairs of `log(exp(l_ij) + sum_neg exp(l_in)) - l_ij`.
    Rows of label -1 are left out. Memory grows with B², not B²·D.

    Rethinking Positive Pairs in Contrastive Learning, Wu et al. 2024 (v1 "Hydra", v2 "SimLAP").

    Args:
        projections: `(B, D)`, any float dtype.
        gates: `(B, D)` factors of the features, of every row's own pair of classes.
        labels: `(B,)` class indices below 2**24, -1 for unlabelled.
        partners: `(B,)` class indices with which the rows are paired.
        temperature: divisor of the cosine similarities.
        include_self: whether a row paired with its own class is its own positive, as in the
            authors' code. Without, unit gates and classes of two rows each give `sup_con`.

    Returns:
        float32 scalar; 0 where no row has a positive.

    Raises:
        ValueError: for different shapes, a batch of one row, or a temperature of 0 or less.

    Example:

    >>> z, gates = np.random.normal(size=(8, 16)), np.ones((8, 16))
    >>> loss = simlap(z, gates, [0, 0, 1, 1, 2, 2, 3, 3], [1, 1, 0, 2, 3, 0, 0, 1])
    """
    check_positive("simlap", "temperature", temperature)
    z, gates = as_float32(projections), as_float32(gates)
    check_pair("simlap", "projections", z, "gates", gates)
    check_batch("simlap", z, "whose other rows are compared with")
    z = normalize(z)
    labels = per_row("simlap", "label", labels, z)
    partners = per_row("simlap", "partner", partners, z)
    keys, classes, wanted = distribution.all_gather([z, labels, partners])
    rows, own = own_columns(z, classes)
    logits = gated_cosine(z, gates, keys) / temperature

    mine = ops.expand_dims(ops.take(classes, rows), 1)
    partner = ops.expand_dims(ops.take(wanted, rows), 1)
    usable = ops.logical_and(mine >= 0, ops.expand_dims(classes, 0) >= 0)
    positive = ops.logical_and(usable, partner == classes)
    # Counted over all replicas: each sees all classes.
    pairs = ops.logical_and(ops.expand_dims(classes, 1) >= 0, classes >= 0)
    pairs = ops.logical_and(pairs, ops.expand_dims(wanted, 1) == classes)
    if not include_self:
        positive = ops.logical_and(positive, ops.logical_not(own))
        pairs = ops.logical_and(pairs, ops.logical_not(ops.eye(ops.shape(pairs)[0], dtype="bool")))
    negative = ops.logical_and(mine != classes, partner != classes)
    negative = ops.logical_and(usable, negative)

    against = ops.logsumexp(ops.where(negative, logits, _LEFT_OUT), axis=1, keepdims=True)
    total = ops.sum(ops.where(positive, ops.softplus(against - logits), 0.0))
    count = ops.maximum(ops.sum(ops.cast(pairs, "float32")), 1.0)
    return total * distribution.replica_count() / count


def gated_cosine(queries: Any, gates: Any, keys: Any) -> Any:
    """Cosines of every query with every key, both multiplied by the query's gate.

    Args:
        queries: `(b, D)` float32.
        gates: `(b, D)` float32.
        keys: `(B, D)` float32.

    Returns:
        `(b, B)` float32, without the `(b, B, D)` gated keys ever being there.
    """
    square = ops.square(gates)
    products = ops.matmul(queries * square, ops.transpose(keys))
    own = ops.sum(ops.square(queries) * square, axis=1, keepdims=True)
    others = ops.matmul(square, ops.transpose(ops.square(keys)))
    lengths = own * others
    usable = lengths > _TINY
    return ops.where(usable, products * ops.rsqrt(ops.where(usable, lengths, 1.0)), 0.0)
