# SPDX-License-Identifier: Apache-2.0
"""Probes of frozen tokens, which a mean over tokens would blur."""

from __future__ import annotations

import dataclasses
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_ssl.evaluation._rows import ShuffledRows
from keras_ssl.layers import PrototypicalHead
from keras_ssl.losses import asymmetric_loss
from keras_ssl.optimizers import AdamW
from keras_ssl.schedules import WarmupCosine
from keras_ssl.tokens import AttentivePooling


@dataclasses.dataclass(frozen=True)
class TokenProbe:
    """A trained probe of tokens.

    Args:
        score: accuracy on the test samples; of several labels a sample, mean average precision.
        classifier: `keras.Model` from tokens `(B, N, D)` to logits `(B, classes)`.
    """

    score: float
    classifier: keras.Model


def attentive_probe(
    train_x: Any,
    train_y: Any,
    test_x: Any,
    test_y: Any,
    *,
    heads: int,
    pooling: AttentivePooling | None = None,
    epochs: int = 20,
    batch_size: int = 64,
    learning_rate: float = 1e-3,
    weight_decay: float = 1e-2,
    seed: int = 0,
    verbose: bool = False,
) -> TokenProbe:
    """A learned query on frozen tokens with a linear classifier behind it, by AdamW and a cosine.

    Args:
        train_x: `(N, L, D)` tokens, such as those of an encoder with `tokens=True`.
        train_y: `(N,)` class indices, -1 (unlabelled) is dropped, or `(N, classes)` of 0 and 1.
        test_x: `(M, L, D)`.
        test_y: as `train_y`.
        heads: heads of the attention.
        pooling: a `tokens.AttentivePooling` of other settings; None for V-JEPA's.
        epochs: passes over the training samples.
        batch_size: samples of a step.
        learning_rate: at the start.
        weight_decay: of matrices.
        seed: of the initial weights and the order.
        verbose: whether `fit` shows its progress.

    Returns:
        A `TokenProbe`.

    Raises:
        ValueError: for tokens of another rank or that are not finite, or labels that do not fit.

    Source: V-JEPA, Bardes et al., 2024, section 4.1; https://arxiv.org/abs/2404.08471.

    Example:

    ```python
    found = evaluation.attentive_probe(train, labels, test, test_labels, heads=3)
    ```
    """
    pooling = pooling or AttentivePooling(
        heads, seed=seed, kernel_initializer="glorot_uniform", dtype="float32"
    )
    data = _labelled_tokens(train_x, train_y, test_x, test_y)
    classes, several = data[4], data[1].ndim == 2
    start = keras.initializers.TruncatedNormal(stddev=0.02, seed=seed)
    dense = keras.layers.Dense(classes, kernel_initializer=start, dtype="float32")
    inputs = keras.Input(data[0].shape[1:])
    model = keras.Model(inputs, dense(pooling(inputs)))
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    if several:
        loss = keras.losses.BinaryCrossentropy(from_logits=True)
    settings = {"epochs": epochs, "batch_size": batch_size, "seed": seed, "verbose": verbose}
    return _trained(model, data, loss, learning_rate, weight_decay, {}, **settings)


