# SPDX-License-Identifier: Apache-2.0
"""Pictures of attention and of patch tokens while a vision transformer trains."""

from os import PathLike
from typing import Any

import numpy as np

from keras_ssl.callbacks._pictures import Pictures
from keras_ssl.evaluation import token_picture


class TokenPictures(Pictures):
    """Writes the class token's attention and the colours of patches to TensorBoard.

    One row an image: itself, the mean attention of the last block and that of each head, and its
    patches coloured by their principal components.

    Args:
        images: (N, H, W, C) uint8, or float in 0..1; the first `count` are shown, N at least 1.
        log_dir: TensorBoard folder.
        count: number of images.
        every: epochs between pictures; the first is drawn before any training.
        tag: name of the picture in TensorBoard.

    Raises:
        ValueError: if `images` is empty or not (N, H, W, C), or `every` is below 1; when training
            begins, if the encoder is no vision transformer with a class token.
    """

    text = "Image; attention of the class token, mean and each head; principal components."

    def __init__(
        self,
        images: Any,
        log_dir: str | PathLike[str],
        *,
        count: int = 6,
        every: int = 1,
        tag: str = "tokens",
    ) -> None:
        super().__init__(log_dir, every, tag)
        if np.ndim(images) != 4 or len(images) == 0:
            raise ValueError(
                f"TokenPictures needs images (N, height, width, channels), N at least 1; received "
                f"shape {np.shape(images)}."
            )
        self.images = np.asarray(images[:count])

    def on_train_begin(self, logs: dict | None = None) -> None:
        """Opens the writer and draws the untrained encoder."""
        if not shows_tokens(self.model):
            raise ValueError(
                f"TokenPictures shows what a class token attends to; the encoder of "
                f"{type(self.model).__name__} has none. Train a backbones.VisionTransformer with "
                "class_token=True, or leave the callback out."
            )
        super().on_train_begin(logs)

    def draw(self) -> np.ndarray:
        """Images, attention and colours of patches."""
        return token_picture(self.model.encoder, self.images, self.model.views.preprocess)


def shows_tokens(model: Any) -> bool:
    """Whether a model's encoder has attention of a class token to show."""
    prefix = getattr(getattr(model, "encoder", None), "prefix", None)
    return getattr(prefix, "class_token", False) and hasattr(model.encoder, "attention_maps")
