# SPDX-License-Identifier: Apache-2.0
"""Batch normalization as the papers set it, and shared between replicas."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import keras
from keras import ops

from keras_ssl.core import distribution

MOMENTUM = 0.9
EPSILON = 1e-5


def batch_norm(*, synchronized: bool = True, **kwargs: Any) -> keras.layers.BatchNormalization:
    """Makes a batch normalization with momentum 0.9 and epsilon 1e-5.

    These are the values of the published codes (momentum 0.1 in PyTorch's counting); Keras's own
    defaults of 0.99 and 1e-3 are not.

    Args:
        synchronized: Whether replicas share batch statistics. It applies to TensorFlow, the
            only Keras backend that can; elsewhere it is left off.
        **kwargs: Other arguments of `keras.layers.BatchNormalization`.

    Returns:
        The layer, not yet built.

    Example:
        >>> batch_norm(center=False).momentum
        0.9
    """
    return keras.layers.BatchNormalization(
        **{
            "momentum": MOMENTUM,
            "epsilon": EPSILON,
            "synchronized": synchronized and keras.backend.backend() == "tensorflow",
            **kwargs,
        }
    )


def masked_batch_norm(
    layer: keras.layers.BatchNormalization, inputs: Any, active: Any, training: bool = False
) -> Any:
    """Runs a batch normalization on some positions of its maps, as if there were no others.

    Args:
        layer: A built layer over the last axis; replicas share statistics where it is
            `synchronized`.
        inputs: `(batch, n1, ..., nd, channels)`, zero where a position does not count.
        active: `(batch, n1, ..., nd, 1)`, 1 where it counts and 0 elsewhere.
        training: Whether statistics are those of the batch and move the layer's.

    Returns:
        As the inputs, zero where a position does not count.

    Source: SparK, Tian et al. 2023, section 3.2.

    Example:
        >>> norm = batch_norm()
        >>> norm.build((None, 4, 4, 8))
        >>> active = keras.ops.ones((2, 4, 4, 1))
        >>> masked_batch_norm(norm, keras.ops.ones((2, 4, 4, 8)), active, training=True).shape
        (2, 4, 4, 8)
    """
    x, weight = ops.cast(inputs, "float32"), ops.cast(active, "float32")
    mean, variance = layer.moving_mean, layer.moving_variance
    if training and layer.trainable:
        axes = tuple(range(len(x.shape) - 1))

        def total(*sums):
            return distribution.all_reduce_sum(list(sums)) if layer.synchronized else sums

        count, first = total(ops.reshape(ops.sum(weight), (1,)), ops.sum(x, axis=axes))
        count = ops.maximum(count, 1.0)
        mean = first / count
        # Of the differences: a difference of large squares loses a small variance in float32.
        (second,) = total(ops.sum(ops.square((x - mean) * weight), axis=axes))
        variance = second / count
        for moving, found in ((layer.moving_mean, mean), (layer.moving_variance, variance)):
            moving.assign(moving * layer.momentum + found * (1.0 - layer.momentum))
    scale = ops.rsqrt(variance + layer.epsilon)
    if layer.scale:
        scale = scale * layer.gamma
    x = (x - mean) * scale
    if layer.center:
        x = x + layer.beta
    return ops.cast(x * weight, layer.compute_dtype)


def synchronize_batch_norm(model: keras.Model) -> keras.Model:
    """Copies a model so that its batch normalizations share statistics between replicas.

    Nested models are converted too. The copy computes what the original computes on one replica
    and starts from the same weights; the original is left alone.

    Args:
        model: A built Keras model.

    Returns:
        A model of the same class, layer names and weights.

    Raises:
        ValueError: If the model is not built or cannot be rebuilt from its configuration.

    Example:
        >>> inputs = keras.Input((8,))
        >>> model = keras.Model(inputs, keras.layers.BatchNormalization(name="norm")(inputs))
        >>> unsynchronized_batch_norms(model)
        ['norm']
        >>> unsynchronized_batch_norms(synchronize_batch_norm(model))
        []
    """
    copy = rebuild(model, "synchronize_batch_norm")
    if keras.backend.backend() == "tensorflow":
        for _, layer in _walk(copy):
            # Layers of this package that own batch norms rebuild them from this same attribute,
            # so that the setting survives saving.
            if hasattr(layer, "synchronized"):
                layer.synchronized = True
    return copy


def unsynchronized_batch_norms(model: keras.Model) -> list[str]:
    """Names the batch normalizations whose statistics stay within one replica.

    Args:
        model: A Keras model or layer; everything inside it is searched.

    Returns:
        Their names, in order, with the names of the models and layers they sit in, such as
        `"encoder/stage_1/norm"`. Empty when all are synchronized or there is none.
    """
    return [
        path
        for path, layer in _walk(model)
        if isinstance(layer, keras.layers.BatchNormalization) and not layer.synchronized
    ]


def rebuild(model: keras.Model, caller: str, convert: Callable | None = None) -> keras.Model:
    """Copies a model with its weights, its layers as they are or converted one by one.

    Args:
        model: a built Keras model.
        caller: name of the public function, for messages.
        convert: from a layer to the layer in its place, with the same weights.

    Returns:
        The copy.

    Raises:
        ValueError: if the model is not built or cannot be rebuilt from its configuration.
    """
    if not model.built:
        raise ValueError(
            f"{caller} needs a built model to copy the weights of; {model.name!r} is not built. "
            "Call it once on a batch first."
        )
    copy = _clone(model, convert)
    copy.set_weights(model.get_weights())
    for source, target in zip(model.variables, copy.variables, strict=True):
        target.trainable = source.trainable
    return copy


def _clone(model: keras.Model, convert: Callable | None) -> keras.Model:
    try:
        if convert is None:
            copy = keras.models.clone_model(model)
        else:
            copy = keras.models.clone_model(model, clone_function=convert, recursive=True)
        if not copy.built:
            config = model.get_build_config()
            copy.build_from_config(config if config else {})
    except Exception as error:
        raise ValueError(
            f"{model.name!r} ({type(model).__name__}) cannot be rebuilt from its configuration: "
            f"{error}. Give the class a get_config, or build its batch normalizations with "
            "synchronized=True."
        ) from error
    if len(copy.weights) != len(model.weights):
        raise ValueError(
            f"the copy of {model.name!r} has {len(copy.weights)} weights where the original has "
            f"{len(model.weights)}: its class does not rebuild itself from get_config(). Build its "
            "batch normalizations with synchronized=True instead."
        )
    return copy


def _walk(
    layer: keras.layers.Layer, prefix: str = "", seen: set[int] | None = None
) -> Iterator[tuple[str, keras.layers.Layer]]:
    """Yields `(path, layer)` for everything inside a layer, each layer once."""
    seen = {id(layer)} if seen is None else seen
    if not prefix and not isinstance(layer, keras.Model):
        yield layer.name, layer
    for child in _children(layer):
        if id(child) in seen:
            continue
        seen.add(id(child))
        path = f"{prefix}{child.name}"
        yield path, child
        yield from _walk(child, f"{path}/", seen)


def _children(layer: keras.layers.Layer) -> Iterator[keras.layers.Layer]:
    if isinstance(layer, keras.Model):
        yield from layer.layers
    else:
        yield from _layers_in(list(vars(layer).values()))


def _layers_in(value: Any) -> Iterator[keras.layers.Layer]:
    if isinstance(value, keras.layers.Layer):
        yield value
    elif isinstance(value, dict):
        yield from _layers_in(list(value.values()))
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from _layers_in(item)
