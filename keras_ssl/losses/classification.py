# SPDX-License-Identifier: Apache-2.0
"""Cross-entropy over the labelled rows of a batch, and label augmentation (SLA)."""

from __future__ import annotations

from typing import Any

from keras import ops

from keras_ssl.core import distribution
from keras_ssl.losses._math import as_float32, check_positive


@distribution.kind("reduced")
def classification(logits: Any, labels: Any) -> Any:
    """Mean cross-entropy of the labelled rows of the global batch.

    Args:
        logits: `(B, classes)`, any float dtype.
        labels: `(B,)` class indices, -1 for unlabelled rows, which are left out.

    Returns:
        float32 scalar; 0 without labelled rows.

    Raises:
        ValueError: if the shapes do not fit.

    Example:

    >>> loss = classification(np.zeros((3, 10)), [4, -1, 2])
    """
    logits, labels = as_float32(logits), ops.cast(ops.convert_to_tensor(labels), "int32")
    _check_logits("classification", logits, labels, 1)
    labelled = ops.cast(labels >= 0, "float32")
    target = ops.expand_dims(ops.maximum(labels, 0), 1)
    chosen = ops.squeeze(ops.take_along_axis(ops.log_softmax(logits, axis=1), target, axis=1), 1)
    count = ops.maximum(distribution.all_reduce_sum(ops.sum(labelled)), 1.0)
    return -ops.sum(chosen * labelled) * distribution.replica_count() / count


@distribution.kind("reduced")
def sla(logits: Any, labels: Any, *, transforms: int, summed: bool = False) -> Any:
    """Cross-entropy over the joint labels `class * M + transform` of M copies of every image.

    Self-supervised Label Augmentation via Input Transformations, Lee et al. 2020, equation 4.

    Args:
        logits: `(B·M, classes·M)`; the M copies of an image are neighbours.
        labels: `(B,)` class indices of the images, -1 for unlabelled.
        transforms: M.
        summed: sums over the transforms, as the authors do on large data sets; else their mean.

    Returns:
        float32 scalar.

    Raises:
        ValueError: if the shapes do not fit.

    Example:

    >>> loss = sla(np.zeros((8, 40)), [3, 1], transforms=4)
    """
    labels = ops.cast(ops.convert_to_tensor(labels), "int32")
    _check_logits("sla", logits, labels, transforms)
    joint = ops.expand_dims(labels * transforms, 1) + ops.arange(transforms, dtype="int32")
    joint = ops.where(ops.expand_dims(labels, 1) < 0, -1, joint)
    loss = classification(logits, ops.reshape(joint, (-1,)))
    return loss * transforms if summed else loss


@distribution.kind("local")
def sla_aggregate(logits: Any, *, transforms: int) -> Any:
    """Class logits from all transformed copies: the mean of copy i's logits under transform i.

    Args:
        logits: `(B·M, classes·M)`.
        transforms: M.

    Returns:
        `(B, classes)` float32; its softmax is equation 5 of Lee et al. 2020.
    """
    logits = as_float32(logits)
    classes = logits.shape[1] // transforms
    logits = ops.reshape(logits, (-1, transforms, classes, transforms))
    return ops.mean(ops.diagonal(logits, axis1=1, axis2=3), axis=-1)


@distribution.kind("local")
def sla_distillation(
    logits: Any, single_logits: Any, *, transforms: int, temperature: float = 1.0
) -> Any:
    """Divergence of a single classifier from the aggregated one, which gets no gradient.

    `T² · KL(softmax(aggregated / T) || softmax(single / T))`, Lee et al. 2020, equation 6.

    Args:
        logits: `(B·M, classes·M)` of the joint classifier.
        single_logits: `(B, classes)` of the single classifier, on the untransformed images.
        transforms: M.
        temperature: T.

    Returns:
        float32 scalar, the mean over the images.

    Raises:
        ValueError: for a temperature of 0 or less.
    """
    check_positive("sla_distillation", "temperature", temperature)
    teacher = ops.stop_gradient(sla_aggregate(logits, transforms=transforms)) / temperature
    student = as_float32(single_logits) / temperature
    gap = ops.log_softmax(teacher, axis=1) - ops.log_softmax(student, axis=1)
    return temperature**2 * ops.mean(ops.sum(ops.softmax(teacher, axis=1) * gap, axis=1))


def _check_logits(loss: str, logits: Any, labels: Any, transforms: int) -> None:
    rows, count = logits.shape[0], labels.shape[0] if len(labels.shape) == 1 else -1
    fits = count is None or rows is None or rows == count * transforms
    if len(logits.shape) != 2 or not fits or logits.shape[1] % transforms:
        raise ValueError(
            f"{loss} expects logits of {transforms} row(s) for each label, with a multiple of "
            f"{transforms} columns; received {tuple(logits.shape)} and labels "
            f"{tuple(labels.shape)}."
        )
