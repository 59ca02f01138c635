# SPDX-License-Identifier: Apache-2.0
"""Pictures of nearest neighbours while a model trains."""

from os import PathLike
from typing import Any

import numpy as np

from keras_ssl.callbacks._pictures import Pictures
from keras_ssl.evaluation import extract_features, neighbour_picture


class NeighbourPictures(Pictures):
    """Writes images and those with the most similar representations to TensorBoard.

    Args:
        images: `(N, H, W, C)` uint8, or float in 0..1; some hundred to choose among.
        log_dir: TensorBoard folder.
        labels: `(N,)` classes that colour frames, -1 for unlabelled, or None.
        queries: number of images, the first ones, to find neighbours of.
        k: neighbours each.
        every: epochs between pictures; the first is drawn before any training.
        tag: name of the picture in TensorBoard.

    Raises:
        ValueError: if `images` is not (N, H, W, C), or for numbers that N images do not have.

    Example:
        ```python
        pictures = NeighbourPictures(images[:500], "runs/first", labels=labels[:500])
        model.fit(images, epochs=10, callbacks=[pictures])
        ```
    """

    text = "An image, and its nearest neighbours from left to right; green: of its class, red: not."

    def __init__(
        self,
        images: Any,
        log_dir: str | PathLike[str],
        *,
        labels: Any = None,
        queries: int = 8,
        k: int = 6,
        every: int = 1,
        tag: str = "neighbours",
    ) -> None:
        super().__init__(log_dir, every, tag)
        if np.ndim(images) != 4 or not 0 < queries <= len(images) or not 0 < k < len(images):
            raise ValueError(
                f"NeighbourPictures needs images (N, height, width, channels), 1 to N queries and "
                f"k from 1 to N - 1; received shape {np.shape(images)}, queries={queries}, k={k}."
            )
        self.images, self.labels = np.asarray(images), labels
        self.queries, self.k = queries, k

    def draw(self) -> np.ndarray:
        """Queries and their neighbours."""
        found = extract_features(self.model, self.images, verbose=False)
        return neighbour_picture(
            self.images, found, queries=self.queries, k=self.k, labels=self.labels
        )
