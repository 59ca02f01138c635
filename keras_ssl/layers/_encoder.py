# SPDX-License-Identifier: Apache-2.0
"""Any Keras model as an encoder: input to one vector for each sample."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import keras

log = logging.getLogger("keras_ssl")


def as_encoder(
    model: keras.Model, input_shape: tuple[int | None, ...] | None = None
) -> keras.Model:
    """Returns the model as an encoder, from its input to one vector for each sample.

    A model that already gives vectors is returned as it is. A feature map, `(batch, height,
    width, channels)` or of another rank, is averaged over its positions, and the log says so.

    Args:
        model: A Keras model with one output.
        input_shape: Shape of one sample, without the batch. Needed only for a subclassed model
            that has not been called yet.

    Returns:
        A model whose output has shape `(batch, features)` with `features` known. Its weights are
        those of `model`, not copies.

    Raises:
        TypeError: If `model` is not a Keras model.
        ValueError: If the model has several outputs, gives scalars, or has no fixed output width.

    Example:
        >>> inputs = keras.Input((32, 32, 3))
        >>> convolution = keras.Model(inputs, keras.layers.Conv2D(8, 3)(inputs))
        >>> as_encoder(convolution).output_shape
        (None, 8)
    """
    if not isinstance(model, keras.Model):
        raise TypeError(
            f"an encoder is a Keras model from input to vector, received {type(model).__name__}. "
            "Wrap layers in keras.Sequential([...]) or keras.Model(inputs, outputs)."
        )
    model = _with_tensors(model, input_shape)
    if len(model.outputs) != 1:
        raise ValueError(
            f"an encoder has one output, {model.name!r} has {len(model.outputs)}. Choose one: "
            "keras.Model(model.inputs, model.outputs[0])."
        )
    output = model.outputs[0]
    _check_output(model, output)
    if len(output.shape) == 2:
        return model
    pooled, kind = _pool(output)
    log.info(
        "encoder %r gives a feature map of shape %s; it is averaged over its %s to a vector of "
        "width %d.",
        model.name,
        tuple(output.shape),
        kind,
        pooled.shape[-1],
    )
    # A sequential model that was never called has no `input`.
    inputs = model.inputs[0] if isinstance(model, keras.Sequential) else model.input
    return keras.Model(inputs, pooled, name=f"{model.name}_pooled")


def for_sizes(encoder: keras.Model, sizes: Sequence[tuple[int, int] | None]) -> keras.Model:
    """Returns the encoder in a form that takes images of several sizes, sharing its weights.

    Args:
        encoder: What `as_encoder` returned.
        sizes: `(height, width)` of the views; None for that of the images.

    Returns:
        The encoder itself where its input has these sizes or leaves them open.

    Raises:
        ValueError: If it cannot take one of the sizes.

    Example:
        >>> crops = for_sizes(backbones.ResNet(18, (224, 224, 3)), [(224, 224), (96, 96)])
        >>> crops(keras.ops.ones((1, 96, 96, 3))).shape
        (1, 512)
    """
    own = tuple(encoder.input_shape[1:-1])
    others = {s for s in sizes if s is not None and tuple(s) != own} if None not in own else set()
    if not others:
        return encoder
    size = min(others)
    try:
        flexible = _any_size(encoder)
        for size in sorted(others):
            # With numbers: shapes alone are not held against those a layer was built for.
            crop = keras.ops.zeros((1, *size, encoder.input_shape[-1]))
            width = flexible(crop, training=False).shape[-1]
            if width != encoder.output_shape[-1]:
                raise ValueError(f"it gives {width} features there, not {encoder.output_shape[-1]}")
    except Exception as error:
        raise ValueError(
            f"views of {size[0]} x {size[1]} pixels do not fit the encoder {encoder.name!r}, made "
            f"for {own[0]} x {own[1]}. Give every view that size, or take an encoder that is "
            "convolutions and global pooling up to its end, without flattening or a table of "
            f"positions. ({error})"
        ) from error
    return flexible


def _any_size(model: keras.Model) -> keras.Model:
    """The layers of a functional model, not copies, on an input of open height and width."""
    if isinstance(model, keras.Sequential) or len(model.inputs) != 1 or len(model.input.shape) != 4:
        return model
    return keras.models.clone_model(
        model,
        input_tensors=keras.Input((None, None, model.input.shape[-1]), dtype=model.input.dtype),
        clone_function=lambda part: _any_size(part) if isinstance(part, keras.Model) else part,
    )


def _with_tensors(model: keras.Model, input_shape: Any) -> keras.Model:
    """Gives symbolic input and output to models that have none (subclassed, unbuilt)."""
    if getattr(model, "inputs", None) and getattr(model, "outputs", None):
        return model
    if input_shape is None:
        shape = (model.get_build_config() or {}).get("input_shape")
        if not shape:
            raise ValueError(
                f"the input shape of {model.name!r} is not known. Call it once on a batch, or "
                "pass input_shape=(height, width, channels)."
            )
        input_shape = tuple(shape)[1:]
    inputs = keras.Input(tuple(input_shape))
    return keras.Model(inputs, model(inputs), name=model.name)


def _check_output(model: keras.Model, output: Any) -> None:
    shape = tuple(output.shape)
    if len(shape) < 2:
        raise ValueError(
            f"an encoder gives a vector for each sample, {model.name!r} gives shape {shape}. "
            "Take an earlier layer's output."
        )
    if len(shape) > 5:
        raise ValueError(
            f"an encoder gives a vector or a feature map, {model.name!r} gives shape {shape}. "
            "Pool it yourself and pass keras.Model(inputs, pooled)."
        )
    if shape[_channel_axis(len(shape))] is None:
        raise ValueError(
            f"encoder {model.name!r} has no fixed output width: its output shape is {shape}. Give "
            "the model a fixed input shape, or end it with global pooling."
        )


def _channel_axis(rank: int) -> int:
    first = keras.config.image_data_format() == "channels_first"
    return 1 if first and rank > 3 else -1


def _pool(output: Any) -> tuple[Any, str]:
    """Averages everything between the batch and the channels."""
    if len(output.shape) == 3:
        return keras.layers.GlobalAveragePooling1D(
            data_format="channels_last", name="average_positions"
        )(output), "positions"
    if len(output.shape) == 4:
        return keras.layers.GlobalAveragePooling2D(name="average_positions")(output), "positions"
    return keras.layers.GlobalAveragePooling3D(name="average_positions")(output), "positions"
