# SPDX-License-Identifier: Apache-2.0
"""Representations for TensorBoard's Embedding Projector."""

from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from keras_ssl.callbacks._board import is_chief, updates
from keras_ssl.callbacks._pictures import Pictures
from keras_ssl.evaluation import extract_features

# TensorBoard takes no larger sheets of pictures.
_SHEET = 8192


class EmbeddingProjector(Pictures):
    """Writes representations of held images for TensorBoard's page "Projector".

    The page turns them in three dimensions, finds neighbours, runs PCA, t-SNE and UMAP, and shows
    each image as a point. There is one embedding a moment to choose from, called by the number of
    updates.

    Args:
        images: `(N, H, W, C)` uint8, or float in 0..1, C of 1 or 3; some hundred.
        log_dir: TensorBoard folder; the files are put there.
        labels: `(N,)` classes or names, or None.
        every: epochs between embeddings; the first is of the untrained model.
        side: of an image in the page, in pixels.

    Raises:
        ValueError: if `images` is not (N, H, W, C), there are not as many labels, or N pictures of
            that side do not fit the largest sheet that TensorBoard takes.

    Example:
        ```python
        projector = EmbeddingProjector(images[:500], "runs/first", labels=labels[:500], every=10)
        model.fit(images, epochs=100, callbacks=[projector])
        ```
    """

    def __init__(
        self,
        images: Any,
        log_dir: str | PathLike[str],
        *,
        labels: Any = None,
        every: int = 10,
        side: int = 32,
    ) -> None:
        super().__init__(log_dir, every, "projector")
        rows = len(images)
        if np.ndim(images) != 4 or rows == 0 or (labels is not None and len(labels) != rows):
            raise ValueError(
                f"EmbeddingProjector needs images (N, height, width, channels) and a label for "
                f"each or none; received shape {np.shape(images)} and "
                f"{0 if labels is None else len(labels)} labels."
            )
        if side < 1 or int(np.ceil(rows**0.5)) * side > _SHEET:
            raise ValueError(
                f"{rows} images of side {side} do not fit a sheet of {_SHEET} pixels. Take fewer "
                "images, or a smaller side of at least 1."
            )
        self.images, self.labels, self.side = np.asarray(images), labels, side

    def on_train_begin(self, logs: dict | None = None) -> None:
        """Writes what all moments share, and the untrained model's representations."""
        if is_chief(self.model):
            self._share(Path(self.log_dir))
        super().on_train_begin(logs)

    def _share(self, folder: Path) -> None:
        from PIL import Image

        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(sheet(self.images, self.side)).save(folder / "projector_images.png")
        labels = range(len(self.images)) if self.labels is None else np.asarray(self.labels)
        (folder / "projector_labels.tsv").write_text("".join(f"{label}\n" for label in labels))

    def _write(self) -> None:
        features = extract_features(self.model, self.images, verbose=False)
        if not is_chief(self.model):
            return
        folder = Path(self.log_dir)
        name = folder / f"projector_{updates(self.model):08d}.tsv"
        np.savetxt(name, features, fmt="%.5g", delimiter="\t")
        self._list(folder)

    def _list(self, folder: Path) -> None:
        """Writes the config anew, with all embeddings of the folder."""
        from tensorboard.plugins import projector

        config = projector.ProjectorConfig()
        paths = sorted(folder.glob("projector_[0-9]*.tsv"), reverse=True)
        for path in paths:
            step, one = path.stem.split("_")[1], config.embeddings.add()
            # The page opens the first by the alphabet.
            one.tensor_name = (
                f"latest: update {int(step)}" if path == paths[0] else f"update {step}"
            )
            one.tensor_path, one.metadata_path = path.name, "projector_labels.tsv"
            one.sprite.image_path = "projector_images.png"
            one.sprite.single_image_dim.extend([self.side, self.side])
        projector.visualize_embeddings(str(folder), config)


def sheet(images: np.ndarray, side: int) -> np.ndarray:
    """Images in rows on one square sheet, white where there are no more.

    Args:
        images: `(N, H, W, C)` uint8 of 0..255 or float of 0..1, C of 1 or 3.
        side: of an image on the sheet.

    Returns:
        uint8 `(columns * side, columns * side, 3)` with the fewest columns that hold N.
    """
    from PIL import Image

    from keras_ssl.evaluation._cells import as_rgb

    columns = int(np.ceil(len(images) ** 0.5))
    found = np.full((columns * side, columns * side, 3), 255, "uint8")
    pixels = (np.clip(as_rgb(images), 0, 1) * 255 + 0.5).astype("uint8")
    for index, image in enumerate(pixels):
        top, left = index // columns * side, index % columns * side
        found[top : top + side, left : left + side] = Image.fromarray(image).resize((side, side))
    return found
