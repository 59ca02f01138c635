# SPDX-License-Identifier: Apache-2.0
"""kNN accuracy of the representation while it trains."""

from os import PathLike
from typing import Any

import keras

from keras_ssl.callbacks._board import board, updates
from keras_ssl.evaluation import extract_features, knn_accuracy


class OnlineKNN(keras.callbacks.Callback):
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
        every: epochs between measurements. The first and the last epoch are always measured:
            without a value in the first, a CSV log would leave the column out.
        batch_size: samples a call when features are extracted.
        log_dir: TensorBoard folder, None for none.
        verbose: True for progress bars of its own.

    Raises:
        ValueError: if labels are missing or do not fit the images, k exceeds the bank (both when
            training begins), or `every` is below 1.

    Example:
        ```python
        knn = OnlineKNN(train=(x[:1000], y[:1000]), test=(x[1000:], y[1000:]))
        history = model.fit(images, epochs=10, callbacks=[knn])
        history.history["knn"]
        ```
    """

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
        super().__init__()
        if every < 1:
            raise ValueError(f"every is {every}, expected a number of epochs from 1.")
        for name, data in {"train": train, "test": test}.items():
            if len(data) != 2 or data[1] is None:
                raise ValueError(f"{name} has no labels, expected a pair (images, labels).")
            if len(data[0]) != len(data[1]):
                raise ValueError(
                    f"{name} has {len(data[0])} images and {len(data[1])} labels, expected one "
                    "label an image."
                )
        self.train, self.test = train, test
        self.options = {"k": k, "temperature": temperature, "weighting": weighting}
        self.every = every
        self.batch_size = batch_size
        self.log_dir = log_dir
        self.verbose = verbose
        self._board = None

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

    def on_train_begin(self, logs: dict | None = None) -> None:
        """Opens the TensorBoard writer."""
        self._first = True
        self._board = board(self.log_dir)

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        """Measures, when it is time, and adds "knn" to the logs."""
        last = epoch + 1 == (self.params or {}).get("epochs")
        if not (self._first or last or (epoch + 1) % self.every == 0):
            return
        self._first = False
        accuracy = self.measure()
        if logs is not None:
            logs["knn"] = accuracy
        if self._board is not None:
            self._board.scalar("quality/knn", accuracy, updates(self.model))
            self._board.flush()
