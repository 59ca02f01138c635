# SPDX-License-Identifier: Apache-2.0
"""The batches of a run."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np

from keras_ssl.core import registry
from keras_ssl.run.folder import RunFolder
from keras_ssl.run.settings import Settings

logger = logging.getLogger("keras_ssl")


def build_feed(settings: Settings, source: Any, shared: bool = False) -> Any:
    """The batches of a run, in the order that its seed decides.

    Args:
        settings: resolved settings.
        source: the data set.
        shared: whether several devices share a batch.

    Returns:
        A `keras_ssl.data.EpochData`.

    Raises:
        ValueError: if the data cannot fill a batch of at least two images, or lacks labels that the
            method uses.
    """
    from keras_ssl import data

    cls, rows = registry.find(settings.method or ""), len(source.images)
    batch_size = min(settings.batch_size or 0, rows)
    if batch_size < 2:
        raise ValueError(
            f"The batch has {batch_size} image, expected at least 2: the methods compare images "
            "within a batch. Raise --batch-size or give more images."
        )
    # One image alone has nothing to be compared with, and replicas cannot share a short batch.
    short = rows % batch_size
    drop = short == 1 or ((shared or cls.guides_batches) and short > 0)
    feed = data.EpochData(
        source,
        batch_size,
        seed=settings.seed,
        drop_remainder=drop,
        labels=cls.uses_labels,
        indices=cls.uses_indices,
    )
    if drop:
        logger.warning("The last %d image(s) of every epoch are left out.", short)
    return feed


def guided(model: Any, feed: Any, folder: RunFolder) -> Any:
    """Batches of images that the model wants to see together.

    Args:
        model: one with `guides_batches`.
        feed: the batches of a plain run.
        folder: of the run; holds the clusters from the first time on.

    Returns:
        A `keras_ssl.data.EpochData`.
    """
    if folder.clusters.exists():
        clusters = np.load(folder.clusters)
    else:
        clusters = model.clusters_of(feed.source.images, feed.batch_size)
        # Kept: a run that continues must go on with the same batches.
        part = folder.clusters.with_suffix(".part.npy")
        np.save(part, clusters)
        part.replace(folder.clusters)
    return model.guided_feed(feed.source, clusters, feed.batch_size, feed.seed)