def prototypical_probe(
    train_x: Any,
    train_y: Any,
    test_x: Any,
    test_y: Any,
    *,
    prototypes: int = 20,
    orthogonality: float = 1.0,
    epochs: int = 30,
    batch_size: int = 64,
    learning_rate: float = 4e-4,
    prototype_rate: float = 0.04,
    weight_decay: float = 3e-4,
    seed: int = 0,
    verbose: bool = False,
) -> TokenProbe:
    """Prototypes of every class on frozen tokens, each of which looks for its best match.

    Args:
        train_x: `(N, L, D)` tokens.
        train_y: `(N,)` class indices, -1 (unlabelled) is dropped, or `(N, classes)` of 0 and 1.
        test_x: `(M, L, D)`.
        test_y: as `train_y`.
        prototypes: of a class.
        orthogonality: weight of the term that turns them apart.
        epochs: passes over the training samples.
        batch_size: samples of a step.
        learning_rate: at the start, of offsets and weights of matches.
        prototype_rate: at the start, of prototypes.
        weight_decay: of matrices.
        seed: of the initial prototypes and the order.
        verbose: whether `fit` shows its progress.

    Returns:
        A `TokenProbe`; `classifier.layers[-1].matches(tokens)` shows where prototypes match.

    Raises:
        ValueError: as `attentive_probe`.

    Source: Can Masked Autoencoders Also Listen to Birds?, 2025, section 4; https://github.com/DBD-research-group/Bird-MAE.

    Example:

    ```python
    found = evaluation.prototypical_probe(train, labels, test, test_labels)
    ```
    """
    data = _labelled_tokens(train_x, train_y, test_x, test_y)
    head = PrototypicalHead(data[4], prototypes, orthogonality, seed=seed)
    inputs = keras.Input(data[0].shape[1:])
    model = keras.Model(inputs, head(inputs))
    faster = {head.kernel.path: prototype_rate / learning_rate}
    settings = {"epochs": epochs, "batch_size": batch_size, "seed": seed, "verbose": verbose}

    def loss(labels, logits):
        if len(labels.shape) == 1 or labels.shape[-1] == 1:
            labels = ops.one_hot(ops.cast(ops.reshape(labels, (-1,)), "int32"), data[4])
        return asymmetric_loss(logits, labels)

    return _trained(model, data, loss, learning_rate, weight_decay, faster, **settings)


def _trained(model, data, loss, rate, decay, faster, *, epochs, batch_size, seed, verbose):
    """Trains and scores a probe."""
    x, y, test_x, test_y, _ = data
    rows = ShuffledRows(x, y, batch_size, seed)
    schedule = WarmupCosine(rate, total_steps=epochs * len(rows))
    model.compile(AdamW(schedule, decay, multipliers=faster), loss)
    model.fit(rows, epochs=epochs, shuffle=False, verbose=2 if verbose else 0)
    logits = model.predict(test_x, batch_size=256, verbose=0)
    if test_y.ndim == 1:
        return TokenProbe(float(np.mean(logits.argmax(1) == test_y)), model)
    from sklearn.metrics import average_precision_score

    there = test_y.any(axis=0)
    score = average_precision_score(test_y[:, there], logits[:, there], average="macro")
    return TokenProbe(float(score), model)


def _labelled_tokens(train_x, train_y, test_x, test_y) -> tuple:
    """Tokens and labels of both parts without the unlabelled, and the number of classes."""
    parts = []
    for name, x, y in (("train", train_x, train_y), ("test", test_x, test_y)):
        x, y = np.asarray(x, "float32"), np.asarray(y)
        if x.ndim != 3 or not np.isfinite(x).all():
            raise ValueError(
                f"{name}_x has shape {x.shape}, expected finite tokens (samples, tokens, "
                "dimensions), such as those of an encoder with tokens=True."
            )
        several = y.ndim == 2 and y.shape[1] > 1
        y = y.astype("float32" if several else "int64")
        y = y if several else y.reshape(-1)
        if len(y) != len(x) or y.min() < -1 or (several and not np.isin(y, (0, 1)).all()):
            raise ValueError(
                f"{name}_y has shape {y.shape} for {len(x)} samples, expected a class index of "
                "each, -1 for unlabelled, or (samples, classes) of 0 and 1."
            )
        keep = slice(None) if several else y >= 0
        parts += [x[keep], y[keep]]
    if (
        parts[1].ndim != parts[3].ndim
        or parts[0].shape[2] != parts[2].shape[2]
        or not len(parts[1])
    ):
        raise ValueError(
            "Training and test part must have tokens of one width and labels of one kind, and at "
            f"least one label; received tokens of shape {parts[0].shape} and {parts[2].shape}, "
            f"labels of {parts[1].shape} and {parts[3].shape}."
        )
    if parts[1].ndim == 2:
        return *parts, parts[1].shape[1]
    return *parts, int(max(parts[1].max(), parts[3].max(initial=0))) + 1
