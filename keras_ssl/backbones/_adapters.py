# SPDX-License-Identifier: Apache-2.0
"""Encoders out of `keras.applications` and keras-cv."""

from __future__ import annotations

import difflib
import inspect
import logging
from typing import Any

import keras

from keras_ssl.layers._batch_norm import synchronize_batch_norm, unsynchronized_batch_norms
from keras_ssl.layers._encoder import as_encoder

log = logging.getLogger("keras_ssl")


def from_keras_applications(
    name_or_model: str | keras.Model,
    input_shape: tuple[int, int, int] | None = None,
    weights: str | None = None,
    *,
    synchronized: bool = True,
    **options: Any,
) -> keras.Model:
    """Makes an encoder of a network of `keras.applications`.

    The classifier is left out and the feature map averaged. Views reach the encoder as floats
    that the views have normalised, so a network's own preprocessing is turned off where its
    builder allows it (`include_preprocessing`).

    Args:
        name_or_model: Name such as `"MobileNetV2"`, or a network that is already built.
        input_shape: `(height, width, channels)`; needed with a name.
        weights: `None` for random weights, `"imagenet"` (downloads them) or a file.
        synchronized: Whether batch statistics are shared between replicas (TensorFlow).
        **options: Other arguments of the network's builder, such as `alpha=0.5`.

    Returns:
        A model from `(batch, height, width, channels)` floats to `(batch, features)`.

    Raises:
        ValueError: If the name is unknown (the nearest are shown) or the shape does not suit it.
        ConnectionError: If the weights cannot be downloaded.

    Example:
        >>> from_keras_applications("MobileNetV2", (32, 32, 3), alpha=0.35).output_shape
        (None, 1280)
    """
    if isinstance(name_or_model, keras.Model):
        return _finish(name_or_model, synchronized)
    builder = _application(name_or_model)
    if input_shape is None:
        raise ValueError(
            f"{name_or_model!r} by name needs input_shape=(height, width, channels) as well."
        )
    if "include_preprocessing" in inspect.signature(builder).parameters:
        options.setdefault("include_preprocessing", False)
    arguments = {"include_top": False, "input_shape": tuple(input_shape), **options}
    try:
        model = builder(weights=weights, **arguments)
    except Exception as error:
        if weights is None or isinstance(error, ValueError):
            raise
        raise ConnectionError(
            f"the {weights!r} weights of {name_or_model} could not be fetched ({error}). They need "
            "the network once; without it use weights=None or the path of a weights file."
        ) from error
    _warn_of_rescaling(model)
    return _finish(model, synchronized)


def from_keras_cv(
    model_or_preset: keras.Model | str,
    input_shape: tuple[int, int, int] | None = None,
    *,
    synchronized: bool = True,
    **options: Any,
) -> keras.Model:
    """Makes an encoder of a keras-cv backbone.

    Args:
        model_or_preset: A backbone that is already built, such as
            `keras_cv.models.ResNetBackbone(...)`, or the name of a preset, such as
            `"resnet50_imagenet"`. A preset is looked up on a hub even for its architecture
            alone, so it needs the network.
        input_shape: `(height, width, channels)` for a preset; `None` keeps its own.
        synchronized: Whether batch statistics are shared between replicas (TensorFlow).
        **options: Other arguments of `keras_cv.models.Backbone.from_preset`, such as
            `load_weights=False`.

    Returns:
        A model from `(batch, height, width, channels)` floats to `(batch, features)`.

    Raises:
        ValueError: If no preset has that name; the nearest are shown.
        ConnectionError: If the preset cannot be fetched.
        ModuleNotFoundError: If keras-cv is not installed.
    """
    if isinstance(model_or_preset, keras.Model):
        return _finish(model_or_preset, synchronized)
    try:
        import keras_cv
    except ImportError as error:
        raise ModuleNotFoundError(
            "a keras-cv preset needs keras-cv: pip install keras-cv, or pass a built model."
        ) from error
    if input_shape is not None:
        options["input_shape"] = tuple(input_shape)
    backbone = _keras_cv_class(keras_cv.models, model_or_preset)
    try:
        model = backbone.from_preset(model_or_preset, **options)
    except Exception as error:
        raise ConnectionError(
            f"the keras-cv preset {model_or_preset!r} could not be loaded ({error}). Presets need "
            "the network, also without their weights; without it pass a built backbone, such as "
            "keras_cv.models.ResNetBackbone(...)."
        ) from error
    return _finish(model, synchronized)


def _application(name: str) -> Any:
    """Finds the builder of a network, whatever the name's case."""
    builders = {
        key.lower(): (key, value)
        for key, value in vars(keras.applications).items()
        if callable(value) and key[0].isupper()
    }
    if str(name).lower() in builders:
        return builders[str(name).lower()][1]
    near = difflib.get_close_matches(str(name).lower(), builders, n=3, cutoff=0.4)
    shown = ", ".join(builders[key][0] for key in near) or "ResNet50, MobileNetV2, EfficientNetV2B0"
    raise ValueError(f"keras.applications has no network {name!r}. Nearest: {shown}.")


def _keras_cv_class(library: Any, preset: str) -> Any:
    """Finds the backbone class that a preset is of; keras-cv resolves names class by class."""
    classes = [
        value
        for value in vars(library).values()
        if inspect.isclass(value) and issubclass(value, library.Backbone) and value.presets
    ]
    # The class with most presets is the general one, of which the others are fixed sizes.
    for value in sorted(classes, key=lambda value: -len(value.presets)):
        if preset in value.presets:
            return value
    if "/" in preset:
        return library.Backbone
    known = {name for value in classes for name in value.presets}
    near = difflib.get_close_matches(preset, known, n=3, cutoff=0.4) or sorted(known)[:3]
    raise ValueError(
        f"keras-cv has no backbone preset {preset!r}. Nearest: {', '.join(near)}. A handle such as "
        "kaggle://... is taken too, or a built backbone."
    )


def _warn_of_rescaling(model: keras.Model) -> None:
    for layer in model.layers[:3]:
        if isinstance(layer, keras.layers.Rescaling):
            log.warning(
                "%r rescales its input itself and expects pixels of 0 to 255; views are floats of "
                "0 to 1. With pre-trained weights put keras.layers.Rescaling(255) in front.",
                model.name,
            )
            return


def _finish(model: keras.Model, synchronized: bool) -> keras.Model:
    encoder = as_encoder(model)
    if (
        synchronized
        and keras.backend.backend() == "tensorflow"
        and unsynchronized_batch_norms(encoder)
    ):
        encoder = synchronize_batch_norm(encoder)
    return encoder
