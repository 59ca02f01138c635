# SPDX-License-Identifier: Apache-2.0
"""Recipes: a method with everything around it, one file each, with its source."""

from __future__ import annotations

import importlib
import pkgutil

# Importing the models fills the registry that recipes look methods up in.
from keras_ssl import models as _models  # noqa: F401
from keras_ssl.core import registry
from keras_ssl.core.registry import plain
from keras_ssl.recipes._recipe import Optimizer, Recipe, Transformer

__all__ = [
    "Optimizer",
    "Recipe",
    "Transformer",
    "for_images",
    "get",
    "names",
    "of_images",
    "of_method",
]

DIGITS_SIDE, CIFAR_SIDE = 24, 96


def names() -> list[str]:
    """The names of all recipes, `method_data`."""
    files = (module.name for module in pkgutil.iter_modules(__path__))
    return sorted(name for name in files if not name.startswith("_"))


def get(name: str) -> Recipe:
    """A recipe by its name.

    Args:
        name: for example `"simclr_cifar"`.

    Returns:
        The recipe.

    Raises:
        ValueError: for an unknown name, with the nearest ones.

    Example:
        >>> get("byol_imagenet").batch_size
        4096
    """
    key = name.lower().replace("-", "_")
    if key not in names():
        raise ValueError(f"Unknown recipe {name!r}. {registry.nearest(name, names())}")
    return _read(key)


def of_method(method: str) -> list[Recipe]:
    """All recipes of a method.

    Args:
        method: name of a model class, such as `"SimCLR"`.

    Returns:
        Its recipes in order of name; none for a method that has none.

    Raises:
        ValueError: for an unknown method, with the nearest names.

    Example:
        >>> [recipe.name for recipe in of_method("dino")]
        ['dino_cifar', 'dino_imagenet', 'dino_resnet_cifar']
    """
    own = registry.find(method).__name__
    return [recipe for recipe in map(_read, names()) if recipe.method == own]


def _read(name: str) -> Recipe:
    return importlib.import_module(f"keras_ssl.recipes.{name}").RECIPE


def for_images(method: str, image_shape: tuple[int, ...]) -> Recipe:
    """The recipe of a method for images of a size.

    Args:
        method: name of a model class, such as `"SimCLR"`.
        image_shape: `(height, width, channels)`; below 24 pixels a side or with one channel up
            to 96 the recipe for digits where there is one, else up to 96 that for CIFAR, above
            that for ImageNet.

    Returns:
        The recipe.

    Raises:
        ValueError: for an unknown method, with the nearest names, or one without a recipe for
            images.
    """
    cls = registry.find(method)
    side = max(image_shape[:2])
    if side > CIFAR_SIDE:
        data = "imagenet"
    else:
        data = "digits" if side < DIGITS_SIDE or image_shape[-1] == 1 else "cifar"
    own = [get(name) for name in names() if _of(name, cls.__name__)]
    found = {recipe.data: recipe for recipe in own if recipe.image_shape is not None}
    if found:
        return found.get(data) or found["cifar"]
    if own:
        return of_images(own[0])
    raise ValueError(
        f"{cls.__name__} has no recipe. Use its class in Python; `keras-ssl show {cls.__name__}` "
        "prints how."
    )


def of_images(recipe: Recipe) -> Recipe:
    """A recipe, if its samples are images.

    Raises:
        ValueError: if they are not.
    """
    if recipe.image_shape is None:
        raise ValueError(
            f"{recipe.method} is no method of images alone: recipe {recipe.name} takes samples of "
            f"shape {recipe.sample_shape}. In Python: recipes.get({recipe.name!r}).build("
            "steps_per_epoch=...) makes the model, and its fit takes arrays or a tf.data.Dataset."
        )
    return recipe


def _of(recipe: str, method: str) -> bool:
    return plain(recipe.rpartition("_")[0]) == plain(method)
