# SPDX-License-Identifier: Apache-2.0
"""Accuracy of a linear classifier on the representation while it trains."""

from os import PathLike
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_ssl.callbacks._labelled import LabelledMeasure
from keras_ssl.evaluation import extract_features
from keras_ssl.evaluation._inputs import pair


class OnlineProbe(LabelledMeasure):
    """Trains a linear classifier beside the encoder, on labelled data of its own.

    At the end of an epoch features are extracted in inference mode and the classifier goes on from
    where it was for some passes over them: no gradient reaches the encoder, and its optimizer is
    another one. It lags behind `evaluation.linear_probe`, which starts anew and converges, and
    costs little beside extracting the features. The accuracy appears as "probe" in the logs and,
    with `log_dir`, as "quality/probe" in TensorBoard.

    Args:
        train: `(samples, labels)` to fit; labels (N,) integers, -1 for unlabelled.
        test: `(samples, labels)` to classify.
        passes: over the training features, at each measurement.
        optimizer: a Keras optimizer of its own; None for Adam at 1e-2.
        every: epochs between measurements; the first and the last are always measured.
        batch_size: samples a call when features are extracted, and of a step of the classifier.
        seed: of the order of features.
        log_dir: TensorBoard folder, None for none.

    Attributes:
        classifier: `keras.Model` from features to logits, once there is one.

    Raises:
        ValueError: if labels are missing, do not fit the samples or are of one class, or a number
            is below 1; when training begins, for the optimizer of the model; at a measurement,
            for features that are not finite.

    Source: the online linear evaluation of Bootstrap Your Own Latent, 2020, released code.

    Example:
        ```python
        probe = OnlineProbe(train=(x[:1000], y[:1000]), test=(x[1000:], y[1000:]))
        model.fit(images, epochs=10, callbacks=[probe])
        ```
    """

    name = "probe"

    def __init__(
        self,
        train: tuple[Any, Any],
        test: tuple[Any, Any],
        *,
        passes: int = 3,
        optimizer: keras.optimizers.Optimizer | None = None,
        every: int = 1,
        batch_size: int = 256,
        seed: int = 0,
        log_dir: str | PathLike[str] | None = None,
    ) -> None:
        super().__init__(train, test, every, log_dir)
        for name, value in {"passes": passes, "batch_size": batch_size}.items():
            if value < 1:
                raise ValueError(f"{name} is {value}, expected at least 1.")
        known = np.unique(np.asarray(train[1]))
        if np.sum(known >= 0) < 2:
            raise ValueError(f"train has the labels {known}, expected two classes or more.")
        self.classes = int(max(known.max(), np.max(test[1]))) + 1
        self.passes, self.batch_size, self.seed = passes, batch_size, seed
        self.optimizer = optimizer
        self.classifier: Any = None
        self._measured = 0

    def measure(self) -> float:
        """Lets the classifier learn from the present features.

        Returns:
            Its accuracy on the test samples, from 0 to 1.
        """
        found = [
            extract_features(self.model, part[0], batch_size=self.batch_size, verbose=False)
            for part in (self.train, self.test)
        ]
        x, y, test_x, test_y = pair(found[0], self.train[1], found[1], self.test[1])
        # Features of every moment have another scale, and the classifier is to go on.
        mean, std = x.mean(axis=0), x.std(axis=0) + 1e-6
        if self.classifier is None:
            self.classifier = self._new(x.shape[1])
        self._measured += 1
        order = np.random.default_rng((self.seed, self._measured))
        rows = np.concatenate([order.permutation(len(x)) for _ in range(self.passes)])
        x, test_x = ((part - mean) / std for part in (x, test_x))
        self.classifier.fit(x[rows], y[rows], self.batch_size, shuffle=False, verbose=0)
        logits = ops.convert_to_numpy(self.classifier(test_x))
        return float(np.mean(logits.argmax(axis=1) == test_y))

    def _new(self, width: int) -> keras.Model:
        dense = keras.layers.Dense(self.classes, kernel_initializer="zeros", dtype="float32")
        classifier = keras.Sequential([keras.Input((width,)), dense])
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        classifier.compile(self.optimizer or keras.optimizers.Adam(1e-2), loss)
        return classifier

    def on_train_begin(self, logs: dict | None = None) -> None:
        """Opens the TensorBoard writer, and requires an optimizer for each."""
        if self.optimizer is not None and self.optimizer is self.model.optimizer:
            raise ValueError(
                "OnlineProbe needs an optimizer of its own: the model's has the model's variables."
            )
        super().on_train_begin(logs)
