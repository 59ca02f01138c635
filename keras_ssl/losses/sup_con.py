# SPDX-License-Identifier: Apache-2.0
"""SupCon: the contrastive losses whose positives share a label."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from keras import ops

from keras_ssl.core import distribution
from keras_ssl.losses._math import (
    as_float32,
    check_batch,
    check_positive,
    check_views,
    diagonal_blocks,
    normalize,
    own_columns,
    per_row,
)


@distribution.kind("gathered")
def sup_con(
    projections: Sequence,
    labels: Any = None,
    *,
    temperature: float = 0.07,
    base_temperature: float | None = 0.07,
    positives: str = "outside",
) -> Any:
    """Supervised contrastive loss over all views of the global batch.

    Each of the V·B rows is an anchor; its positives are the other views of its image and all
    views of images of its class: `-(t / t_base) / |P(i)| · sum_p log(exp(z_i·z_p / t) /
    sum_{a != i} exp(z_i·z_a / t))`. Rows of label -1 have the other views of their own image only.
    Without labels and with `base_temperature=None` it is `nt_xent`.

    Supervised Contrastive Learning, Khosla et al. 2020, equation 2 (L_out).

    Args:
        projections: list of V >= 1 tensors `(B, D)`, not normalised, any float dtype. With one
            view, anchors whose class is alone in the batch contribute 0.
        labels: `(B,)` class indices below 2**24, -1 for unlabelled; None for no labels.
        temperature: divisor of the cosine similarities.
        base_temperature: scale of the loss is `temperature / base_temperature`, as in the
            authors' code; None for no scale, as in the paper.
        positives: `"outside"` averages the log-probabilities (L_out); `"inside"` takes the
            logarithm of the SUM of the positives' probabilities.

    Returns:
        float32 scalar, the mean over the anchors.

    Raises:
        ValueError: for different shapes, labels of another length, a batch of one row, or an
            unknown `positives`.

    Example:

    >>> z = np.random.normal(size=(2, 8, 16))
    >>> loss = sup_con([z[0], z[1]], labels=[0, 0, 1, 1, 2, 2, -1, -1])
    """
    if positives not in ("outside", "inside"):
        raise ValueError(f'positives is "outside" or "inside"; received {positives!r}.')
    check_positive("sup_con", "temperature", temperature)
    views = [normalize(view) for view in check_views("sup_con", projections, least=1)]
    check_batch("sup_con", views[0], "whose other images are compared with")
    views_count = len(views)
    unlabelled = ops.full_like(views[0][:, 0], -1.0)
    labels = per_row("sup_con", "label", unlabelled if labels is None else labels, views[0])
    *gathered, classes = distribution.all_gather([*views, labels])
    images, same_image = own_columns(views[0], classes)
    mine = ops.expand_dims(ops.take(classes, images), 1)
    related = ops.logical_or(same_image, ops.logical_and(mine == classes, mine >= 0))

    anchors = ops.concatenate(views, axis=0)
    logits = ops.matmul(anchors, ops.transpose(ops.concatenate(gathered, axis=0))) / temperature
    same_row = diagonal_blocks(same_image, views_count)
    is_positive = ops.logical_and(
        ops.tile(related, (views_count, views_count)), ops.logical_not(same_row)
    )
    # -inf only ever enters logsumexp, whose gradient there is an exact zero.
    every_other = ops.logsumexp(ops.where(same_row, -float("inf"), logits), axis=1)
    count = ops.sum(ops.cast(is_positive, "float32"), axis=1)
    if positives == "inside":
        # Anchors without positives keep a finite number here and are dropped below.
        kept = ops.where(ops.expand_dims(count > 0, 1), is_positive, ops.logical_not(same_row))
        attraction = ops.logsumexp(ops.where(kept, logits, -float("inf")), axis=1)
    else:
        total = ops.sum(ops.where(is_positive, logits, 0.0), axis=1)
        attraction = total / ops.maximum(count, 1.0)
    loss = ops.mean(ops.where(count > 0, every_other - attraction, 0.0))
    return loss if base_temperature is None else loss * (temperature / base_temperature)


@distribution.kind("local")
def token_sup_con(tokens: Any, labels: Any, *, temperature: float = 0.25) -> Any:
    """Supervised contrastive loss among the tokens of every sample.

    Each token is an anchor; its positives are the other tokens of its label, its negatives the
    sample's others: the mean over positives p of `-log(exp(z_i·z_p / t) / sum_{a != i} exp(z_i·z_a
    / t))`. Tokens that are alone with their label contribute 0.

    Args:
        tokens: `(B, N, D)`, not normalised, any float dtype.
        labels: integers `(N,)`, alike for all samples, or `(B, N)`.
        temperature: divisor of the cosine similarities.

    Returns:
        float32 scalar, the mean over the anchors.

    Raises:
        ValueError: for other shapes.

    Source: Supervised Contrastive Learning, Khosla et al. 2020, equation 2 (L_out); among tokens:
    MixedAE, Chen et al. 2023 (homologous recognition).

    Example:

    >>> tokens = np.random.normal(size=(2, 8, 16))
    >>> loss = token_sup_con(tokens, [0, 0, 0, 0, 1, 1, 1, 1])
    """
    check_positive("token_sup_con", "temperature", temperature)
    tokens, labels = as_float32(tokens), ops.cast(ops.convert_to_tensor(labels), "int32")
    shapes = tuple(tokens.shape), tuple(labels.shape)
    fits = len(shapes[0]) == 3 and shapes[1] in (shapes[0][1:2], shapes[0][:2])
    if not fits or shapes[0][1] < 2:
        raise ValueError(
            "token_sup_con expects tokens (batch, 2 or more tokens, features) and labels (tokens,) "
            f"or (batch, tokens); received shapes {shapes[0]} and {shapes[1]}."
        )
    labels = ops.reshape(labels, (-1, shapes[0][1]))
    z = normalize(tokens)
    logits = ops.matmul(z, ops.transpose(z, (0, 2, 1))) / temperature
    itself = ops.eye(shapes[0][1], dtype="bool")[None]
    alike = labels[:, :, None] == labels[:, None, :]
    positive = ops.cast(ops.logical_and(alike, ops.logical_not(itself)), "float32")
    # -inf only ever enters logsumexp, whose gradient there is an exact zero.
    every_other = ops.logsumexp(ops.where(itself, -float("inf"), logits), axis=-1)
    count = ops.sum(positive, axis=-1)
    attraction = ops.sum(positive * logits, axis=-1) / ops.maximum(count, 1.0)
    return ops.mean(ops.where(count > 0, every_other - attraction, 0.0))
