# SPDX-License-Identifier: Apache-2.0
"""Self-distillation over prototypes: a student predicts a teacher's distribution."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from keras import ops

from keras_ssl.core import distribution
from keras_ssl.losses._math import as_float32, check_pair, check_positive, check_views


@distribution.kind("local")
def centered_softmax(logits: Any, center: Any, temperature: float | Any = 0.04) -> Any:
    """The teacher's distribution: centred, which prevents one prototype from taking all, and
    sharpened, which prevents an even one.

    Args:
        logits: `(…, K)`, any float dtype; no gradient flows into them.
        center: `(K,)`, the running mean of the teacher's logits, see `layers.Center`.
        temperature: divisor, a number or a scalar tensor.

    Returns:
        float32 `(…, K)`; rows sum to 1.

    Raises:
        ValueError: for a temperature of 0 or less.

    Source: DINO, Caron et al. 2021, equations 1 and 4.
    """
    check_positive("centered_softmax", "temperature", temperature)
    logits = as_float32(logits) - as_float32(center)
    return ops.stop_gradient(ops.softmax(logits / temperature, axis=-1))


@distribution.kind("local")
def self_distillation(
    students: Sequence,
    targets: Sequence,
    *,
    temperature: float = 0.1,
    pairs: str | Sequence[tuple[int, int]] = "different",
    reduction: str = "mean",
) -> Any:
    """Cross-entropy between a teacher's distributions of some views and a student's of others.

    Args:
        students: list of `(B, K)` logits, one per view.
        targets: list of `(B, K)` distributions of the first views, from `centered_softmax` or
            `sinkhorn_knopp`; no gradient flows into them.
        temperature: divisor of the student's logits.
        pairs: `"different"`, every target with the students of all other views; `"all"`; or a
            list of (student, target).
        reduction: `"mean"` or `"sum"` over pairs; over rows it is always the mean.

    Returns:
        float32 scalar; ln K where both are even.

    Raises:
        ValueError: if shapes differ, no pair is left, or a setting is unknown.

    Source: DINO, Caron et al. 2021, equation 3 (mean); DINOv2, Oquab et al. 2023 (sum).
    """
    check_positive("self_distillation", "temperature", temperature)
    students = check_views("self_distillation", students, "students", least=1)
    targets = check_views("self_distillation", targets, "targets", least=1)
    check_pair("self_distillation", "students[0]", students[0], "targets[0]", targets[0])
    if isinstance(pairs, str):
        if pairs not in ("different", "all"):
            raise ValueError(f"pairs must be 'different', 'all' or a list, received {pairs!r}.")
        every = [(s, t) for t in range(len(targets)) for s in range(len(students))]
        pairs = every if pairs == "all" else [(s, t) for s, t in every if s != t]
    if reduction not in ("mean", "sum") or not pairs:
        raise ValueError(
            f"self_distillation needs reduction 'mean' or 'sum' and at least one pair; received "
            f"{reduction!r} and {len(pairs)} pairs of {len(students)} students and "
            f"{len(targets)} targets."
        )
    logs = [ops.log_softmax(student / temperature, axis=-1) for student in students]
    targets = [ops.stop_gradient(target) for target in targets]
    # One sum over targets for each student: K may be 65536, and pairs many.
    total = 0.0
    for index in sorted({s for s, _ in pairs}):
        wanted = sum(targets[t] for s, t in pairs if s == index)
        total = total - ops.mean(ops.sum(wanted * logs[index], axis=-1))
    return total / len(pairs) if reduction == "mean" else total


@distribution.kind("local")
def nested_distillation(
    students: Sequence,
    targets: Sequence,
    *,
    temperature: float = 0.1,
    pairs: str | Sequence[tuple[int, int]] = "different",
    reduction: str = "mean",
) -> Any:
    """Sum over the levels of a nested head of `self_distillation`, each with its own prototypes.

    Args:
        students: list of levels; each a list of `(B, K of the level)` logits, one per view.
        targets: list of as many levels; each a list of `(B, K of the level)` distributions of the
            first views, from `sinkhorn_knopp`; no gradient flows into them.
        temperature: divisor of the students' logits.
        pairs: `"different"`, `"all"` or a list of (student, target).
        reduction: `"mean"` or `"sum"` over pairs; over levels it is always the sum.

    Returns:
        float32 scalar; the sum of the levels' ln K where all is even.

    Raises:
        ValueError: for no level, unequal numbers of them, or what `self_distillation` refuses.

    Source: Franca, Venkataramanan et al. 2025, section 3.2.
    """
    both = (students, targets)
    counts = [len(levels) if isinstance(levels, (list, tuple)) else 0 for levels in both]
    if counts[0] != counts[1] or not counts[0]:
        raise ValueError(
            "nested_distillation expects students and targets as lists of as many levels, each a "
            f"list of views; received {counts[0]} and {counts[1]} levels."
        )
    options = {"temperature": temperature, "pairs": pairs, "reduction": reduction}
    levels = zip(students, targets, strict=True)
    return sum(self_distillation(student, target, **options) for student, target in levels)


@distribution.kind("local")
def dino(
    students: Sequence,
    teachers: Sequence,
    center: Any,
    *,
    student_temperature: float = 0.1,
    teacher_temperature: float | Any = 0.04,
) -> Any:
    """Mean cross-entropy over all pairs of a teacher's large crop and a student's other crop.

    Args:
        students: list of `(B, K)` logits, one per crop, the large ones first.
        teachers: list of `(B, K)` logits of the large crops; no gradient flows into them.
        center: `(K,)`, the centre BEFORE these logits enter it.
        student_temperature: divisor of the student's logits.
        teacher_temperature: divisor of the teacher's, smaller than the student's; a number or a
            scalar tensor.

    Returns:
        float32 scalar. ln K and staying there: the teacher became even; 0: one prototype took all.

    Raises:
        ValueError: if shapes differ or a temperature is not positive.

    Source: Caron et al., 2021, algorithm 1; https://arxiv.org/abs/2104.14294.
    """
    targets = [centered_softmax(logits, center, teacher_temperature) for logits in teachers]
    return self_distillation(students, targets, temperature=student_temperature)


@distribution.kind("local")
def patch_distillation(
    students: Any, targets: Any, weights: Any, *, temperature: float = 0.1
) -> Any:
    """Weighted sum of the cross-entropies of single tokens.

    With weights of `masked_token_weights` it is the mean over the masked tokens of an image, then
    over images, which is iBOT's and DINOv2's.

    Args:
        students: `(…, K)` logits of tokens: `(B, L, K)`, or `(N, K)` of the masked ones alone.
        targets: `(…, K)` the teacher's distributions for the same tokens; no gradient.
        weights: `(…)` weight of each token; where 0 the token takes no part.
        temperature: divisor of the student's logits.

    Returns:
        float32 scalar, 0 where all weights are.

    Raises:
        ValueError: if shapes differ or the temperature is not positive.

    Source: iBOT, Zhou et al. 2021, equation 2.
    """
    check_positive("patch_distillation", "temperature", temperature)
    students, targets, weights = as_float32(students), as_float32(targets), as_float32(weights)
    shapes = tuple(students.shape), tuple(targets.shape), tuple(weights.shape)
    if shapes[0] != shapes[1] or shapes[0][:-1] != shapes[2]:
        raise ValueError(
            "patch_distillation expects students and targets (…, K) and weights (…); received "
            f"{shapes[0]}, {shapes[1]} and {shapes[2]}."
        )
    logs = ops.log_softmax(students / temperature, axis=-1)
    return -ops.sum(weights * ops.sum(ops.stop_gradient(targets) * logs, axis=-1))


@distribution.kind("local")
def masked_token_weights(mask: Any) -> Any:
    """Weights with which a sum over masked tokens is a mean over images of means over tokens.

    Args:
        mask: `(B, L)`, true where a token is masked.

    Returns:
        float32 `(B, L)`: 1 / (B · masked in this image) for masked tokens, else 0. An image
        without any has weights 0 but still counts in B, as in the released codes.
    """
    mask = as_float32(mask)
    masked = ops.maximum(ops.sum(mask, axis=1, keepdims=True), 1.0)
    return mask / masked / ops.cast(ops.shape(mask)[0], "float32")


@distribution.kind("local")
def ibot(
    students: Sequence,
    teachers: Sequence,
    student_patches: Sequence,
    teacher_patches: Sequence,
    masks: Sequence,
    *,
    centers: Sequence,
    student_temperature: float = 0.1,
    teacher_temperatures: Sequence = (0.04, 0.04),
    weights: Sequence[float] = (1.0, 1.0),
) -> dict[str, Any]:
    """DINO's loss of the class tokens, and the same of masked patches of one view.

    Args:
        students: list of `(B, K)` logits of class tokens, one per crop, the large ones first.
        teachers: list of `(B, K)` logits of the large crops' class tokens.
        student_patches: list of `(B, L, K)` logits of the large crops' patches, some masked.
        teacher_patches: list of `(B, L, K)` of the same patches, which the teacher saw.
        masks: list of `(B, L)`, true where the student's patch was masked.
        centers: `(K,)` of class tokens and of patches.
        student_temperature: divisor of the student's logits.
        teacher_temperatures: of class tokens and of patches, numbers or scalar tensors.
        weights: of both terms.

    Returns:
        `{"class_token": float32 scalar, "patches": float32 scalar}`, weighted; an image without
        masked patches adds 0 to the mean over images.

    Raises:
        ValueError: if shapes differ or a temperature is not positive.

    Source: Zhou et al., 2021, equations 2 and 3; https://arxiv.org/abs/2111.07832.
    """
    class_token = dino(
        students,
        teachers,
        centers[0],
        student_temperature=student_temperature,
        teacher_temperature=teacher_temperatures[0],
    )
    patches = [
        patch_distillation(
            student,
            centered_softmax(teacher, centers[1], teacher_temperatures[1]),
            masked_token_weights(mask),
            temperature=student_temperature,
        )
        for student, teacher, mask in zip(student_patches, teacher_patches, masks, strict=True)
    ]
    mean = sum(patches) / len(patches)
    return {"class_token": weights[0] * class_token, "patches": weights[1] * mean}
