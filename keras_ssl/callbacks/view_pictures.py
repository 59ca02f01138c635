# SPDX-License-Identifier: Apache-2.0
"""Pictures of what the model sees."""

from os import PathLike
from typing import Any

import keras
import numpy as np

from keras_ssl.callbacks._board import board, updates


class ViewPictures(keras.callbacks.Callback):
    """Writes originals and their views to TensorBoard when an epoch begins.

    The picture is drawn by a copy of the model's views, so that looking does not change the
    random numbers, or the compiled step, of the training.

    Args:
        images: (N, H, W, C) uint8, or float in 0..1; the first `count` are shown, N at least 1.
        log_dir: TensorBoard folder.
        count: number of originals.
        every: epochs between pictures.
        tag: name of the picture in TensorBoard.

    Raises:
        ValueError: if `images` is empty or not (N, H, W, C), or `every` is below 1; when training
            begins, if the model has no `views`.
    """

    def __init__(
        self,
        images: Any,
        log_dir: str | PathLike[str],
        *,
        count: int = 8,
        every: int = 1,
        tag: str = "views",
    ) -> None:
        super().__init__()
        if np.ndim(images) != 4 or len(images) == 0:
            raise ValueError(
                f"images has shape {np.shape(images)}, expected (N, height, width, channels) with "
                "N at least 1."
            )
        if every < 1:
            raise ValueError(f"every is {every}, expected a number of epochs from 1.")
        self.images = np.asarray(images[:count])
        self.log_dir = log_dir
        self.every = every
        self.tag = tag

    def on_train_begin(self, logs: dict | None = None) -> None:
        """Copies the model's views and opens the writer."""
        views = getattr(self.model, "views", None)
        if views is None:
            raise ValueError(
                f"{type(self.model).__name__} has no `views` to show: ViewPictures works with "
                "joint-embedding models. Leave the callback out."
            )
        self._views = type(views).from_config(views.get_config())
        self._board = board(self.log_dir, self.model)

    def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
        """Draws and writes the picture, when it is time."""
        if epoch % self.every:
            return
        from keras_ssl.views import show

        picture = np.asarray(show(self._views, self.images, count=len(self.images), seed=epoch))
        if picture.ndim == 2:
            picture = picture[..., None]
        self._board.image(
            self.tag,
            picture,
            updates(self.model),
            "Originals and the views that the model is trained on.",
        )
        self._board.flush()
