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
    if model.uses_indices:
        batch = batch[0], _checked_indices(batch[1], model)
    # Without this the seeds' assignments, which do not depend on the batch, also run in the
    # step that finds the data set exhausted, on several replicas.
    with tf.control_dependencies(keras.tree.flatten(batch)):
        return _update(model, batch, data)


def _update(model: Any, batch: Any, data: Any) -> dict[str, Any]:
    before = tf.identity(model.optimizer.iterations)
    first = keras.tree.flatten(batch)[0]
    model.global_rows = tf.shape(first)[0] * distribution.replica_count()
    model.before_step()
    with tf.GradientTape() as tape:
        losses = model.losses_of(batch, training=True)
        # Gradients are summed over replicas; a loss is a mean over the global batch.
        total = tf.add_n(list(losses.values())) / distribution.replica_count()
        scaled = model.optimizer.scale_loss(total)
    variables = model.trainable_variables
    frozen = _frozen(model)
    gradients = _without(frozen, tape.gradient(scaled, variables), variables)
    if model.gradient_watch is not None:
        model.gradient_watch(gradients, variables)
    model.optimizer.apply(gradients, variables)
    _restore(frozen)
    # Under gradient accumulation most batches do not move the weights.
    model.stepped = tf.not_equal(before, tf.identity(model.optimizer.iterations))
    model.after_update()
    model.record(losses, data)
    return model.get_metrics_result()


def _frozen(model: Any) -> list[tuple[Any, Any, Any]]:
    """(variable, whether it is frozen in this step, its value before the step)."""
    return [
        (variable, tf.convert_to_tensor(flag), tf.identity(variable.value))
        for variables, flag in model.frozen_variables()
        for variable in variables
    ]


def _without(frozen: list, gradients: list, variables: list) -> list:
    """The gradients, zero where a variable is frozen: clipping by a norm must not see them."""
    flags = {id(variable): flag for variable, flag, _ in frozen}
    found = []
    for gradient, variable in zip(gradients, variables, strict=True):
        if id(variable) in flags:
            zeros = tf.zeros_like(variable.value)
            # Sparse gradients of embeddings are made dense; one that stands still may have none.
            dense = zeros if gradient is None else tf.convert_to_tensor(gradient)
            gradient = tf.where(flags[id(variable)], zeros, dense)
        found.append(gradient)
    return found


def _restore(frozen: list) -> None:
    """Undoes what decay and momentum did to frozen variables, in whatever way they did it."""
    if frozen:
        values = [tf.where(flag, old, variable.value) for variable, flag, old in frozen]
        distribution.assign_all([variable for variable, _, _ in frozen], values, equal=True)


def _check_rows(batch: Any, model: Any) -> None:
    first = keras.tree.flatten(batch)[0]
    message = (
        f"{type(model).__name__} needs at least {model.minimum_batch} rows in a batch on every "
        "replica (it compares rows or takes batch statistics). Use a larger batch_size, or "
        "dataset.batch(..., drop_remainder=True) if only the last batch is short."
    )
    together = model.rows_together
    groups = (
        f"{type(model).__name__} takes rows in groups of {together}, so their number on every "
        "replica must be a multiple. Use another batch_size, or dataset.batch(..., "
        "drop_remainder=True) if only the last batch is short."
    )
    if first.shape[0] is None:
        rows = tf.shape(first)[0]
        tf.debugging.assert_greater_equal(rows, model.minimum_batch, message)
        tf.debugging.assert_equal(rows % together, 0, groups)
    elif first.shape[0] < model.minimum_batch:
        raise ValueError(f"{message} Received {first.shape[0]}.")
    elif first.shape[0] % together:
        raise ValueError(f"{groups} Received {first.shape[0]}.")


def _checked_indices(index: Any, model: Any) -> Any:
    # XLA has no assertions: a step that is compiled as a whole goes on unchecked.
    message = (
        f"{type(model).__name__} was made for samples={model.samples} rows, numbered from 0; the "
        "data yields a number outside of that. Yield (x, index), not (x, label), and build the "
        "model with the size of the data set."
    )
    checks = [
        tf.debugging.assert_non_negative(index, message),
        tf.debugging.assert_less(index, tf.cast(model.samples, index.dtype), message),
    ]
    # What gathers by these numbers must wait, or its own error may come first.
    with tf.control_dependencies([check for check in checks if check is not None]):
        return tf.identity(index)
