# SPDX-License-Identifier: Apache-2.0
"""SupCon: the contrastive loss whose positives share a label."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from keras import ops

from keras_ssl.core import distribution
from keras_ssl.losses._math import (
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
