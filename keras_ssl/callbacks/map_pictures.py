# SPDX-License-Identifier: Apache-2.0
"""Maps of representations while a model trains."""

from os import PathLike
from typing import Any

import numpy as np
from keras import tree

from keras_ssl.callbacks._board import updates
from keras_ssl.callbacks._pictures import Pictures
from keras_ssl.evaluation import extract_features, map_picture, map_points
from keras_ssl.evaluation.map_picture import METHODS


class MapPictures(Pictures):
    """Writes representations as points on a plane to TensorBoard, one map lying over the last.

    Args:
        samples: `(N, ...)` as the model takes them, or a dict of such arrays, N from 4; some
            hundred are plenty.
        log_dir: TensorBoard folder.
        labels: `(N,)` classes that colour points, or None.
        method: "pca", which shows distances as they are, or "tsne", which shows neighbourhoods and
            takes a second and more; see `evaluation.map_points`.
        every: epochs between maps; the first is drawn before any training.
        tag: name of the picture in TensorBoard.

    Attributes:
        points: `(N, 2)` of the latest map, or None.

    Raises:
        ValueError: for another method, fewer than four samples, or as many labels as there are no
            samples.

    Example:
        ```python
        maps = MapPictures(images[:500], "runs/first", labels=labels[:500], method="tsne")
        model.fit(images, epochs=10, callbacks=[maps])
        ```
    """

    def __init__(
        self,
        samples: Any,
        log_dir: str | PathLike[str],
        *,
        labels: Any = None,
        method: str = "pca",
        every: int = 1,
        tag: str = "map",
    ) -> None:
        super().__init__(log_dir, every, tag)
        rows = len(tree.flatten(samples)[0])
        if method not in METHODS or rows < 4 or (labels is not None and len(labels) != rows):
            raise ValueError(
                f"MapPictures needs at least 4 samples, a label for each or none, and a method of "
                f"{METHODS}; received {rows} samples, {0 if labels is None else len(labels)} "
                f"labels and {method!r}."
            )
        self.samples, self.labels, self.method = samples, labels, method
        self.text = f"Representations of {rows} held samples ({method})."
        self.points: np.ndarray | None = None

    def draw(self) -> np.ndarray:
        """The map, turned to lie over the one before."""
        found = extract_features(self.model, self.samples, verbose=False)
        self.points = map_points(found, self.method, before=self.points)
        title = f"update {updates(self.model)}"
        # TensorBoard shows pictures about this large, and letters of larger ones too small.
        return map_picture(self.points, self.labels, title, size=(4.2, 3.6))
