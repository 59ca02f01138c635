# SPDX-License-Identifier: Apache-2.0
"""Cosine regression of one branch onto another: the losses of BYOL and SimSiam."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from keras import ops

from keras_ssl.core import distribution
from keras_ssl.losses._math import as_float32, check_pair, check_views, normalize


@distribution.kind("local")
def negative_cosine(predictions: Any, targets: Any) -> Any:
    """Mean of the negative cosine similarity between predictions and fixed targets.

    SimSiam, Chen & He 2020, equation 1.

    Args:
        predictions: `(B, D)`, any float dtype.
        targets: `(B, D)`; no gradient flows into them.

    Returns:
        float32 scalar in [-1, 1].

    Raises:
        ValueError: if the shapes differ.
    """
    predictions, targets = as_float32(predictions), as_float32(targets)
    check_pair("negative_cosine", "predictions", predictions, "targets", targets)
    targets = normalize(ops.stop_gradient(targets))
    return -ops.mean(ops.sum(normalize(predictions) * targets, axis=-1))


@distribution.kind("local")
def byol(
    predictions: Sequence,
    targets: Sequence,
    *,
    directions: Sequence[tuple[int, int]] | None = None,
) -> Any:
    """Sum over directions of the mean squared distance `2 - 2 cos` of unit vectors.

    By default every prediction is compared with the targets of all OTHER views: with two views
    both directions, with multi-crop (more predictions than targets) every large target with
    every other crop. BYOL, Grill et al. 2020, equation 2 and its symmetrised form.

    Args:
        predictions: list of `(B, D)` predictor outputs, one per view.
        targets: list of `(B, D)` teacher projections of the first views; no gradient.
        directions: pairs (index of a prediction, index of a target) to use instead.

    Returns:
        float32 scalar in [0, 4 · directions].

    Raises:
        ValueError: if shapes differ or no direction is left.
    """
    cosines = _over_directions("byol", predictions, targets, directions)
    return sum(2.0 + 2.0 * cosine for cosine in cosines)


@distribution.kind("local")
def simsiam(
    predictions: Sequence,
    targets: Sequence,
    *,
    directions: Sequence[tuple[int, int]] | None = None,
) -> Any:
    """Mean over directions of the negative cosine similarity.

    SimSiam, Chen & He 2020, equations 2 to 4.

    Args:
        predictions: list of `(B, D)` predictor outputs, one per view.
        targets: list of `(B, D)` projections of the views; no gradient flows into them.
        directions: pairs (index of a prediction, index of a target); default every pair of
            different views.

    Returns:
        float32 scalar in [-1, 1].

    Raises:
        ValueError: if shapes differ or no direction is left.
    """
    cosines = _over_directions("simsiam", predictions, targets, directions)
    return sum(cosines) / len(cosines)


def _over_directions(loss: str, predictions, targets, directions) -> list:
    """The negative cosine of each direction."""
    predictions = check_views(loss, predictions, "predictions", least=1)
    targets = check_views(loss, targets, "targets", least=1)
    if directions is None:
        directions = [
            (view, other)
            for other in range(len(targets))
            for view in range(len(predictions))
            if view != other
        ]
    directions = list(directions)
    if not directions:
        raise ValueError(
            f"{loss} compares predictions with the targets of other views, but one view has no "
            "other. Pass two views, or name pairs with directions=[(prediction, target), ...]."
        )
    for view, other in directions:
        if not (0 <= view < len(predictions) and 0 <= other < len(targets)):
            raise ValueError(
                f"{loss} has {len(predictions)} predictions and {len(targets)} targets, but "
                f"directions asks for prediction {view} against target {other}."
            )
    return [negative_cosine(predictions[view], targets[other]) for view, other in directions]
