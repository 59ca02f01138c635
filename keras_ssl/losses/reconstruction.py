# SPDX-License-Identifier: Apache-2.0
"""Reconstruction of what was hidden."""

from __future__ import annotations

from typing import Any

from keras import ops

from keras_ssl.core import distribution
from keras_ssl.losses._math import as_float32, normalize

KINDS = ("l2", "l1", "smooth_l1", "cosine", "cross_entropy")


def checked_token_error(kind: str) -> str:
    """The name of an error of `token_error`.

    Raises:
        ValueError: for another.
    """
    if kind not in KINDS:
        raise ValueError(f"the error of a token is one of {list(KINDS)}; received {kind!r}.")
    return kind


@distribution.kind("reduced")
def token_error(predictions: Any, targets: Any, weight: Any = None, kind: str = "l2") -> Any:
    """Weighted mean of the errors of tokens; every token of the global batch weighs the same.

    | kind | error of a token of P values |
    |---|---|
    | `"l2"` | mean of the squared differences |
    | `"l1"` | mean of the absolute differences |
    | `"smooth_l1"` | mean of Huber's function of them, quadratic up to 1 |
    | `"cosine"` | 1 - cosine of the angle |
    | `"cross_entropy"` | cross-entropy; predictions are logits, targets class numbers |

    Args:
        predictions: `(…, P)` for each token, any float dtype.
        targets: `(…, P)`, or integers `(…)` for the cross-entropy; no gradient flows into them.
        weight: `(…)` of each token, `(…, P)` of each value for the first three kinds, or `None`
            for 1.
        kind: see the table.

    Returns:
        float32 scalar; 0 where all weights are.

    Raises:
        ValueError: if shapes differ or the kind is unknown.

    Source: `"l2"`: MAE, He et al. 2021, section 3; weights: VideoMAE V2, Wang et al. 2023,
    equation 3; `"l1"`: SimMIM, Xie et al. 2021; `"cosine"`: LV-MAE, Naiman et al. 2025.

    Example:

    >>> x = np.random.normal(size=(8, 16, 48))
    >>> loss = token_error(x + 0.5, x, np.arange(16) % 2 * np.ones((8, 1)), "l1")
    """
    checked_token_error(kind)
    predictions, targets = as_float32(predictions), ops.convert_to_tensor(targets)
    given = tuple(predictions.shape), tuple(targets.shape)
    wanted = given[0][:-1] if kind == "cross_entropy" else given[0]
    weight = None if weight is None else as_float32(weight)
    weights = None if weight is None else tuple(weight.shape)
    single = weights == given[0] and kind in KINDS[:3]
    if given[1] != wanted or not (single or weights in (None, given[0][:-1])):
        raise ValueError(
            f"token_error of kind {kind!r} expects predictions (…, P), targets of shape {wanted} "
            f"and weights (…); received {given[0]}, {given[1]} and {weights}."
        )
    errors = _errors(predictions, ops.stop_gradient(targets), kind, single)
    if weight is None:
        return ops.mean(errors)
    total = distribution.all_reduce_sum(ops.sum(weight))
    # A replica's share: replicas may hide different numbers of tokens.
    share = ops.sum(errors * weight) * distribution.replica_count()
    return ops.divide_no_nan(share, total)


def _errors(predictions: Any, targets: Any, kind: str, single: bool) -> Any:
    if kind == "cross_entropy":
        logs = ops.log_softmax(predictions, axis=-1)
        picked = ops.one_hot(ops.cast(targets, "int32"), predictions.shape[-1])
        return -ops.sum(logs * picked, axis=-1)
    targets = as_float32(targets)
    if kind == "cosine":
        first, second = (normalize(x) for x in (predictions, targets))
        return 1.0 - ops.sum(first * second, axis=-1)
    errors = difference = ops.abs(predictions - targets)
    if kind == "l2":
        errors = ops.square(difference)
    elif kind == "smooth_l1":
        small = ops.minimum(difference, 1.0)
        errors = 0.5 * ops.square(small) + difference - small
    return errors if single else ops.mean(errors, axis=-1)
