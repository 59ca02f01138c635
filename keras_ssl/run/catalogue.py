# SPDX-License-Identifier: Apache-2.0
"""The catalogue of methods for readers: all of them in a table, or all about one."""

from __future__ import annotations

import inspect
import re
import textwrap

# Importing the recipes imports the models, which fills the catalogue.
from keras_ssl import recipes
from keras_ssl.core import registry
from keras_ssl.core.registry import Method, plain
from keras_ssl.recipes import Recipe
from keras_ssl.run.text import columns

WIDTH = 100
HEADER = ("method", "year", "family", "modality", "needs", "recipes")


def methods(family: str | None = None) -> list[Method]:
    """The registered methods in order of family, year and name.

    Args:
        family: take those of this family alone; case and punctuation do not matter.

    Returns:
        The methods.

    Raises:
        ValueError: for a family that has no method, with those that have.
    """
    found = sorted(registry.methods().values(), key=lambda m: (m.family, m.year, m.name))
    if family is None:
        return found
    own = [method for method in found if plain(method.family) == plain(family)]
    if not own:
        known = ", ".join(dict.fromkeys(method.family for method in found))
        raise ValueError(f"No method is of the family {family!r}. Families: {known}.")
    return own


def listing(family: str | None = None) -> str:
    """The table of `methods`: what each declares, and the names of its recipes."""
    rows: list[tuple[str, ...]] = [HEADER]
    for method in methods(family):
        own = ", ".join(recipe.name for recipe in recipes.of_method(method.name))
        declared = (method.name, str(method.year), method.family, method.modality)
        rows.append((*declared, ", ".join(method.needs) or "-", own or "-"))
    return "\n".join(columns(rows))


def show(name: str) -> str:
    """All that a method declares about itself, and how one begins with it.

    Args:
        name: of the class; case and punctuation do not matter.

    Returns:
        Lines of at most 100 characters, but for code and tables.

    Raises:
        ValueError: for an unknown name, with the nearest ones.

    Example:
        >>> show("simclr").splitlines()[0]
        'SimCLR, 2020'
    """
    method = registry.methods()[registry.find(name).__name__]
    own = recipes.of_method(method.name)
    blocks = [
        f"{method.name}, {method.year}\n{_wrapped(method.paper)}",
        _wrapped(summary(method.cls)),
        "\n".join(_labelled(_facts(method))),
        "Arguments\n" + "\n".join(_arguments(method.cls)),
        "Recipes\n" + "\n".join(_recipes(own) or ["  none"]),
        "Start\n" + "\n".join(_start(method, own)),
    ]
    return "\n\n".join(blocks)


def summary(cls: type) -> str:
    """The first paragraph of a class's docstring, on one line."""
    return " ".join((inspect.getdoc(cls) or "").split("\n\n")[0].split())


def section(cls: type, title: str) -> str:
    """A section of a class's docstring.

    Args:
        cls: the class.
        title: of the section, such as `"Source"`.

    Returns:
        What stands below the title or beside it, `""` without such a section.
    """
    text = inspect.getdoc(cls) or ""
    # It ends where a line that is not indented follows an empty one.
    found = re.search(rf"^{title}: ?(.*?)(?=\n\n\S|\Z)", text, re.MULTILINE | re.DOTALL)
    if title == "Example" and found is not None:
        found = re.search(r"```python\n(.*?)```", text[found.start() :], re.DOTALL)
    return "" if found is None else textwrap.dedent(found[1]).strip("\n")


def explained(cls: type) -> dict[str, str]:
    """What the docstring of a class says about each of its arguments, `**kwargs` included."""
    # Several may share a line: `a, b: what both are.`
    found = re.split(r"^([\w*][\w*, ]*): ", section(cls, "Args"), flags=re.MULTILINE)[1:]
    pairs = zip(found[::2], found[1::2], strict=True)
    return {name: " ".join(text.split()) for names, text in pairs for name in names.split(", ")}


def _facts(method: Method) -> list[tuple[str, str]]:
    """What is told in a word or a sentence each."""
    cls = method.cls
    must = [name for name, needed in registry.arguments(cls, "seed").items() if needed]
    sees = ["labels (-1 where there is none)"] * cls.uses_labels
    sees += ["the number of each row"] * cls.uses_indices
    batches = [f"at least {cls.minimum_batch}"] * (cls.minimum_batch > 1)
    batches += [f"groups of {cls.rows_together} rows that stay together"] * (cls.rows_together > 1)
    batches += ["put together by clusters of the method's own"] * cls.guides_batches
    return [
        ("family", method.family),
        ("modality", method.modality),
        ("needs", ", ".join(method.needs) or "nothing particular"),
        ("views", _default(cls, "views")),
        ("beside samples", " and ".join(sees) or "nothing; labels are never seen"),
        ("must be given", ", ".join(must)),
        ("batch", ", ".join(batches) or "any"),
        ("loss", " + ".join(cls.loss_terms)),
        ("source", " ".join(section(cls, "Source").split())),
    ]


def _default(cls: type, name: str) -> str:
    """The default of an argument, of the class or of the one that it comes from."""
    for base in cls.__mro__:
        found = inspect.signature(base.__init__).parameters.get(name)
        if found is not None:
            return "none" if found.default is None else str(found.default)
    return "none"


def _arguments(cls: type) -> list[str]:
    told, lines = explained(cls), []
    for name, parameter in list(inspect.signature(cls.__init__).parameters.items())[1:]:
        if parameter.kind == parameter.VAR_KEYWORD:
            name = f"**{name}"
        default = "" if parameter.default is parameter.empty else f" = {parameter.default!r}"
        lines.append(f"  {name}{default}")
        lines.append(_wrapped(told.get(name, "see its class"), 6))
    return lines


def _recipes(own: list[Recipe]) -> list[str]:
    rows = [("recipe", "data", "backbone", "optimizer", "epochs", "batch")]
    for recipe in own:
        backbone = recipe.backbone
        if not isinstance(backbone, str):
            backbone = f"transformer, depth {backbone.depth}, width {backbone.width}"
        counts = (str(recipe.epochs), str(recipe.batch_size))
        rows.append((recipe.name, recipe.data, backbone, recipe.optimizer.kind, *counts))
    return [f"  {line}" for line in columns(rows)] if own else []


def _start(method: Method, own: list[Recipe]) -> list[str]:
    """The command, where there is one, the recipe's call and the example of the class."""
    lines = []
    if any(recipe.image_shape is not None and not recipe.missing() for recipe in own):
        lines.append(f"  keras-ssl pretrain --method {method.name} --data folder:PATH")
    for recipe in own[:1]:
        given = "".join(f"{name}=..., " for name in recipe.missing())
        lines.append(f'  recipes.get("{recipe.name}").build({given}steps_per_epoch=...)')
    if lines:
        lines.append("")
    return [*lines, textwrap.indent(section(method.cls, "Example"), "  ")]


def _labelled(facts: list[tuple[str, str]]) -> list[str]:
    lines = columns(facts)
    indent = " " * (max(len(label) for label, _ in facts) + 2)
    return [textwrap.fill(line, WIDTH, subsequent_indent=indent) for line in lines]


def _wrapped(text: str, indent: int = 0) -> str:
    space = " " * indent
    return textwrap.fill(text, WIDTH, initial_indent=space, subsequent_indent=space)
