# SPDX-License-Identifier: Apache-2.0
"""Reconstruction of what was hidden."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from keras import ops

from keras_ssl.core import distribution
from keras_ssl.losses._math import as_float32, check_positive, normalize

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
def token_error(
    predictions: Any, targets: Any, weight: Any = None, kind: str = "l2", beta: float = 1.0
) -> Any:
    """Weighted mean of the errors of tokens; every token of the global batch weighs the same.

    | kind | error of a token of P values |
    |---|---|
    | `"l2"` | mean of the squared differences |
    | `"l1"` | mean of the absolute differences |
    | `"smooth_l1"` | mean of d² / (2 β) of differences d up to β, of d - β / 2 above |
    | `"cosine"` | 1 - cosine of the angle |
    | `"cross_entropy"` | cross-entropy; predictions are logits, targets class numbers |

    Args:
        predictions: `(…, P)` for each token, any float dtype.
        targets: `(…, P)`, or integers `(…)` for the cross-entropy; no gradient flows into them.
        weight: `(…)` of each token, `(…, P)` of each value for the first three kinds, or `None`
            for 1.
        kind: see the table.
        beta: β of `"smooth_l1"`; with 1 it is Huber's function.

    Returns:
        float32 scalar; 0 where all weights are.

    Raises:
        ValueError: if shapes differ, the kind is unknown or β not positive.

    Source: `"l2"`: MAE, He et al. 2021, section 3; weights: VideoMAE V2, Wang et al. 2023,
    equation 3; `"l1"`: SimMIM, Xie et al. 2021; `"cosine"`: LV-MAE, Naiman et al. 2025.

    Example:

    >>> x = np.random.normal(size=(8, 16, 48))
    >>> loss = token_error(x + 0.5, x, np.arange(16) % 2 * np.ones((8, 1)), "l1")
    """
    checked_token_error(kind)
    check_positive("token_error", "beta", beta)
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
    errors = _errors(predictions, ops.stop_gradient(targets), kind, single, beta)
    if weight is None:
        return ops.mean(errors)
    total = distribution.all_reduce_sum(ops.sum(weight))
    # A replica's share: replicas may hide different numbers of tokens.
    share = ops.sum(errors * weight) * distribution.replica_count()
    return ops.divide_no_nan(share, total)


@distribution.kind("reduced")
def feature_alignment(
    students: Sequence, teachers: Sequence, weight: Any = None, *, kind: str = "smooth_l1"
) -> Any:
    """Mean over levels of how far a student's tokens are from a teacher's.

    `"smooth_l1"` counts twice, so that small differences count by their square.

    Args:
        students: list of `(B, N, D)`, one for each level.
        teachers: list of as many `(B, N, D)`; no gradient flows into them.
        weight: `(B, N)` of each token, or `None` for 1.
        kind: see `token_error`.

    Returns:
        float32 scalar.

    Raises:
        ValueError: for no level, unequal numbers of them, or what `token_error` refuses.

    Source: MaskAlign, Xue et al. 2022, equation 4; the factor is that of the released code.

    Example:

    >>> x = np.random.normal(size=(3, 8, 16, 48))
    >>> loss = feature_alignment(list(x), list(x + 0.5))
    """
    if not len(students) or len(students) != len(teachers):
        raise ValueError(
            "feature_alignment compares as many levels of a student as of a teacher; received "
            f"{len(students)} and {len(teachers)}."
        )
    pairs = zip(students, teachers, strict=True)
    errors = [token_error(student, teacher, weight, kind) for student, teacher in pairs]
    return sum(errors) * ((2.0 if kind == "smooth_l1" else 1.0) / len(errors))


@distribution.kind("local")
def token_variance(predictions: Sequence, weights: Sequence | None = None, *, epsilon=1e-4) -> Any:
    """Hinge `mean max(0, 1 - s)` of the deviation s of a sample's tokens, feature by feature.

    Args:
        predictions: list of `(B, N, D)`, one for each mask, N may differ; s is the mean of their
            deviations, each the root of the unbiased variance over tokens + epsilon.
        weights: list of `(B, N)`, 0 where a token is none, or of `None` where all are; `None` for
            all.
        epsilon: added to the variance.

    Returns:
        float32 scalar in [0, 1].

    Raises:
        ValueError: for no predictions, or other numbers of weights.

    Source: V-JEPA, Bardes et al. 2024, released code (facebookresearch/jepa), there with weight 0.

    Example:

    >>> x = np.random.normal(size=(8, 16, 48))
    >>> loss = token_variance([x, 0.1 * x[:, :4]])
    """
    predictions = [as_float32(x) for x in predictions]
    given: Sequence = [None] * len(predictions) if weights is None else weights
    if not predictions or len(given) != len(predictions):
        raise ValueError(
            f"token_variance takes predictions of at least one mask and weights of as many; "
            f"received {len(predictions)} and {len(given)}."
        )
    deviations = []
    for x, weight in zip(predictions, given, strict=True):
        weight = ops.ones_like(x[..., 0]) if weight is None else as_float32(weight)
        weight = ops.expand_dims(weight, -1)
        count = ops.sum(weight, axis=1)
        mean = ops.divide_no_nan(ops.sum(weight * x, axis=1), count)
        square = ops.sum(weight * ops.square(x - mean[:, None]), axis=1)
        # One token has no deviation.
        deviations.append(ops.sqrt(square / ops.maximum(count - 1.0, 1.0) + epsilon))
    return ops.mean(ops.relu(1.0 - sum(deviations) / len(deviations)))


def _errors(predictions: Any, targets: Any, kind: str, single: bool, beta: float) -> Any:
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
        small = ops.minimum(difference, beta)
        errors = 0.5 / beta * ops.square(small) + difference - small
    return errors if single else ops.mean(errors, axis=-1)
