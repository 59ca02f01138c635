# SPDX-License-Identifier: Apache-2.0
"""Representations of the layers inside of an encoder, and which of them is best."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_ssl.core.registry import nearest
from keras_ssl.evaluation._fine_tune_model import is_transformer
from keras_ssl.evaluation._inputs import pair
from keras_ssl.evaluation.preprocessing import fitted, parts_of
from keras_ssl.evaluation.probes import logistic_regression


@dataclasses.dataclass(frozen=True)
class LayerProbe:
    """Accuracy of every layer.

    Args:
        best: the layer with the best held accuracy, the first of equal ones.
        held_accuracy: by layer, on a part of the training rows, from 0 to 1.
        accuracy: by layer, on the test rows, of a probe of all training rows. That of `best` is the
            one to report: the best of these numbers is chosen by the test rows.
    """

    best: int | str
    held_accuracy: dict[int | str, float]
    accuracy: dict[int | str, float]

    def show(self) -> Any:
        """A `PIL.Image.Image`: accuracy over layers, the chosen one marked."""
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
        from PIL import Image

        names = [str(name) for name in self.accuracy]
        figure = Figure(figsize=(max(4.5, 0.7 * len(names)), 3.2), dpi=110)
        canvas, axes = FigureCanvasAgg(figure), figure.subplots()
        axes.plot(names, list(self.held_accuracy.values()), "o--", label="held rows")
        axes.plot(names, list(self.accuracy.values()), "o-", label="test rows")
        axes.axvline(names.index(str(self.best)), color="0.8", zorder=0)
        axes.set_xlabel("layer")
        axes.set_ylabel("accuracy")
        axes.tick_params("x", rotation=0 if max(map(len, names)) < 4 else 60)
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(frameon=False)
        figure.set_layout_engine("constrained")
        canvas.draw()
        return Image.fromarray(np.asarray(canvas.buffer_rgba())[..., :3].copy())


def layer_features(
    encoder: Any,
    images: Any,
    layers: Sequence[int | str] | None = None,
    *,
    pooling: str | None = None,
    batch_size: int = 256,
) -> dict[int | str, np.ndarray]:
    """Vectors of several layers of an encoder, of one pass over the images.

    Of a transformer every block's tokens go through the last norm and are pooled; of other networks
    maps and sequences are averaged over positions.

    Args:
        encoder: a `backbones.VisionTransformer` or another token transformer, a functional Keras
            model, either behind its preprocessing, or a self-supervised model of this package.
        images: (N, ...) as the encoder takes them.
        layers: blocks of a transformer, counted from 1, or names of layers of another network.
            None for all blocks, or the last layer of every shape of output.
        pooling: "class" or "mean", of a transformer; None for its own.
        batch_size: samples a call.

    Returns:
        `{layer: (N, D) float32}`, in the order of the network.

    Raises:
        ValueError: for a layer that is not there, or a pooling without its token.

    Example:
        >>> from keras_ssl import backbones
        >>> encoder = backbones.VisionTransformer("tiny", (16, 16, 3), 8, depth=3)
        >>> {k: v.shape for k, v in layer_features(encoder, np.zeros((5, 16, 16, 3))).items()}
        {1: (5, 192), 2: (5, 192), 3: (5, 192)}
    """
    model, names = _model(_encoder(encoder, images), layers, pooling)
    found = model.predict(images, batch_size=batch_size, verbose=0)
    found = found if isinstance(found, list) else [found]
    return {name: x.astype("float32") for name, x in zip(names, found, strict=True)}


def last_blocks_features(
    encoder: Any,
    images: Any,
    blocks: int = 4,
    *,
    patches: bool = False,
    pooling: str | None = None,
    batch_size: int = 256,
) -> np.ndarray:
    """Vectors of the last blocks of a transformer side by side, as DINO probes them.

    Args:
        encoder: as `layer_features`, with a transformer inside.
        images: (N, ...) as the encoder takes them.
        blocks: how many of the last blocks; the paper takes 4 for a small transformer.
        patches: whether the mean of the last block's patch tokens follows; the paper takes one
            block with it for a base transformer.
        pooling: "class" or "mean"; None for the encoder's own.
        batch_size: samples a call.

    Returns:
        (N, blocks · D) float32, D more with `patches`.

    Raises:
        ValueError: for another network, more blocks than there are, or as `layer_features`.

    Source: Emerging Properties in Self-Supervised Vision Transformers, 2021, appendix F.2.
    """
    network = parts_of(_encoder(encoder, images))[1]
    if not is_transformer(network) or not 1 <= blocks <= len(network.blocks):
        raise ValueError(
            f"last_blocks_features takes 1 to all blocks of a transformer; received {blocks} of "
            f"{getattr(network, 'name', network)!r}."
        )
    depth = len(network.blocks)
    options = {"batch_size": batch_size}
    wanted = range(depth - blocks + 1, depth + 1)
    found = list(layer_features(encoder, images, wanted, pooling=pooling, **options).values())
    if patches:
        found += layer_features(encoder, images, [depth], pooling="mean", **options).values()
    return np.concatenate(found, axis=1)


def layer_probe(
    encoder: Any,
    train: tuple[Any, Any],
    test: tuple[Any, Any],
    layers: Sequence[int | str] | None = None,
    *,
    pooling: str | None = None,
    held: float = 0.2,
    seed: int = 0,
    batch_size: int = 256,
) -> LayerProbe:
    """A linear probe of every layer: the last one is often not the best.

    Args:
        encoder: as `layer_features`.
        train: `(samples, labels)`; labels (N,) integers, -1 for unlabelled.
        test: `(samples, labels)`.
        layers: as `layer_features`.
        pooling: as `layer_features`.
        held: share of training rows that choose the layer, between 0 and 1.
        seed: of the held rows.
        batch_size: samples a call when features are extracted.

    Returns:
        A `LayerProbe`.

    Raises:
        ValueError: as `layer_features` and `linear_probe`, or for a `held` that leaves no rows.

    Source: Understanding intermediate layers using linear classifier probes, 2016.

    Example:

    ```python
    found = evaluation.layer_probe(model, (x, y), (test_x, test_y))
    found.best, found.accuracy[found.best]
    ```
    """
    options = {"pooling": pooling, "batch_size": batch_size}
    parts = [layer_features(encoder, part[0], layers, **options) for part in (train, test)]
    chosen, right = {}, {}
    for name in parts[0]:
        x, y, test_x, test_y = pair(parts[0][name], train[1], parts[1][name], test[1])
        rows = np.random.default_rng(seed).permutation(len(x))
        count = round(held * len(x))
        if not 0 < count < len(x):
            raise ValueError(f"held is {held} of {len(x)} rows: none to choose or to train by.")
        inner, outer = rows[count:], rows[:count]
        chosen[name] = float(logistic_regression(x[inner], y[inner]).score(x[outer], y[outer]))
        right[name] = float(logistic_regression(x, y).score(test_x, test_y))
    return LayerProbe(max(chosen, key=chosen.__getitem__), chosen, right)


def layer_encoder(encoder: Any, layer: int | str, *, pooling: str | None = None) -> keras.Model:
    """The encoder up to one of its layers, to use in its place; what is behind is left out.

    Args:
        encoder: as `layer_features`.
        layer: a block of a transformer, counted from 1, or the name of a layer.
        pooling: as `layer_features`.

    Returns:
        Functional model in inference mode, from what the encoder takes to (B, D), with its
        preprocessing. Weights are shared.

    Raises:
        ValueError: as `layer_features`.

    Example:
        >>> from keras_ssl import backbones
        >>> encoder = backbones.VisionTransformer("tiny", (16, 16, 3), 8, depth=3)
        >>> layer_encoder(encoder, 2).output_shape
        (None, 192)
    """
    return _model(_encoder(encoder, None), [layer], pooling)[0]


def _encoder(encoder: Any, images: Any) -> Any:
    """The encoder as a functional model with its preprocessing, if any, in front."""
    if hasattr(encoder, "standalone_encoder"):
        encoder = encoder.standalone_encoder()
    return fitted(encoder, images, None)


def _model(encoder: Any, layers: Any, pooling: str | None) -> tuple[Any, list]:
    """A model from raw images to the pooled output of layers, and their names."""
    front, network = parts_of(encoder)
    x = inputs = keras.tree.map_structure(
        lambda x: keras.Input(batch_shape=x.shape, dtype=x.dtype), encoder.input
    )
    for part in front:
        x = part(x)
    if is_transformer(network):
        names = list(range(1, len(network.blocks) + 1) if layers is None else layers)
        found = network.token_model(layers=names)(x, training=False)
        found = found if isinstance(found, list) else [found]
        pooled = [_pooled_tokens(tokens, network, pooling) for tokens in found]
    else:
        names = _stages(network) if layers is None else _known(network, layers)
        outputs = [network.get_layer(name).output for name in names]
        found = keras.Model(network.inputs, outputs)(x, training=False)
        pooled = [_averaged(y) for y in (found if isinstance(found, list) else [found])]
    return keras.Model(inputs, pooled[0] if len(pooled) == 1 else pooled), names


def _pooled_tokens(tokens: Any, network: Any, pooling: str | None) -> Any:
    pooling = pooling or network.pooling or "mean"
    if pooling == "class" and network.prefix.class_token:
        return tokens[:, 0]
    if pooling != "mean":
        raise ValueError(
            f"pooling is {pooling!r}, expected 'mean', or 'class' of a network with a class token."
        )
    return ops.mean(tokens[:, network.prefix.count :], axis=1)


def _averaged(x: Any) -> Any:
    rank = len(x.shape)
    return ops.mean(x, axis=tuple(range(1, rank - 1))) if rank > 2 else x


def _stages(network: Any) -> list[str]:
    """The last layer of every shape of output."""
    last: dict[tuple, str] = {}
    for layer in network.layers:
        output: Any = None if isinstance(layer, keras.layers.InputLayer) else layer.output
        if isinstance(output, keras.KerasTensor) and len(shape := tuple(output.shape or ())) > 1:
            last.pop(shape, None)
            last[shape] = layer.name
    return list(last.values())


def _known(network: Any, layers: Sequence) -> list[str]:
    names = [layer.name for layer in network.layers]
    for name in layers:
        if name not in names:
            raise ValueError(f"There is no layer {name!r}. {nearest(str(name), names)}")
    return [name for name in names if name in layers]
