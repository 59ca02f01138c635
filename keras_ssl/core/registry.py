# SPDX-License-Identifier: Apache-2.0
"""The catalogue of methods: what each class declares about itself, for errors, CLI and docs."""

from __future__ import annotations

import dataclasses
import difflib
import inspect
import re
from collections.abc import Callable, Iterable, Sequence

import keras


@dataclasses.dataclass(frozen=True)
class Method:
    """What a model class declares when it registers."""

    name: str
    cls: type
    paper: str
    year: int
    family: str
    modality: str
    needs: tuple[str, ...]


_METHODS: dict[str, Method] = {}


def register(
    *, paper: str, year: int, family: str, modality: str, needs: Sequence[str] = ()
) -> Callable[[type], type]:
    """Registers a model class with Keras (package `keras_ssl`) and in the catalogue.

    Args:
        paper: title of the paper.
        year: year of the paper.
        family: group of methods, for example `"contrastive"`.
        modality: what it trains on, for example `"image"`.
        needs: what it asks for beyond images, for example `("negatives",)`.

    Returns:
        A class decorator.
    """

    def decorate(cls: type) -> type:
        cls = keras.saving.register_keras_serializable(package="keras_ssl")(cls)
        _METHODS[cls.__name__] = Method(
            cls.__name__, cls, paper, year, family, modality, tuple(needs)
        )
        return cls

    return decorate


def methods() -> dict[str, Method]:
    """All registered methods by class name, in order of name."""
    return dict(sorted(_METHODS.items()))


def arguments(cls: type, *without: str) -> dict[str, bool]:
    """What the constructor of a model class takes, and those of the classes that it extends.

    Args:
        cls: the class.
        *without: names to leave out.

    Returns:
        Name → whether it must be given.
    """
    found: dict[str, bool] = {}
    for base in cls.__mro__:
        if base is keras.Model:
            break
        for name, parameter in inspect.signature(base.__init__).parameters.items():
            single = parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY)
            if single and name not in ("self", *without):
                # What a subclass does not ask for it fills itself, or has in its **kwargs.
                found.setdefault(name, base is cls and parameter.default is parameter.empty)
    return found


def plain(name: str) -> str:
    """A name without case, spaces and punctuation, so that `"MoCo v2"` and `"moco_v2"` are one."""
    return re.sub(r"[^a-z0-9]", "", name.lower())


def nearest(name: str, choices: Iterable[str]) -> str:
    """A sentence naming the closest choices to a name that was not found.

    Args:
        name: what was asked for.
        choices: the names that exist.

    Returns:
        `"Did you mean …?"` when something is close, else the list of names.
    """
    names = list(choices)
    by_lower = {choice.lower(): choice for choice in names}
    close = difflib.get_close_matches(name.lower(), list(by_lower), n=3, cutoff=0.5)
    if close:
        return "Did you mean " + " or ".join(by_lower[c] for c in close) + "?"
    return "Known names: " + ", ".join(sorted(names)) + "."


def find(name: str) -> type:
    """The model class of a name; case, spaces and punctuation do not matter.

    Args:
        name: for example `"SimCLR"` or `"barlow_twins"`.

    Returns:
        The class.

    Raises:
        ValueError: for an unknown name, with the nearest ones.
    """
    for key, method in _METHODS.items():
        if plain(key) == plain(name):
            return method.cls
    raise ValueError(f"Unknown method {name!r}. {nearest(name, _METHODS)}")
