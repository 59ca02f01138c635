# SPDX-License-Identifier: Apache-2.0
"""Logistic regression on frozen features: with all labels, and with a few per class."""

from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np

from keras_ssl.evaluation._inputs import pair
from keras_ssl.evaluation.subsets import labelled_subset


def linear_probe(
    train_x: Any,
    train_y: Any,
    test_x: Any,
    test_y: Any,
    *,
    C: float = 1.0,
    max_iter: int = 1000,
) -> float:
    """Accuracy of a logistic regression on standardised features.

    Every dimension is scaled to mean 0 and variance 1 over the training rows; then an
    L2-regularised multinomial logistic regression is fitted with L-BFGS from zero, so the result
    is deterministic. The features are read, the model they came from is not touched.

    Args:
        train_x: (N, D) features.
        train_y: (N,) class indices, -1 (unlabelled) is dropped; at least two classes.
        test_x: (M, D) features.
        test_y: (M,) class indices, -1 (unlabelled) is dropped.
        C: inverse strength of the regularisation, positive.
        max_iter: most L-BFGS iterations; scikit-learn warns when they do not suffice.

    Returns:
        Accuracy on the test rows, from 0 to 1.

    Raises:
        ValueError: if labels are missing, features are not finite, widths differ, or the
            training rows have one class only.

    Source: the linear classification protocol of Colorful Image Colorization, 2016, solved to
    convergence as in Learning Transferable Visual Models From Natural Language Supervision, 2021.
    """
    train_x, train_y, test_x, test_y = pair(train_x, train_y, test_x, test_y)
    probe = logistic_regression(train_x, train_y, C=C, max_iter=max_iter)
    return float(probe.score(test_x, test_y))


