# SPDX-License-Identifier: Apache-2.0
"""A linear probe by gradient descent, whose rate is chosen on a part of the training rows."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_ssl.evaluation._inputs import pair
from keras_ssl.evaluation._probe_heads import ProbeHeads, summed_crossentropy
from keras_ssl.evaluation._rows import ShuffledRows
from keras_ssl.schedules import WarmupCosine

RATES = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0)


@dataclasses.dataclass(frozen=True)
class SweptProbe:
    """What a sweep of linear probes found.

    Args:
        accuracy: share of right test rows of the chosen probe, from 0 to 1.
        learning_rate: its rate, for batches of 256.
        weight_decay: its weight decay.
        held_accuracy: accuracy on the held rows by `(learning_rate, weight_decay)`.
        classifier: `keras.Model` from features `(B, D)` to logits `(B, classes)`; standardisation
            is in it.
    """

    accuracy: float
    learning_rate: float
    weight_decay: float
    held_accuracy: dict[tuple[float, float], float]
    classifier: keras.Model


def swept_linear_probe(
    train_x: Any,
    train_y: Any,
    test_x: Any,
    test_y: Any,
    *,
    learning_rates: Sequence[float] = RATES,
    weight_decays: Sequence[float] = (0.0, 1e-4, 1e-3),
    epochs: int = 30,
    batch_size: int = 256,
    held: float = 0.1,
    refit: bool = True,
    seed: int = 0,
    verbose: bool = False,
) -> SweptProbe:
    """Linear probes of many learning rates, trained together in one pass over frozen features.

    The published protocol: SGD with Nesterov momentum of 0.9 and a cosine to 0, from zero. The best
    setting is chosen on a part of the training rows; the test rows are looked at once. Features are
    standardised, so that rates mean the same for all encoders. For features at hand
    `linear_probe`, which has no rate, is quicker; this one is for comparisons with published
    figures, and for more rows than L-BFGS can hold.

    Args:
        train_x: (N, D) features.
        train_y: (N,) class indices, -1 (unlabelled) is dropped; at least two classes.
        test_x: (M, D) features.
        test_y: (M,) class indices, -1 (unlabelled) is dropped.
        learning_rates: to try, for batches of 256; scaled linearly to others.
        weight_decays: to try with each, inside the loss.
        epochs: passes over the training rows.
        batch_size: rows of a step.
        held: share of training rows that choose, between 0 and 1.
        refit: whether the chosen one is trained again on all training rows.
        seed: of the held rows and the order.
        verbose: whether `fit` shows its progress.

    Returns:
        A `SweptProbe`.

    Raises:
        ValueError: as `linear_probe`, or for an empty sweep or a `held` that leaves no rows.

    Source: A Simple Framework for Contrastive Learning of Visual Representations, 2020, appendix
    B.6; sweeps in one pass: V-JEPA 2, 2025, released code, which chooses on the test set.

    Example:
        >>> import numpy as np
        >>> x, y = np.repeat(np.eye(3), 20, axis=0), np.repeat(np.arange(3), 20)
        >>> swept_linear_probe(x, y, x, y, epochs=2).accuracy
        1.0
    """
    train_x, train_y, test_x, test_y = pair(train_x, train_y, test_x, test_y)
    settings = [(float(r), float(d)) for r, d in itertools.product(learning_rates, weight_decays)]
    rows = np.random.default_rng(seed).permutation(len(train_x))
    count = round(held * len(rows))
    if not settings or not 0 < count < len(rows) or len(np.unique(train_y)) < 2:
        raise ValueError(
            f"swept_linear_probe needs rates and decays to try, two classes, and rows to choose by "
            f"as well as to train on; received {len(settings)} settings, "
            f"{len(np.unique(train_y))} class(es) and held={held} of {len(rows)} rows."
        )
    classes = int(max(train_y.max(), test_y.max())) + 1
    options = {"epochs": epochs, "batch_size": batch_size, "seed": seed, "verbose": verbose}
    kept, chosen = rows[count:], rows[:count]
    heads, scale = _trained(train_x[kept], train_y[kept], classes, settings, **options)
    right = _right(heads, scale(train_x[chosen]), train_y[chosen])
    best = int(np.argmax(right))
    if refit:
        heads, scale = _trained(train_x, train_y, classes, [settings[best]], **options)
    classifier = _classifier(heads, scale, 0 if refit else best)
    logits = classifier.predict(test_x, batch_size=1024, verbose=0)
    return SweptProbe(
        float(np.mean(logits.argmax(1) == test_y)),
        *settings[best],
        dict(zip(settings, right.tolist(), strict=True)),
        classifier,
    )


def _trained(x, y, classes, settings, *, epochs, batch_size, seed, verbose):
    """Trained `ProbeHeads`, and the layer that standardises features."""
    # Dimensions that do not vary stay as they are.
    variance = x.var(axis=0)
    scale = keras.layers.Normalization(
        mean=x.mean(axis=0), variance=np.where(variance > 0, variance, 1.0), dtype="float32"
    )
    rates = [rate * batch_size / 256 for rate, _ in settings]
    heads = ProbeHeads(classes, rates, [decay for _, decay in settings])
    inputs = keras.Input(x.shape[1:])
    model = keras.Model(inputs, heads(inputs))
    rows = ShuffledRows(ops.convert_to_numpy(scale(x)), y, batch_size, seed)
    cosine = WarmupCosine(1.0, total_steps=epochs * len(rows))
    model.compile(keras.optimizers.SGD(cosine, momentum=0.9, nesterov=True), summed_crossentropy)
    model.fit(rows, epochs=epochs, shuffle=False, verbose=2 if verbose else 0)
    return heads, scale


def _right(heads: ProbeHeads, x: Any, y: np.ndarray) -> np.ndarray:
    """Accuracy of each head."""
    logits = ops.convert_to_numpy(heads(x))
    return (logits.argmax(-1) == y[:, None]).mean(0)


def _classifier(heads: ProbeHeads, scale: Any, index: int) -> keras.Model:
    """One of the heads behind the standardisation."""
    kernel, bias = (ops.convert_to_numpy(w)[index] for w in heads.weights_of())
    inputs = keras.Input((kernel.shape[0],))
    dense = keras.layers.Dense(kernel.shape[1], dtype="float32", name="logits")
    model = keras.Model(inputs, dense(scale(inputs)))
    dense.set_weights([kernel, bias])
    return model
