# SPDX-License-Identifier: Apache-2.0
"""Guided batches: the rows of a batch come from different clusters (G-SimCLR)."""

from typing import Any

import numpy as np

from keras_ssl.data._source import permutation

LEFTOVER = ("repeat", "mix")


def guided_order(clusters: Any) -> tuple[np.ndarray, np.ndarray]:
    """Orders rows so that neighbours come from different clusters.

    The rank of a row counts the rows of its cluster before it; rows are ordered by rank, within a
    rank by cluster. Runs of as many rows as there are clusters hold each cluster once until the
    smallest cluster is used up.

    G-SimCLR, Chakraborty et al. 2020, section 3.3.

    Args:
        clusters: (N,) integers.

    Returns:
        Ranks (N,) and order (N,), both int64.

    Raises:
        ValueError: If `clusters` is not a non-empty vector of integers.

    Example:
        >>> guided_order([0, 0, 0, 1, 1])[1].tolist()
        [0, 3, 1, 4, 2]
    """
    clusters = _checked(clusters)
    by_cluster = np.argsort(clusters, kind="stable")
    _, first, sizes = np.unique(clusters[by_cluster], return_index=True, return_counts=True)
    rank = np.empty(len(clusters), np.int64)
    rank[by_cluster] = np.arange(len(clusters)) - np.repeat(first, sizes)
    return rank, np.lexsort((clusters, rank)).astype(np.int64)


class GuidedOrder:
    """The rows that an epoch visits, batch by batch, each batch from different clusters.

    A callable for `EpochData(order=...)`; what it gives is a function of (seed, epoch).

    Args:
        clusters: (N,) integers, the cluster of every row.
        batch_size: Rows in a batch; there must be at least as many clusters.
        seed: Seed of the order.
        leftover: What happens when small clusters are used up. `"repeat"`: their rows come again,
            and every batch holds `batch_size` different clusters; of a large cluster an epoch
            sees a part, another in every epoch. `"mix"`: the released form: each row comes once,
            in `guided_order`, the same in every epoch, and late batches hold a cluster twice.

    Raises:
        ValueError: For fewer clusters than rows in a batch (`"repeat"`), or more rows in a batch
            than there are.

    Example:

    ```python
    order = GuidedOrder(clusters, 64, seed=0)
    feed = EpochData(images, 64, seed=0, order=order)
    model.fit(feed.stream(), steps_per_epoch=feed.steps_per_epoch, epochs=15)
    ```
    """

    def __init__(
        self, clusters: Any, batch_size: int, *, seed: int = 0, leftover: str = "repeat"
    ) -> None:
        if leftover not in LEFTOVER:
            raise ValueError(f"leftover is one of {LEFTOVER}; received {leftover!r}.")
        clusters = _checked(clusters)
        if not 1 <= batch_size <= len(clusters):
            raise ValueError(
                f"A batch of {batch_size} cannot be taken from {len(clusters)} rows; use a batch "
                f"size from 1 to {len(clusters)}."
            )
        self.members = [np.flatnonzero(clusters == name) for name in np.unique(clusters)]
        if leftover == "repeat" and len(self.members) < batch_size:
            raise ValueError(
                f"There are {len(self.members)} clusters for batches of {batch_size}, but every "
                "row of a batch must come from another one. Make more clusters or smaller batches."
            )
        self.batch_size, self.seed, self.leftover = int(batch_size), int(seed), leftover
        self.batches = len(clusters) // self.batch_size
        self._fixed = guided_order(clusters)[1] if leftover == "mix" else None

    def __call__(self, epoch: int) -> np.ndarray:
        """The rows of an epoch.

        Args:
            epoch: Epoch number from 0.

        Returns:
            (batches * batch_size,) int64 row numbers.
        """
        if self._fixed is not None:
            return self._fixed[: self.batches * self.batch_size]
        names = self._clusters_of_batches(epoch)
        rows = np.empty(names.shape, np.int64)
        for name, members in enumerate(self.members):
            places = np.flatnonzero(names == name)
            order = permutation(len(members), self._key(epoch), 2 + name)
            rows.flat[places] = members[order[np.arange(len(places)) % len(members)]]
        return rows.ravel()

    def _clusters_of_batches(self, epoch: int) -> np.ndarray:
        """Which clusters every batch takes from: (batches, batch_size)."""
        count = len(self.members)
        chosen = [
            permutation(count, self._key(epoch), 2 + count + batch)[: self.batch_size]
            for batch in range(self.batches)
        ]
        return np.stack(chosen)

    def _key(self, epoch: int) -> int:
        # One number of 64 bits for both, since the second key counts clusters and batches.
        return (self.seed * 1_000_003 + epoch) % 2**64


def _checked(clusters: Any) -> np.ndarray:
    clusters = np.asarray(clusters)
    if clusters.ndim != 1 or len(clusters) == 0 or clusters.dtype.kind not in "iu":
        raise ValueError(
            f"clusters must be one integer per row, (N,); received shape {clusters.shape} of "
            f"{clusters.dtype}."
        )
    return clusters
