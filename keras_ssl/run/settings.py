# SPDX-License-Identifier: Apache-2.0
"""What a run is asked to do, and the record of it that lets another run repeat it."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import platform
import sys
from collections.abc import Mapping
from typing import Any

from keras_ssl import recipes
from keras_ssl.recipes import Recipe

STRATEGIES = ("none", "mirrored")
PRECISIONS = {"float32": "float32", "bfloat16": "mixed_bfloat16", "float16": "mixed_float16"}
PACKAGES = ("keras_ssl", "keras", "tensorflow", "numpy", "scikit-learn")


@dataclasses.dataclass(frozen=True)
class Settings:
    """What a run is asked to do; None leaves the choice to the recipe or the data.

    Args:
        data: data set in the form of `keras_ssl.data.load`.
        data_dir: where `tfds:` data sets are prepared.
        image_size: side to which images are brought, in pixels.
        limit: most training images.
        method: name of a model class.
        recipe: name of a recipe; by default that of the method for images of this size.
        backbone: name of an encoder.
        backbone_options: arguments of its builder, in place of the recipe's.
        epochs: passes over the data.
        steps: most optimizer steps.
        batch_size: images in a step, over all replicas.
        strategy: `"none"` or `"mirrored"`.
        precision: `"float32"`, `"bfloat16"` or `"float16"`.
        seed: of weights, views and the order of the data.
        deterministic: whether every operation must give the same bits in every run.
        checkpoint_steps: steps between checkpoints; 0 leaves them to the clock.
    """

    data: str = "digits"
    data_dir: str | None = None
    image_size: int | None = None
    limit: int | None = None
    method: str | None = None
    recipe: str | None = None
    backbone: str | None = None
    backbone_options: Mapping[str, Any] | None = None
    epochs: int | None = None
    steps: int | None = None
    batch_size: int | None = None
    strategy: str = "none"
    precision: str = "float32"
    seed: int = 0
    deterministic: bool = False
    checkpoint_steps: int = 0

    def __post_init__(self) -> None:
        for name in ("epochs", "steps", "batch_size", "image_size", "limit"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} is {value}, expected a whole number of at least 1.")
        if self.checkpoint_steps < 0 or self.seed < 0:
            raise ValueError("seed and checkpoint_steps must not be negative.")
        _one_of("strategy", self.strategy, STRATEGIES)
        _one_of("precision", self.precision, tuple(PRECISIONS))

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Settings:
        """The settings a `config.json` holds.

        Args:
            config: its content.

        Returns:
            The settings.

        Raises:
            ValueError: if it is not one that this version understands.
        """
        values = config.get("settings")
        names = [field.name for field in dataclasses.fields(cls)]
        if not isinstance(values, Mapping):
            raise ValueError(
                "The configuration has no entry 'settings'; expected the config.json of a run."
            )
        unknown = sorted(set(values) - set(names))
        if unknown:
            raise ValueError(
                f"The configuration holds {', '.join(map(repr, unknown))}, unknown to this "
                f"version. Known: {', '.join(names)}."
            )
        return cls(**values)


def choose_recipe(settings: Settings, image_shape: tuple[int, ...]) -> Recipe:
    """The recipe of a run.

    Args:
        settings: what was asked for.
        image_shape: `(height, width, channels)` of the data.

    Returns:
        The recipe named, or else that of the method for images of this kind.

    Raises:
        ValueError: for an unknown name, a recipe of another method, or data or a recipe of other
            samples than images.
    """
    if len(image_shape) != 3:
        raise ValueError(
            f"The data has rows of shape {image_shape}, and the methods of the command line "
            "see images (height, width, channels). Use the Python interface for other data."
        )
    if settings.recipe is None:
        return recipes.for_images(settings.method or "simclr", image_shape)
    recipe = recipes.of_images(recipes.get(settings.recipe))
    if settings.method is not None and recipes.plain(settings.method) != recipes.plain(
        recipe.method
    ):
        raise ValueError(
            f"Recipe {settings.recipe!r} is one of {recipe.method}, but the method asked for is "
            f"{settings.method!r}. Leave one of the two out."
        )
    return recipe


def resolve(settings: Settings, recipe: Recipe) -> Settings:
    """Settings with nothing left open.

    Args:
        settings: what was asked for.
        recipe: the recipe of the run.

    Returns:
        The same with recipe, method, backbone, epochs and batch size filled in.
    """
    # One that has no name is the recipe's alone.
    named = recipe.backbone if isinstance(recipe.backbone, str) else None
    return dataclasses.replace(
        settings,
        recipe=recipe.name,
        method=recipe.method,
        backbone=settings.backbone or named,
        epochs=settings.epochs or recipe.epochs,
        batch_size=settings.batch_size or recipe.batch_size,
    )


def describe(settings: Settings, source: Any, device: str) -> dict[str, Any]:
    """The content of `config.json`.

    Args:
        settings: resolved settings.
        source: the data set, a `keras_ssl.data.Source`.
        device: what the run computes on.

    Returns:
        Settings, seeds, package versions, device and data, ready for JSON.
    """
    recipe = recipes.get(settings.recipe or "")
    return {
        "format": 1,
        "settings": dataclasses.asdict(settings),
        "recipe": {"name": recipe.name, "source": recipe.source},
        "seeds": {
            "weights": settings.seed,
            "views": settings.seed,
            "data_order": settings.seed,
            "label_draws": 0,
        },
        "data": {
            "name": source.name,
            "fingerprint": source.fingerprint,
            "rows": len(source.images),
            "test_rows": None if source.test is None else len(source.test.images),
            "image_shape": list(source.image_shape),
            "classes": source.num_classes,
        },
        "device": device,
        "packages": {"python": platform.python_version(), **_versions()},
        "platform": platform.platform(),
        "command": sys.argv,
    }


def _versions() -> dict[str, str]:
    versions = {}
    for package in PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            versions[package] = "not installed"
    return versions


def _one_of(name: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise ValueError(f"{name} is {value!r}, expected one of {', '.join(choices)}.")
