# SPDX-License-Identifier: Apache-2.0
"""Pictures of reconstructions while a masked model trains."""

from collections.abc import Mapping
from os import PathLike
from typing import Any

import numpy as np

from keras_ssl.callbacks._pictures import Pictures
from keras_ssl.evaluation import reconstruction_picture


class ReconstructionPictures(Pictures):
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

    text = "Masked, reconstruction, original."

    def __init__(
        self,
        samples: Any,
        log_dir: str | PathLike[str],
        *,
        count: int = 6,
        every: int = 1,
        tag: str = "reconstructions",
    ) -> None:
        super().__init__(log_dir, every, tag)
        if len(samples) == 0:
            raise ValueError(
                "ReconstructionPictures needs at least 1 sample; received shape "
                f"{np.shape(samples)}."
            )
        self.samples = np.asarray(samples[:count])

    def draw(self) -> np.ndarray:
        """Samples and what the model makes of them."""
        return reconstruction_picture(self.model, self.samples)


def shows_samples(model: Any) -> bool:
    """Whether a model puts samples back: a masked one whose predictions are values of samples."""
    target = getattr(model, "target", None)
    parts = list(target.values()) if isinstance(target, Mapping) else [target]
    return hasattr(model, "reconstruct") and hasattr(parts[0], "to_pixels")
