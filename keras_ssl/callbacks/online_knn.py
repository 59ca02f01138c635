# SPDX-License-Identifier: Apache-2.0
"""kNN accuracy of the representation while it trains."""

from os import PathLike
from typing import Any

import numpy as np

from keras_ssl.callbacks._labelled import LabelledMeasure
from keras_ssl.evaluation import extract_features, knn_accuracy


class OnlineKNN(LabelledMeasure):
    """Measures kNN accuracy at the end of epochs, on labelled data of its own.

    Training stays label-free: the labels are used here only. The accuracy appears as "knn" in the
    logs (progress bar, `History`, CSV) and, with `log_dir`, as "quality/knn" in TensorBoard.
    Place it before callbacks that read the logs, such as `keras.callbacks.CSVLogger`.

    Args:
        train: `(images, labels)` of the bank; labels (N,) integers, -1 for unlabelled.
        test: `(images, labels)` to classify.
        k: neighbours.
        temperature: of the exponential weighting.
        weighting: "exponential" or "vote"; see `keras_ssl.evaluation.knn_accuracy`.
        every: epochs between measurements; the first and the last are always measured.
        batch_size: samples a call when features are extracted.
        log_dir: TensorBoard folder, None for none.
        verbose: True for progress bars of its own.

    Raises:
        ValueError: if labels are missing, do not fit the images or are all -1, k exceeds the bank,
            or `every` is below 1; at a measurement, for features that are not finite.

    Example:
        ```python
        knn = OnlineKNN(train=(x[:1000], y[:1000]), test=(x[1000:], y[1000:]))
        history = model.fit(images, epochs=10, callbacks=[knn])
        history.history["knn"]
        ```
    """

    name = "knn"

    def __init__(
        self,
        train: tuple[Any, Any],
        test: tuple[Any, Any],
        *,
        k: int = 20,
        temperature: float = 0.07,
        weighting: str = "exponential",
        every: int = 1,
        batch_size: int = 256,
        log_dir: str | PathLike[str] | None = None,
        verbose: bool = False,
    ) -> None:
        super().__init__(train, test, every, log_dir)
        bank = int(np.sum(np.asarray(train[1]) >= 0))
        if not 1 <= k <= bank:
            raise ValueError(
                f"k is {k}, expected 1 to {bank}, the labelled rows of train. Lower k or give more."
            )
        self.options = {"k": k, "temperature": temperature, "weighting": weighting}
        self.batch_size = batch_size
        self.verbose = verbose

    def measure(self) -> float:
        """Extracts features of both sets with the current weights and classifies.

        Returns:
            Accuracy on the test set, from 0 to 1.
        """
        train_x, test_x = (
            extract_features(self.model, images, batch_size=self.batch_size, verbose=self.verbose)
            for images, _ in (self.train, self.test)
        )
        return knn_accuracy(
            train_x, self.train[1], test_x, self.test[1], verbose=self.verbose, **self.options
        )