def logistic_regression(train_x: Any, train_y: Any, *, C: float = 1.0, max_iter: int = 1000) -> Any:
    """The fitted classifier of `linear_probe`.

    Args:
        train_x: (N, D) features.
        train_y: (N,) class indices; at least two classes.
        C: as `linear_probe`.
        max_iter: as `linear_probe`.

    Returns:
        A pipeline of scikit-learn with `predict`.

    Raises:
        ValueError: where the rows have one class only.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    _several_classes(train_y)
    probe = make_pipeline(StandardScaler(), LogisticRegression(C=C, max_iter=max_iter))
    return probe.fit(train_x, train_y)


def few_label_accuracy(
    train_x: Any,
    train_y: Any,
    test_x: Any,
    test_y: Any,
    *,
    labels_per_class: Sequence[int] = (1, 2, 5, 10),
    fractions: Sequence[float] = (),
    draws: int = 10,
    seed: int = 0,
    C: float = 10.0,
    max_iter: int = 1000,
    verbose: bool | str = "auto",
) -> dict[int | float, tuple[float, float]]:
    """Accuracy when only a few labels per class are known, mean and std over random draws.

    The classifier is a multinomial logistic regression on features that are centred (mean of all
    training rows, whose labels are not needed for it) and then scaled to unit length. Standardised
    dimensions are worse here: on the pixels of scikit-learn's digits 0.57 with one label per class
    against 0.63, since they blow up dimensions that hardly vary. Centring matters for features
    with a large common part, as after a ReLU.

    The test rows stay fixed; only the labelled training rows change. Which rows a draw takes
    depends on `train_y`, `seed`, the number of labels and the draw alone, so that different
    features of the same samples are compared on the same draws.

    Args:
        train_x: (N, D) features to draw the labelled rows from.
        train_y: (N,) class indices, -1 (unlabelled) is never drawn; at least two classes.
        test_x: (M, D) features.
        test_y: (M,) class indices, -1 (unlabelled) is dropped.
        labels_per_class: numbers of labelled rows of each class to try.
        fractions: shares of labelled rows to try, such as 0.01 and 0.1, above 0 and below 1; of
            every class its share, at least one row.
        draws: random draws for each number.
        seed: fixes the draws.
        C: inverse strength of the regularisation, positive.
        max_iter: most L-BFGS iterations.
        verbose: True for a progress bar, "auto" for one when a fit is large (many draws or
            dimensions), False for none.

    Returns:
        `{labels per class or fraction: (mean accuracy, standard deviation over the draws)}`, from 0
        to 1; the deviation is that of the draws themselves (divided by their number).

    Raises:
        ValueError: if labels are missing, a class has too few rows, features are not finite,
            widths differ, or there is one class only.

    Example:
        >>> import numpy as np
        >>> x, y = np.repeat(np.eye(3), 4, axis=0), np.repeat(np.arange(3), 4)
        >>> few_label_accuracy(x, y, x, y, labels_per_class=(1, 2), draws=3)
        {1: (1.0, 0.0), 2: (1.0, 0.0)}
    """
    # All rows give the mean, the unlabelled too: that is what a representation has plenty of.
    centre = np.asarray(train_x, "float64").mean(axis=0) if np.ndim(train_x) == 2 else 0.0
    train_x, train_y, test_x, test_y = pair(train_x, train_y, test_x, test_y)
    classes = _enough_rows(train_y, labels_per_class, fractions, draws)
    train_x, test_x = _centred_unit(train_x, centre), _centred_unit(test_x, centre)
    ways: dict[int | float, Callable[[int], np.ndarray]] = {
        int(n): lambda draw, n=n: _draw(train_y, classes, n, (seed, n, draw))
        for n in labels_per_class
    }
    for share in fractions:
        ways[float(share)] = lambda draw, share=share: labelled_subset(
            train_y, fraction=share, seed=seed * draws + draw
        )
    bar = keras.utils.Progbar(
        draws * len(ways),
        unit_name="draw",
        verbose=int(bool(_slow(train_x, classes, draws) if verbose == "auto" else verbose)),
    )
    results = {}
    for name, rows_of in ways.items():
        accuracies = []
        for draw in range(draws):
            rows = rows_of(draw)
            accuracies.append(
                _fit_score(train_x[rows], train_y[rows], test_x, test_y, C=C, max_iter=max_iter)
            )
            bar.add(1)
        results[name] = (float(np.mean(accuracies)), float(np.std(accuracies)))
    return results


def _enough_rows(labels, labels_per_class, fractions, draws) -> np.ndarray:
    """The classes; ValueError when the draws asked for cannot be made."""
    classes, sizes = _several_classes(labels)
    wrong = [n for n in labels_per_class if n < 1] + [f for f in fractions if not 0 < f < 1]
    if draws < 1 or wrong or not (*labels_per_class, *fractions):
        raise ValueError(
            f"draws is {draws}, labels_per_class {tuple(labels_per_class)} and fractions "
            f"{tuple(fractions)}, expected at least one draw, numbers of at least 1 and fractions "
            "between 0 and 1."
        )
    if sizes.min() < max(labels_per_class, default=0):
        raise ValueError(
            f"Class {classes[sizes.argmin()]} has {sizes.min()} labelled training rows, expected "
            f"at least {max(labels_per_class)}. Lower labels_per_class or give more rows."
        )
    return classes


def _fit_score(train_x, train_y, test_x, test_y, *, C, max_iter) -> float:
    from sklearn.linear_model import LogisticRegression

    classifier = LogisticRegression(C=C, max_iter=max_iter)
    return float(classifier.fit(train_x, train_y).score(test_x, test_y))


def _draw(labels, classes, count, key) -> np.ndarray:
    """Row indices of `count` rows of every class, without repetition."""
    generator = np.random.default_rng(key)
    return np.concatenate(
        [generator.permutation(np.flatnonzero(labels == c))[:count] for c in classes]
    )


def _several_classes(labels) -> tuple[np.ndarray, np.ndarray]:
    """The classes and how many rows each has; ValueError when there is only one."""
    classes, sizes = np.unique(labels, return_counts=True)
    if len(classes) < 2:
        raise ValueError(
            f"train_y holds class {classes[0]} only, expected at least two classes to tell apart."
        )
    return classes, sizes


def _centred_unit(x, centre) -> np.ndarray:
    x = x.astype("float64") - centre
    length = np.linalg.norm(x, axis=1, keepdims=True)
    return x / np.where(length > 0, length, 1)


def _slow(x, classes, draws) -> bool:
    # About two seconds on two cores: a fit costs classes x dimensions x some hundred iterations.
    return draws * len(classes) * x.shape[1] > 50_000
