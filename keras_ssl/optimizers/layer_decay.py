# SPDX-License-Identifier: Apache-2.0
"""Layer-wise learning-rate decay: the nearer to the input, the smaller the step."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import keras

from keras_ssl.optimizers._rules import pattern_list

# What comes before the first block, here and in the published torch code.
_EMBEDDING = {"tokenizer", "positions", "prefix", "patch_embed", "pos_embed", "cls_token"}


def decay_of_layer(layer: int, depth: int, decay: float) -> float:
    """Factor of the learning rate of one layer, `decay ** (depth + 1 - layer)`.

    Args:
        layer: 0 for what comes before the first block, i for block i counted from 1, `depth + 1`
            for what comes behind the last.
        depth: number of blocks.
        decay: factor from one layer to the one before it, from 0 to 1.

    Returns:
        float; 1 behind the last block.

    Raises:
        ValueError: for a layer outside of 0 to depth + 1, or a decay outside of 0 to 1.

    Source: BEiT, 2021; Masked Autoencoders Are Scalable Vision Learners, 2021, table 9.

    Example:
        >>> decay_of_layer(12, depth=12, decay=0.5)
        0.5
    """
    if not 0.0 <= decay <= 1.0:
        raise ValueError(
            f"decay is {decay}, expected 0 to 1: the factor from one layer to the one before it "
            "(0.65 or 0.75 for MAE). 1 trains all layers alike."
        )
    if not 0 <= layer <= depth + 1:
        raise ValueError(
            f"layer is {layer}, expected 0 to {depth + 1} for a network of {depth} blocks."
        )
    return float(decay) ** (depth + 1 - layer)


def layer_decay_scales(
    network: keras.Model | Iterable[str],
    decay: float,
    depth: int | None = None,
    *,
    layer_of: Callable[[str], int] | None = None,
    exclude: str | Sequence[str] = (),
) -> dict[str, float]:
    """Factors of the learning rate for all variables of a network, for `AdamW(multipliers=...)`.

    A vision transformer is known by its names, those of `backbones.VisionTransformer`
    (`block1/…`) or of the published torch code (`blocks.0.…`): patch embedding, positions and
    class token are layer 0, block i is layer i, everything else (last norm, head) comes behind
    the last block. In any other model the layers are its stages: runs of layers whose feature
    maps have one size, counted from 0 at the largest; variables outside of feature maps come
    behind the last stage.

    Args:
        network: built model, or names of variables.
        decay: factor from one layer to the one before it, from 0 (only what is behind the last
            block moves) to 1.
        depth: number of blocks; None takes the last that has a variable.
        layer_of: from a variable's path to its layer, 0 to `depth + 1`, for networks that are
            neither; needs `depth`.
        exclude: regular expressions of variables whose factor stays 1.

    Returns:
        `{path: factor}`, one for every trainable variable or given name.

    Raises:
        ValueError: if the layers of the network cannot be told apart, or two variables of one
            path lie in different layers.

    Source: BEiT, 2021, and MAE, 2021, as released. By stages is the coarse form of what A ConvNet
    for the 2020s, 2022, does by groups of blocks.

    Example:

    ```python
    scales = layer_decay_scales(encoder, 0.65)
    optimizer = AdamW(1e-3, weight_decay=0.05, multipliers=scales)
    ```
    """
    is_model = isinstance(network, keras.Layer)
    paths = [v.path for v in network.trainable_variables] if is_model else list(network)
    if not paths:
        raise ValueError(
            "The network has no trainable variables yet, so no layer is known. Build it (call it "
            "once on data), or pass names."
        )
    if layer_of is not None:
        if depth is None:
            raise ValueError("layer_of needs depth, the number of blocks that it counts.")
        numbered = [(path, layer_of(path)) for path in paths]
    elif any(_block(path) for path in paths):
        depth = depth or max(_block(path) for path in paths)
        numbered = [(path, _transformer_layer(path, depth)) for path in paths]
    elif is_model:
        numbered, depth = _stages(network)
    else:
        raise ValueError(
            "No name has a block ('block1/…' or 'blocks.0.…'), so layers cannot be told apart. "
            "Pass the model itself, or layer_of with depth."
        )
    kept = pattern_list("exclude", exclude)
    return _merged(
        (
            path,
            1.0 if any(re.search(k, path) for k in kept) else decay_of_layer(layer, depth, decay),
        )
        for path, layer in numbered
    )


def _merged(scales: Iterable[tuple[str, float]]) -> dict[str, float]:
    found: dict[str, float] = {}
    for path, scale in scales:
        if found.setdefault(path, scale) != scale:
            raise ValueError(
                f"Two variables are called {path!r} and lie in different layers, with factors "
                f"{found[path]} and {scale}. Give their layers names of their own."
            )
    return found


def _block(name: str) -> int:
    """Number of a transformer block, from 1; 0 where the name is in none."""
    parts = re.split(r"[./]", name)
    for part, following in zip(parts, [*parts[1:], ""], strict=True):
        if part == "blocks" and following.isdigit():
            return int(following) + 1
        own = re.fullmatch(r"block(\d+)", part)
        if own:
            return int(own[1])
    return 0


def _transformer_layer(name: str, depth: int) -> int:
    block = _block(name)
    if block > depth:
        raise ValueError(f"{name!r} is in block {block}, but the depth given is {depth}.")
    return block or (0 if _EMBEDDING & set(re.split(r"[./]", name)) else depth + 1)


def _stages(model: keras.Model) -> tuple[list[tuple[str, int]], int]:
    """(path, layer) of every variable of a convolutional network, and the number of the last stage.

    A layer whose map is smaller than one behind it (squeeze and excitation) belongs to that.
    """
    every = list(_feature_maps(model))
    maps = [
        (variables, size and max(later or 0 for _, later in every[place:]))
        for place, (variables, size) in enumerate(every)
        if variables
    ]
    order = sorted({size for _, size in maps if size}, reverse=True)
    if len(order) < 2:
        raise ValueError(
            f"{model.name!r} is no vision transformer known by its names, and its feature maps do "
            "not tell its layers apart. Build it for one image size, or pass layer_of and depth."
        )
    layers = {size: layer for layer, size in enumerate(order)}
    numbered = [(v.path, layers.get(size or 0, len(order))) for own, size in maps for v in own]
    return numbered, len(order) - 1


def _feature_maps(model: Any) -> Iterable[tuple[list, int | None]]:
    """Variables of every layer, and the number of places of its feature map (None without one)."""
    # Operations are the layers and what stands between them, such as `x * y`.
    for part in getattr(model, "operations", model.layers):
        if getattr(part, "layers", None) and getattr(part, "inputs", None):
            yield from _feature_maps(part)
            continue
        places = tuple(getattr(getattr(part, "output", None), "shape", ()))[1:-1]
        size = math.prod(places) if places and None not in places else None
        yield getattr(part, "trainable_variables", []), size
