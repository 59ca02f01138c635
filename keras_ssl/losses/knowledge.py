# SPDX-License-Identifier: Apache-2.0
"""A classifier that learns from another one's answers."""

from __future__ import annotations

from typing import Any

from keras import ops

from keras_ssl.core import distribution
from keras_ssl.losses._math import as_float32, check_pair, check_positive


@distribution.kind("local")
def hard_distillation(
    logits: Any,
    imitation: Any,
    labels: Any,
    teacher_logits: Any,
    *,
    label_smoothing: float = 0.0,
    share: float = 0.5,
) -> Any:
    """Cross-entropy of a classifier with labels, and of a second head with a teacher's answers.

    Args:
        logits: `(B, classes)` of the class token.
        imitation: `(B, classes)` of the distillation token.
        labels: `(B, classes)`, shares of classes, such as those of mixed images.
        teacher_logits: `(B, classes)`; the class of the greatest counts. No gradient flows into
            them.
        label_smoothing: share of the labels that is spread over all classes.
        share: of the second cross-entropy.

    Returns:
        float32 scalar, the mean over the rows.

    Raises:
        ValueError: if shapes differ.

    Source: Training data-efficient image transformers & distillation through attention (DeiT),
    Touvron et al. 2021, equation 3.

    Example:

    >>> labels = np.eye(10)[:4]
    >>> loss = hard_distillation(labels, labels, labels, 5 * labels)
    """
    given = {"imitation": imitation, "labels": labels, "teacher_logits": teacher_logits}
    for name, other in given.items():
        check_pair("hard_distillation", "logits", ops.convert_to_tensor(logits), name, other)
    labels, classes = as_float32(labels), logits.shape[1]
    labels = labels * (1.0 - label_smoothing) + label_smoothing / classes
    answers = ops.one_hot(ops.argmax(as_float32(teacher_logits), axis=1), classes)
    return (1.0 - share) * _cross_entropy(labels, logits) + share * _cross_entropy(
        ops.stop_gradient(answers), imitation
    )


@distribution.kind("local")
def nkd(
    logits: Any,
    teacher_logits: Any,
    labels: Any,
    *,
    temperature: float = 1.0,
    alpha: float = 1.0,
) -> Any:
    """Normalised knowledge distillation: the labelled class and all others apart.

    `-T_y log S_y - α τ² Σ_{i≠y} N(T)_i log N(S)_i` with probabilities S and T of student and
    teacher, the label y, and N a distribution over the other classes at temperature τ.

    Args:
        logits: `(B, classes)` of the student.
        teacher_logits: `(B, classes)`; no gradient flows into them.
        labels: `(B,)` class indices, or `(B, classes)`, of which the greatest counts.
        temperature: τ.
        alpha: α, weight of the other classes.

    Returns:
        float32 scalar, the mean over the rows.

    Raises:
        ValueError: if shapes differ, or for a temperature of 0 or less.

    Source: From Knowledge Distillation to Self-Knowledge Distillation, Yang et al. 2023, equation
    7, without its own cross-entropy, as the released code of G2SD has it.

    Example:

    >>> x = np.random.normal(size=(4, 10))
    >>> loss = nkd(x, 2 * x, np.arange(4))
    """
    check_positive("nkd", "temperature", temperature)
    logits, taught = as_float32(logits), ops.stop_gradient(as_float32(teacher_logits))
    check_pair("nkd", "logits", logits, "teacher_logits", taught)
    labels = ops.convert_to_tensor(labels)
    labels = ops.argmax(labels, axis=1) if len(labels.shape) == 2 else labels
    own = ops.one_hot(ops.cast(labels, "int32"), logits.shape[1])
    target = ops.sum(ops.softmax(taught, axis=1) * own, axis=1)
    hit = target * ops.sum(ops.log_softmax(logits, axis=1) * own, axis=1)
    # Finite in float32, and far below any logit.
    far = 1e9 * own
    others = ops.softmax((taught - far) / temperature, axis=1)
    logs = ops.log_softmax((logits - far) / temperature, axis=1) * (1.0 - own)
    rest = ops.sum(others * logs, axis=1)
    return -ops.mean(hit + alpha * temperature**2 * rest)


def _cross_entropy(labels: Any, logits: Any) -> Any:
    return -ops.mean(ops.sum(labels * ops.log_softmax(as_float32(logits), axis=1), axis=1))
