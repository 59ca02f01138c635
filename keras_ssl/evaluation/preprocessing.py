# SPDX-License-Identifier: Apache-2.0
"""The preprocessing that an encoder carries, and another one in its place."""

from __future__ import annotations

import warnings
from typing import Any

import keras

from keras_ssl.views import Preprocessing


def parts_of(encoder: Any) -> tuple[list, Any]:
    """What an encoder does to raw images, and the network behind it.

    Args:
        encoder: a Keras model.

    Returns:
        Layers in front of the network, none where it is the whole encoder, and the network.
    """
    if isinstance(encoder, keras.Model) and getattr(encoder, "inputs", None):
        layers = [x for x in encoder.layers if not isinstance(x, keras.layers.InputLayer)]
        if len(layers) in (1, 2) and isinstance(layers[-1], keras.Model):
            return layers[:-1], layers[-1]
    return [], encoder


def preprocessing_of(encoder: Any) -> Preprocessing | None:
    """The preprocessing inside of an encoder.

    Args:
        encoder: a self-supervised model of this package, what its `standalone_encoder` or
            `with_preprocessing` gives, or a file's content that was one of these.

    Returns:
        A `views.Preprocessing` with the size of the network's images, where that is fixed; None for
        an encoder that takes its images as they are.

    Example:
        >>> from keras_ssl import backbones
        >>> wanted = Preprocessing((16, 16), (0.5,), (0.25,))
        >>> encoder = with_preprocessing(backbones.ConvNet((16, 16, 1), (8,)), wanted)
        >>> preprocessing_of(encoder).mean
        (0.5,)
    """
    if hasattr(encoder, "standalone_encoder"):
        found = getattr(getattr(encoder, "views", None), "preprocessing", None)
        if isinstance(found, Preprocessing):
            return found
        encoder = encoder.standalone_encoder()
    front, network = parts_of(encoder)
    if not front:
        return None
    if isinstance(front[0], Preprocessing):
        return front[0]
    if not isinstance(front[0], keras.layers.Rescaling):
        return None
    size = tuple(network.input_shape[1:3])
    top = 255.0 if _whole(encoder) else 1.0
    scale, offset = (x if isinstance(x, list | tuple) else [x] for x in _numbers(front[0]))
    if not any(offset) and all(abs(top * s - 1.0) < 1e-6 for s in scale):
        return Preprocessing(None if None in size else size)
    std = tuple(1.0 / (top * s) for s in scale)
    mean = tuple(-o * s for o, s in zip(offset, std, strict=True))
    return Preprocessing(None if None in size else size, mean, std)


def with_preprocessing(
    encoder: Any,
    preprocessing: Preprocessing,
    image_shape: tuple[int, int, int] | None = None,
    dtype: str = "uint8",
) -> keras.Model:
    """An encoder of raw images by a given preprocessing, which its file will have inside.

    Whatever preprocessing the encoder had is replaced. Weights are shared.

    Args:
        encoder: a self-supervised model of this package, or a functional Keras model, with a
            preprocessing in front or without.
        preprocessing: from raw images to what the network takes.
        image_shape: (height, width, channels) of the raw images; None for those of the network.
        dtype: of the raw images, "uint8" (0..255) or "float32" (0..1, or of the range that `mean`
            and `std` are of).

    Returns:
        Functional model in inference mode, from (B, *image_shape) to what the network gives.

    Raises:
        ValueError: if the network does not take images of the size that the preprocessing gives, or
            the size of the raw images is not known.

    Warns:
        UserWarning: if the encoder was trained on images of another size.

    Source: Revisiting pre-trained remote sensing model benchmarks: resizing and normalization
    matters, 2023.

    Example:
        >>> import numpy as np
        >>> from keras_ssl import backbones
        >>> network = backbones.ConvNet((16, 16, 1), (8,))
        >>> encoder = with_preprocessing(network, Preprocessing((16, 16)), (28, 28, 1))
        >>> encoder(np.zeros((2, 28, 28, 1), "uint8")).shape
        TensorShape([2, 8])
    """
    before = preprocessing_of(encoder)
    if hasattr(encoder, "standalone_encoder"):
        encoder = encoder.standalone_encoder(preprocessing=False)
    _, network = parts_of(encoder)
    taken = tuple(network.input_shape[1:])
    shape = taken if image_shape is None else tuple(image_shape)
    size = preprocessing.size or shape[:2]
    if len(shape) != 3 or None in shape or None in size:
        raise ValueError(
            f"The raw images have shape {shape}, expected known height, width and channels: give "
            "image_shape."
        )
    if any(is_ not in (None, of) for is_, of in zip(taken[:2], size, strict=True)):
        raise ValueError(
            f"The preprocessing gives images of {size}, but the network takes {taken[:2]}: give "
            f"Preprocessing({taken[:2]}, ...)."
        )
    if before is not None and before.size not in (None, size):
        warnings.warn(
            f"The encoder was trained on images of {before.size} and gets some of {size}: its "
            "features of another size are worse, unless objects are as large as they were.",
            stacklevel=2,
        )
    images = keras.Input(shape, dtype=dtype, name="images")
    features = network(preprocessing(images), training=False)
    return keras.Model(images, features, name="encoder")


def fitted(encoder: Any, images: Any, preprocessing: Preprocessing | None) -> Any:
    """An encoder that takes given images: by its own preprocessing, or by another.

    Args:
        encoder: a Keras model.
        images: what it is to take.
        preprocessing: in place of its own; None for its own.

    Returns:
        The encoder itself, where its own takes the images as they are.

    Raises:
        ValueError: for images that are neither an array nor a dataset of those, where there is
            something to change.
    """
    own = preprocessing or (preprocessing_of(encoder) if _is_plain(encoder) else None)
    spec = _spec(images)
    if own is None or (preprocessing is None and _takes(encoder, spec)):
        return encoder
    if spec is None:
        raise ValueError(
            "A preprocessing is of images (samples, height, width, channels): an array, or a "
            "tf.data.Dataset of batches."
        )
    shape, dtype = spec
    return with_preprocessing(encoder, own, shape, "uint8" if "int" in dtype else "float32")


def _is_plain(encoder: Any) -> bool:
    """A model of this package prepares images of any size by itself."""
    return not hasattr(encoder, "standalone_encoder")


def _takes(encoder: Any, spec: tuple | None) -> bool:
    """Keras would cast 0..1 to whole numbers, or leave 0..255 as they are."""
    if spec is None:
        return True
    pairs = zip(tuple(encoder.input_shape[1:]), spec[0], strict=True)
    return all(own in (None, given) for own, given in pairs) and _whole(encoder) == (
        "int" in spec[1]
    )


def _spec(images: Any) -> tuple[tuple, str] | None:
    """Shape of one image and dtype, of an array or a dataset of batches."""
    images = getattr(images, "element_spec", images)
    images = images[0] if isinstance(images, tuple) else images
    shape = getattr(images, "shape", None)
    if shape is None or len(shape) != 4:
        return None
    return tuple(shape[1:]), keras.backend.standardize_dtype(images.dtype)


def _whole(encoder: Any) -> bool:
    return "int" in keras.backend.standardize_dtype(encoder.inputs[0].dtype)


def _numbers(rescaling: Any) -> tuple[Any, Any]:
    config = rescaling.get_config()
    return config["scale"], config["offset"]
