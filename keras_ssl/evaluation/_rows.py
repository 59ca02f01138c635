# SPDX-License-Identifier: Apache-2.0
"""Batches of rows in memory, in an order that a seed decides."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np


class ShuffledRows(keras.utils.PyDataset):
    """Whole batches of an array and its labels, in another order every epoch.

    Args:
        x: `(N, …)`.
        y: `(N, …)`.
        batch_size: rows of a batch, at most N; what is left over waits for another order.
        seed: of the orders.
    """

    def __init__(self, x: np.ndarray, y: np.ndarray, batch_size: int, seed: int):
        super().__init__()
        self.x, self.y, self.seed = x, y, seed
        self.batch_size = min(batch_size, len(x))
        self.epoch = -1
        self.on_epoch_begin()

    def __len__(self) -> int:
        """Batches of an epoch."""
        return len(self.x) // self.batch_size

    def on_epoch_begin(self) -> None:
        """Draws the next order."""
        self.epoch += 1
        self.order = np.random.default_rng((self.seed, self.epoch)).permutation(len(self.x))

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        """One batch."""
        rows = self.order[index * self.batch_size : (index + 1) * self.batch_size]
        return self.x[rows], self.y[rows]
