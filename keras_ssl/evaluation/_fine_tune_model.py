# SPDX-License-Identifier: Apache-2.0
"""What is fine-tuned: a copy of the encoder under a new head."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras import ops

from keras_ssl.core.keras_private import all_layers
from keras_ssl.core.seeds import layer_seed
from keras_ssl.core.teacher import clone
from keras_ssl.evaluation.preprocessing import parts_of
from keras_ssl.layers._encoder import as_encoder, for_sizes
from keras_ssl.tokens import DistillationToken, RotaryPositions
from keras_ssl.views import Preprocessing


def is_transformer(network: Any) -> bool:
    """Whether a model has the parts of `backbones.VisionTransformer`."""
    return all(hasattr(network, part) for part in ("tokenizer", "prefix", "blocks", "norm"))


def unwrapped(encoder: Any) -> tuple[list, keras.Model]:
    """The network inside of an encoder that prepares its images itself.

    Args:
        encoder: `VisionTransformer`, any model from images to a vector or a feature map, what
            `standalone_encoder` gives, or a self-supervised model that has this method.

    Returns:
        Layers from images of 0..1 to what the network takes, and the network.

    Raises:
        TypeError: if it is no Keras model.
        ValueError: if it gives neither a vector nor a feature map.
    """
    if hasattr(encoder, "standalone_encoder"):
        encoder = encoder.standalone_encoder(dtype="float32")
    front: list = []
    if isinstance(encoder, keras.Model) and getattr(encoder, "inputs", None):
        if "int" in keras.backend.standardize_dtype(encoder.inputs[0].dtype):
            front.append(keras.layers.Rescaling(255.0, dtype="float32"))
        # A standalone encoder calls its network in inference mode, which would last.
        own, encoder = parts_of(encoder)
        front += own
    if not is_transformer(encoder):
        encoder = as_encoder(encoder)
    return front, encoder


def input_size(front: list, network: keras.Model, images: Any) -> tuple[int, int]:
    """Height and width that the network was made for; those of the images where it leaves them."""
    sizes = [part.size for part in front if isinstance(part, Preprocessing)]
    sizes += [tuple(network.input_shape[1:3]), tuple(images.shape[1:3])]
    return next(size for size in sizes if size is not None and None not in size)


def classifier(
    front: list,
    network: keras.Model,
    size: tuple[int, int],
    outputs: int,
    *,
    pooling: str | None,
    drop_path: float | None,
    seed: int,
    distilled: bool = False,
    positions: Any = None,
) -> keras.Model:
    """A copy of a network under a linear head that starts near zero.

    Args:
        front: layers in front of the network, as `unwrapped` gives them.
        network: vision transformer, or model from images to a vector.
        size: height and width of the images.
        outputs: number of classes or labels.
        pooling: `"mean"` or `"class"`, of a vision transformer; None keeps its own.
        drop_path: rate of the last block of a vision transformer; None keeps its own.
        seed: of the head, and of what drops at random.
        distilled: whether a vision transformer gets a distillation token with a head of its own.
        positions: of a vision transformer, in place of its own; None keeps them.

    Returns:
        Functional model from float32 images of 0..1, `(B, *size, C)`, to logits `(B, outputs)`, or
        those of both heads, `(B, 2, outputs)`.

    Raises:
        ValueError: for a class token that is not there, a size that the network cannot take, or a
            distillation token in another network.
    """
    images = keras.Input((*size, network.input_shape[-1]), name="images")
    x = images
    for part in front:
        # The size is settled already, and may be another than in pre-training.
        if isinstance(part, Preprocessing):
            part = part.changed(size=None, crop_fraction=1.0)
        x = part(x)
    if is_transformer(network):
        _check_patches(network, size)
        given = {"drop_path": drop_path, "positions": positions}
        changes = {name: value for name, value in given.items() if value is not None}
        copy = network.copied(seed=layer_seed(seed, 2), **changes)
        options = {"dtype": network.dtype_policy, "name": "distillation_token"}
        token = DistillationToken(layer_seed(seed, 3), **options)
        x, last = _transformer_features(copy, x, pooling, token if distilled else None)
    elif distilled:
        raise ValueError(
            f"A teacher is learned from by a distillation token; the encoder {network.name!r} has "
            "no tokens. Give a backbones.VisionTransformer."
        )
    else:
        copy = clone(network)
        copy.trainable = True
        x = for_sizes(copy, [size])(x)
    for index, layer in enumerate(all_layers(copy)):
        if hasattr(layer, "seed_generator"):
            layer.seed_generator.state.assign([layer_seed(seed, 1, index), 0])
    logits = _head(outputs, 2e-5, layer_seed(seed, 0), "head")(x)
    if distilled:
        second = _head(outputs, 0.02, layer_seed(seed, 4), "distillation_head")
        logits = ops.stack([logits, second(last)], axis=1)
    model = keras.Model(images, logits, name=f"{network.name}_classifier")
    # `compile` scales the loss where this says float16.
    model.dtype_policy = network.dtype_policy
    return model


def _head(outputs: int, deviation: float, seed: int | None, name: str) -> keras.layers.Dense:
    start = keras.initializers.TruncatedNormal(stddev=deviation, seed=seed)
    return keras.layers.Dense(outputs, kernel_initializer=start, dtype="float32", name=name)


def resizing(front: list, size: tuple[int, int]) -> Preprocessing:
    """What brings raw images to a size, by the rule of the encoder; normalised they are later."""
    own = [part for part in front if isinstance(part, Preprocessing)]
    return (own[0] if own else Preprocessing()).changed(size=size, mean=None, std=None)


def from_raw_images(model: keras.Model, images: np.ndarray, resize: Preprocessing) -> keras.Model:
    """The model behind the resizing and scaling that its images need, if any.

    Args:
        model: what `classifier` gives.
        images: `(N, H, W, C)` uint8 or float32.
        resize: what brings them to the model's size.

    Returns:
        Model from such images to logits, on the same weights.
    """
    shape = tuple(images.shape[1:])
    if images.dtype != np.uint8 and shape == tuple(model.input_shape[1:]):
        return model
    raw = keras.Input(shape, dtype=str(images.dtype), name="images")
    return keras.Model(raw, model(resize(raw)), name=model.name)


def _check_patches(network: Any, size: tuple[int, int]) -> None:
    if any(side % step for side, step in zip(size, network.patch, strict=True)):
        raise ValueError(
            f"images of {size[0]} x {size[1]} pixels cannot be cut into patches of "
            f"{network.patch[0]} x {network.patch[1]}; choose image_size as a multiple."
        )


def _transformer_features(
    network: Any, images: Any, pooling: str | None, token: Any = None
) -> tuple[Any, Any]:
    """Pooled tokens, and the distillation token where there is one.

    Behind the mean comes a norm of its own, in place of the last one.
    """
    x, angles = network.tokenizer(images), None
    if isinstance(network.positions, RotaryPositions):
        angles = network.positions(x)
    elif network.positions is not None:
        x = network.positions(x)
    x, front = network.prefix(x), network.prefix.count
    tokens = x.shape[1]
    if token is not None:
        x, angles = (token(x), None) if angles is None else token(x, angles)
    for block in network.blocks:
        x = block(x) if angles is None else block(x, angles=angles)
    pooling = pooling or network.get_config()["pooling"]
    pooling = pooling or ("class" if network.prefix.class_token else "mean")
    if pooling == "class":
        if not network.prefix.class_token:
            raise ValueError("The encoder has no class token to pool; use pooling='mean'.")
        x = network.norm(x)
        return x[:, 0], x[:, -1]
    policy, last = network.dtype_policy, None
    if token is not None:
        norm = keras.layers.LayerNormalization(epsilon=1e-6, dtype=policy, name="distillation_norm")
        last = norm(x[:, -1])
    x = keras.layers.GlobalAveragePooling1D(name="pool")(x[:, front:tokens])
    norm = keras.layers.LayerNormalization(epsilon=1e-6, dtype=policy, name="fc_norm")
    return norm(x), last
