# SPDX-License-Identifier: Apache-2.0
"""Pictures of reconstructions while a masked model trains."""

from os import PathLike
from typing import Any

import keras
import numpy as np

from keras_ssl.callbacks._board import board, updates
from keras_ssl.evaluation import reconstruction_picture


class ReconstructionPictures(keras.callbacks.Callback):
    """Writes masked samples, their reconstructions and originals to TensorBoard.

    Args:
        samples: (N, …) as the model takes them, of any modality; the first `count` are shown, N at
            least 1.
        log_dir: TensorBoard folder.
        count: number of samples.
        every: epochs between pictures; the first is drawn before any training.
        tag: name of the picture in TensorBoard.

    Raises:
        ValueError: if `samples` is empty or `every` is below 1; when training begins, if the model
            reconstructs no samples.
    """

    def __init__(
        self,
        samples: Any,
        log_dir: str | PathLike[str],
        *,
        count: int = 6,
        every: int = 1,
        tag: str = "reconstructions",
    ) -> None:
        super().__init__()
        if len(samples) == 0 or every < 1:
            raise ValueError(
                "ReconstructionPictures needs at least 1 sample and every of at least 1; received "
                f"shape {np.shape(samples)} and every={every}."
            )
        self.samples = np.asarray(samples[:count])
        self.log_dir, self.every, self.tag = log_dir, every, tag

    def on_train_begin(self, logs: dict | None = None) -> None:
        """Opens the writer and draws the untrained model."""
        self._board = board(self.log_dir)
        self._draw()

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        """Draws and writes the picture, when it is time."""
        if (epoch + 1) % self.every == 0:
            self._draw()

    def _draw(self) -> None:
        picture = reconstruction_picture(self.model, self.samples)
        text = "Masked, reconstruction, original."
        self._board.image(self.tag, picture, updates(self.model), text)
        self._board.flush()
