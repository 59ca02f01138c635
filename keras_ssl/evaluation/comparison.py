# SPDX-License-Identifier: Apache-2.0
"""Several encoders on one task, with how sure one can be of the difference."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from keras_ssl.evaluation._inputs import pair
from keras_ssl.evaluation.knn import knn_scores

PROTOCOLS = ("linear", "knn")


@dataclasses.dataclass(frozen=True)
class Comparison:
    """Accuracies of encoders with confidence intervals.

    Args:
        accuracy: `{encoder: {protocol: accuracy}}`, from 0 to 1.
        interval: `{encoder: {protocol: (low, high)}}`, over draws of test rows.
        difference: `{encoder: {protocol: (low, high)}}` of what the encoder is above the first one
            named, over the same draws: where 0 is outside, they differ.
        confidence: share of draws inside of an interval.
    """

    accuracy: dict[str, dict[str, float]]
    interval: dict[str, dict[str, tuple[float, float]]]
    difference: dict[str, dict[str, tuple[float, float]]]
    confidence: float

    def table(self) -> str:
        """A Markdown table: accuracy with its interval, one row for each encoder."""
        protocols = list(next(iter(self.accuracy.values())))
        lines = [f"| encoder | {' | '.join(protocols)} |", "|---" * (len(protocols) + 1) + "|"]
        for name, found in self.accuracy.items():
            cells = []
            for protocol in protocols:
                low, high = self.interval[name][protocol]
                cells.append(f"{found[protocol]:.3f} ({low:.3f} – {high:.3f})")
            lines.append(f"| {name} | {' | '.join(cells)} |")
        return "\n".join(lines)

    def show(self) -> Any:
        """A `PIL.Image.Image`: bars with intervals, encoders side by side for each protocol."""
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
        from PIL import Image

        protocols, names = list(next(iter(self.accuracy.values()))), list(self.accuracy)
        figure = Figure(figsize=(1.5 + 1.2 * len(protocols) * max(len(names) / 3, 1), 3.6), dpi=110)
        canvas, axes = FigureCanvasAgg(figure), figure.subplots()
        width = 0.8 / len(names)
        for index, name in enumerate(names):
            x = np.arange(len(protocols)) + (index - (len(names) - 1) / 2) * width
            height = np.array([self.accuracy[name][p] for p in protocols])
            bounds = np.array([self.interval[name][p] for p in protocols]).T
            errors = np.abs(bounds - height)
            axes.bar(x, height, width * 0.92, yerr=errors, capsize=3, label=name)
        axes.set_xticks(range(len(protocols)), protocols)
        axes.set_ylabel("accuracy")
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(frameon=False)
        figure.set_layout_engine("constrained")
        canvas.draw()
        return Image.fromarray(np.asarray(canvas.buffer_rgba())[..., :3].copy())


def compare(
    encoders: Mapping[str, Any],
    train: tuple[Any, Any],
    test: tuple[Any, Any],
    *,
    protocols: Sequence[str] = PROTOCOLS,
    k: int = 20,
    confidence: float = 0.95,
    draws: int = 1000,
    seed: int = 0,
) -> Comparison:
    """Evaluates several encoders on the same labelled samples.

    Intervals are those of the bootstrap over test rows, the same draws for all encoders: they say
    what other test samples would change, not what another seed of training would.

    Args:
        encoders: models from samples to vectors by name, or `(train features, test features)`. The
            first is what others are compared with.
        train: `(samples, labels)`; samples are not looked at for features that are given.
        test: `(samples, labels)`.
        protocols: of `"linear"` (`linear_probe`) and `"knn"` (`knn_accuracy`).
        k: neighbours.
        confidence: share of draws inside of an interval, between 0 and 1.
        draws: bootstrap draws of test rows.
        seed: of the draws.

    Returns:
        A `Comparison`.

    Raises:
        ValueError: without encoders, for an unknown protocol, or as the protocols.

    Source: An Introduction to the Bootstrap, Efron and Tibshirani 1993, section 13.3 (percentile
    intervals).

    Example:

    ```python
    found = evaluation.compare({"random": start, "SimCLR": trained}, (x, y), (test_x, test_y))
    print(found.table())
    ```
    """
    unknown = set(protocols) - set(PROTOCOLS)
    if not encoders or unknown or not protocols or not 0 < confidence < 1:
        raise ValueError(
            f"compare needs encoders, protocols of {PROTOCOLS} and a confidence between 0 and 1; "
            f"received {list(encoders)}, {list(protocols)} and {confidence}."
        )
    right = {
        name: right_rows(*_features(encoder, train, test), protocols=protocols, k=k)
        for name, encoder in encoders.items()
    }
    return of_right_rows(right, confidence=confidence, draws=draws, seed=seed)


def right_rows(
    train_x: Any,
    train_y: Any,
    test_x: Any,
    test_y: Any,
    *,
    protocols: Sequence[str] = PROTOCOLS,
    k: int = 20,
) -> dict[str, np.ndarray]:
    """Which test rows of one encoder are classified right.

    Args:
        train_x: (N, D) features.
        train_y: (N,) class indices, -1 (unlabelled) is dropped.
        test_x: (M, D) features.
        test_y: (M,) class indices, -1 (unlabelled) is dropped.
        protocols: as `compare`.
        k: neighbours.

    Returns:
        `{protocol: (M,)}` of 0 and 1, float64, for the labelled rows.

    Raises:
        ValueError: as the protocols.
    """
    data = pair(train_x, train_y, test_x, test_y)
    return {protocol: _right(protocol, data, k) for protocol in protocols}


def of_right_rows(
    right: Mapping[str, Mapping[str, np.ndarray]],
    *,
    confidence: float = 0.95,
    draws: int = 1000,
    seed: int = 0,
) -> Comparison:
    """The comparison of encoders by what `right_rows` gave for each on the same rows.

    Args:
        right: `{encoder: {protocol: (M,)}}`; the first is what others are compared with.
        confidence: as `compare`.
        draws: as `compare`.
        seed: as `compare`.

    Returns:
        A `Comparison`.
    """
    first = next(iter(right.values()))
    count = len(next(iter(first.values())))
    rows = np.random.default_rng(seed).integers(0, count, (draws, count))
    tails = 100 * np.array([(1 - confidence) / 2, (1 + confidence) / 2])

    def interval(values: np.ndarray) -> tuple[float, float]:
        low, high = np.percentile(values[rows].mean(axis=1), tails)
        return float(low), float(high)

    def each(of: Callable) -> dict:
        return {n: {p: of(hit, p) for p, hit in found.items()} for n, found in right.items()}

    return Comparison(
        each(lambda hit, protocol: float(hit.mean())),
        each(lambda hit, protocol: interval(hit)),
        each(lambda hit, protocol: interval(hit - first[protocol])),
        confidence,
    )


def _features(encoder: Any, train: tuple, test: tuple) -> tuple:
    from keras_ssl.evaluation.features import extract_features

    if isinstance(encoder, tuple):
        return encoder[0], train[1], encoder[1], test[1]
    found = [extract_features(encoder, part[0]) for part in (train, test)]
    return found[0], train[1], found[1], test[1]


def _right(protocol: str, data: tuple, k: int) -> np.ndarray:
    """Which test rows are right, as 0 and 1."""
    train_x, train_y, test_x, test_y = data
    if protocol == "knn":
        classes = int(max(train_y.max(), test_y.max())) + 1
        scores = knn_scores(train_x, train_y, test_x, k=k, num_classes=classes, verbose=False)
        return (scores.argmax(axis=1) == test_y).astype("float64")
    from keras_ssl.evaluation.probes import logistic_regression

    return (logistic_regression(train_x, train_y).predict(test_x) == test_y).astype("float64")
