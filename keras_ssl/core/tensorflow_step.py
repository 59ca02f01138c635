# SPDX-License-Identifier: Apache-2.0
"""The training step on TensorFlow, on one replica or many."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

from keras_ssl.core import distribution


def train_step(model: Any, data: Any) -> dict[str, Any]:
    """One update of `model` on one batch of one replica.

    Args:
        model: an `SSLModel` with an optimizer.
        data: what the data set yields.

    Returns:
        Metric results by name.
    """
    batch = model.batch_of(data)
    _check_rows(batch, model)
    # Without this the seeds' assignments, which do not depend on the batch, also run in the
    # step that finds the data set exhausted, on several replicas.
    with tf.control_dependencies(keras.tree.flatten(batch)):
        return _update(model, batch, data)


def _update(model: Any, batch: Any, data: Any) -> dict[str, Any]:
    before = tf.identity(model.optimizer.iterations)
    model.before_step()
    with tf.GradientTape() as tape:
        losses = model.losses_of(batch, training=True)
        # Gradients are summed over replicas; a loss is a mean over the global batch.
        total = tf.add_n(list(losses.values())) / distribution.replica_count()
        scaled = model.optimizer.scale_loss(total)
    variables = model.trainable_variables
    model.optimizer.apply(tape.gradient(scaled, variables), variables)
    # Under gradient accumulation most batches do not move the weights.
    model.stepped = tf.not_equal(before, tf.identity(model.optimizer.iterations))
    model.after_update()
    model.record(losses, data)
    return model.get_metrics_result()


def _check_rows(batch: Any, model: Any) -> None:
    first = keras.tree.flatten(batch)[0]
    message = (
        f"{type(model).__name__} needs at least {model.minimum_batch} rows in a batch on every "
        "replica (it compares rows or takes batch statistics). Use a larger batch_size, or "
        "dataset.batch(..., drop_remainder=True) if only the last batch is short."
    )
    if first.shape[0] is None:
        tf.debugging.assert_greater_equal(tf.shape(first)[0], model.minimum_batch, message)
    elif first.shape[0] < model.minimum_batch:
        raise ValueError(f"{message} Received {first.shape[0]}.")
