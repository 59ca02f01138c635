# SPDX-License-Identifier: Apache-2.0
"""Pictures of decoded prototypes while a model trains."""

from collections.abc import Callable
from os import PathLike
from typing import Any

import numpy as np

from keras_ssl.callbacks._pictures import Pictures
from keras_ssl.evaluation import prototype_picture


class PrototypePictures(Pictures):
    """Writes what the prototypes of a model look like to TensorBoard.

    Args:
        layer: the model's `layers.PrototypeDistance`.
        decoder: from codes to images; see `evaluation.prototype_picture`.
        log_dir: TensorBoard folder.
        every: epochs between pictures; the first is drawn before any training.
        tag: name of the picture in TensorBoard.

    Raises:
        ValueError: if `every` is below 1; when training begins, if there are no prototypes or no
            images of them.
    """

    text = "Decoded prototypes."

    def __init__(
        self,
        layer: Any,
        decoder: Callable,
        log_dir: str | PathLike[str],
        *,
        every: int = 1,
        tag: str = "prototypes",
    ) -> None:
        super().__init__(log_dir, every, tag)
        self.layer, self.decoder = layer, decoder

    def draw(self) -> np.ndarray:
        """Decoded prototypes."""
        return prototype_picture(self.layer, self.decoder)
