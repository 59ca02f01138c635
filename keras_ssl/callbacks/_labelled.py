# SPDX-License-Identifier: Apache-2.0
"""What callbacks share that measure with labels while training goes without."""

from abc import abstractmethod
from os import PathLike
from typing import Any

import keras
import numpy as np

from keras_ssl.callbacks._board import board, updates


class LabelledMeasure(keras.callbacks.Callback):
    """Measures a number at the end of epochs, on labelled data of its own.

    The first and the last epoch are always measured: without a value in the first, a CSV log would
    leave the column out. A subclass has `name` and `measure()`.

    Args:
        train: `(samples, labels)`.
        test: `(samples, labels)`.
        every: epochs between measurements.
        log_dir: TensorBoard folder, None for none.

    Raises:
        ValueError: if labels are missing, do not fit the samples or are all -1, or `every` is below
            1.
    """

    name: str

    def __init__(
        self,
        train: tuple[Any, Any],
        test: tuple[Any, Any],
        every: int,
        log_dir: str | PathLike[str] | None,
    ) -> None:
        super().__init__()
        if every < 1:
            raise ValueError(f"every is {every}, expected a number of epochs from 1.")
        for name, data in {"train": train, "test": test}.items():
            if len(data) != 2 or data[1] is None:
                raise ValueError(f"{name} has no labels, expected a pair (images, labels).")
            if len(data[0]) != len(data[1]):
                raise ValueError(
                    f"{name} has {len(data[0])} images and {len(data[1])} labels, expected one "
                    "label an image."
                )
            if not np.any(np.asarray(data[1]) >= 0):
                raise ValueError(f"{name} has no labelled row, all {len(data[1])} are -1.")
        self.train, self.test = train, test
        self.every = every
        self.log_dir = log_dir
        self._board = None

    @abstractmethod
    def measure(self) -> float:
        """The number, with the current weights."""

    def on_train_begin(self, logs: dict | None = None) -> None:
        """Opens the TensorBoard writer."""
        self._first = True
        self._board = board(self.log_dir, self.model)

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        """Measures, when it is time, and adds the number to the logs."""
        last = epoch + 1 == (self.params or {}).get("epochs")
        if not (self._first or last or (epoch + 1) % self.every == 0):
            return
        self._first = False
        value = self.measure()
        if logs is not None:
            logs[self.name] = value
        if self._board is not None:
            self._board.scalar(f"quality/{self.name}", value, updates(self.model))
            self._board.flush()
