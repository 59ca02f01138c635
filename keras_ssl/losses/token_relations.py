# SPDX-License-Identifier: Apache-2.0
"""How tokens relate to one another, learned from a teacher of any width."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from keras import ops

from keras_ssl.core import distribution
from keras_ssl.losses._math import as_float32

PARTS = "qkv"
RELATIONS = tuple(first + second for first in PARTS for second in PARTS)


def checked_relations(relations: Sequence[str]) -> tuple[str, ...]:
    """Names of relations, each two letters of queries, keys and values.

    Raises:
        ValueError: for none, or another name.
    """
    names = tuple(relations)
    if not names or set(names) - set(RELATIONS):
        raise ValueError(
            f"relations are some of {list(RELATIONS)}, such as ('qk', 'vv'); received "
            f"{relations!r}."
        )
    return names


@distribution.kind("local")
def token_relation_kl(
    students: Sequence, teachers: Sequence, *, heads: int = 1, relations: Sequence[str] = RELATIONS
) -> Any:
    """Divergence of a student's relations between tokens from a teacher's.

    The relation of parts X and Y of a layer, two of queries, keys and values, is
    `softmax(X Yᵀ / sqrt(C / heads))` for each of `heads` equal parts of their C features; that of
    queries and keys is the attention. A teacher may be wider than the student.

    Args:
        students: list of layers; each `(queries, keys, values)`, `(B, N, C)` with all heads side
            by side.
        teachers: as many layers of a teacher for the same tokens; no gradient flows into them.
        heads: number of parts into which features are cut.
        relations: pairs of parts, each two letters of `"qkv"`; by default all nine.

    Returns:
        float32 scalar: KL(teacher || student) summed over the tokens that are related to, mean over
        samples, heads, tokens, relations and layers.

    Raises:
        ValueError: for no layer, unequal numbers of layers or tokens, widths that the heads do not
            divide, or an unknown relation.

    Source: MiniLMv2, Wang et al. 2021, section 3.1, for token relations of images TinyMIM, Ren et
    al. 2023, section 3.2; all nine pairs: released code of G2SD, Huang et al. 2023.

    Example:

    >>> tokens = np.random.normal(size=(3, 8, 17, 12))
    >>> loss = token_relation_kl([tokens], [tokens[..., ::-1]], heads=3, relations=("qk", "vv"))
    """
    relations = checked_relations(relations)
    if not len(students) or len(students) != len(teachers):
        raise ValueError(
            "token_relation_kl compares as many layers of a student as of a teacher; received "
            f"{len(students)} and {len(teachers)}."
        )
    total = 0.0
    for student, teacher in zip(students, teachers, strict=True):
        student, teacher = ([_split(x, heads) for x in layer] for layer in (student, teacher))
        if student[0].shape[2] != teacher[0].shape[2]:
            raise ValueError(
                f"token_relation_kl relates the same tokens of both; the student has "
                f"{student[0].shape[2]} and the teacher {teacher[0].shape[2]}."
            )
        for relation in relations:
            mine, wanted = (_relation(layer, relation) for layer in (student, teacher))
            wanted = ops.stop_gradient(wanted)
            gap = ops.sum(ops.exp(wanted) * (wanted - mine), axis=-1)
            total = total + ops.mean(gap)
    return total / (len(students) * len(relations))


def _split(x: Any, heads: int) -> Any:
    """Features `(B, N, C)` in equal parts, `(B, heads, N, C / heads)`."""
    x = as_float32(x)
    tokens, width = x.shape[1], x.shape[2]
    if heads < 1 or width % heads:
        raise ValueError(f"token_relation_kl: {heads} heads do not divide a width of {width}.")
    x = ops.reshape(x, (-1, tokens, heads, width // heads))
    return ops.transpose(x, (0, 2, 1, 3))


def _relation(layer: Sequence, name: str) -> Any:
    """Logarithms of how much tokens relate to each other, `(B, heads, N, N)`."""
    first, second = (layer[PARTS.index(letter)] for letter in name)
    scores = ops.matmul(first, ops.transpose(second, (0, 1, 3, 2)))
    return ops.log_softmax(scores * first.shape[-1] ** -0.5, axis=-1)
