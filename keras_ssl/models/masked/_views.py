# SPDX-License-Identifier: Apache-2.0
"""Views of models that see one of a sample."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from keras_ssl import views as views_module


def one_view_of(model: Any, views: Any) -> Any:
    """A layer that makes one view of a sample, or `None`.

    Args:
        model: a `MaskedModeling`, which says of which samples and whether views may be several.
        views: name of views, a `views.Pipeline`, a layer that makes views, or `None`.

    Returns:
        The layer.

    Raises:
        ValueError: if it makes several, or of another size than the samples'.
    """
    if views is None:
        return None
    shape = model.masked_encoder.sample_shape
    if isinstance(views, views_module.Pipeline):
        views = views_module.MultiCrop([(views, 1)])
    views = views_module.get(views, image_shape=shape)
    if getattr(views, "count", 1) != 1 and not model.several_views:
        raise ValueError(
            f"{type(model).__name__} sees one view of a sample; {views.name!r} makes "
            f"{views.count}. Give a views.Pipeline, or None."
        )
    made = views.compute_output_shape((None, *shape))[0]
    if tuple(made[1:]) != tuple(shape):
        raise ValueError(
            f"the views are of {tuple(made[1:])}, the encoder was made for {tuple(shape)}."
        )
    return views


def check_samples(model: Any, samples: Any) -> None:
    """Raises when samples cannot be what an encoder was made for.

    Args:
        model: a `MaskedModeling`.
        samples: what it got.

    Raises:
        ValueError: for another rank or number of channels.
    """
    wanted = model.masked_encoder.sample_shape
    if isinstance(wanted, Mapping):
        raise ValueError(
            f"{type(model).__name__} takes a dict of arrays {list(wanted)}; received "
            f"{type(samples).__name__}."
        )
    shape: tuple = tuple(getattr(samples, "shape", ()))
    if len(shape) != len(wanted) + 1 or shape[-1] not in (wanted[-1], None):
        raise ValueError(
            f"{type(model).__name__} takes samples (batch, {', '.join(map(str, wanted))}); "
            f"received shape {shape}. Add or convert the channel axis, or build the encoder for "
            "it."
        )
