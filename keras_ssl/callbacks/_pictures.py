# SPDX-License-Identifier: Apache-2.0
"""What callbacks that draw every few epochs have in common."""

from os import PathLike

import keras
import numpy as np

from keras_ssl.callbacks._board import board, updates


class Pictures(keras.callbacks.Callback):
    """Writes what `draw` gives to TensorBoard, before training, every few epochs and at the end.

    Args:
        log_dir: TensorBoard folder.
        every: epochs between pictures.
        tag: name of the picture in TensorBoard.

    Raises:
        ValueError: if `every` is below 1.
    """

    text = ""

    def __init__(self, log_dir: str | PathLike[str], every: int, tag: str) -> None:
        super().__init__()
        if every < 1:
            raise ValueError(f"every is {every}, expected a number of epochs from 1.")
        self.log_dir, self.every, self.tag = log_dir, every, tag

    def draw(self) -> np.ndarray:
        """The picture of the model as it is, uint8 `(height, width, 3)`."""
        raise NotImplementedError

    def on_train_begin(self, logs: dict | None = None) -> None:
        """Opens the writer and draws the untrained model."""
        self._board = board(self.log_dir, self.model)
        self._write()

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        """Draws and writes the picture, when it is time."""
        last = epoch + 1 == (self.params or {}).get("epochs")
        if last or (epoch + 1) % self.every == 0:
            self._write()

    def _write(self) -> None:
        self._board.image(self.tag, self.draw(), updates(self.model), self.text)
        self._board.flush()
