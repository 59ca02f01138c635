# SPDX-License-Identifier: Apache-2.0
"""Reconstruction of what was hidden."""

from __future__ import annotations

from typing import Any

from keras import ops

from keras_ssl.core import distribution
from keras_ssl.losses._math import as_float32


@distribution.kind("reduced")
def masked_l1(predictions: Any, targets: Any, mask: Any) -> Any:
    """Mean absolute error of the values of masked tokens.

    `sum over masked t and values v of |prediction_t,v - target_t,v| / (masked tokens · values)`.
    Every masked token of the global batch weighs the same, however many its image has.

    Args:
        predictions: `(…, P)`, the P values of each token, any float dtype.
        targets: `(…, P)`, such as `tokens.patchify` gives them; no gradient flows into them.
        mask: `(…)`, 1 or true where a token was masked; the others take no part.

    Returns:
        float32 scalar; 0 where nothing is masked.

    Raises:
        ValueError: if shapes differ.

    Source: SimMIM, Xie et al. 2021, and GMML, Atito et al. 2022, both with raw pixels.

    Example:

    >>> x = np.random.normal(size=(8, 16, 48))
    >>> loss = masked_l1(x + 0.5, x, np.arange(16) % 2 * np.ones((8, 1)))
    """
    predictions, targets = as_float32(predictions), ops.stop_gradient(as_float32(targets))
    mask = as_float32(mask)
    shapes = tuple(predictions.shape), tuple(targets.shape), tuple(mask.shape)
    if shapes[0] != shapes[1] or shapes[0][:-1] != shapes[2]:
        raise ValueError(
            "masked_l1 expects predictions and targets (…, P) and a mask (…); received "
            f"{shapes[0]}, {shapes[1]} and {shapes[2]}."
        )
    errors = ops.mean(ops.abs(predictions - targets), axis=-1)
    masked = distribution.all_reduce_sum(ops.sum(mask))
    # A replica's share: replicas mask different numbers of tokens.
    share = ops.sum(errors * mask) * distribution.replica_count()
    return share / ops.maximum(masked, 1.0)
