# SPDX-License-Identifier: Apache-2.0
"""What a teacher makes of the whole sample."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
from keras import ops, tree

from keras_ssl.core import Teacher
from keras_ssl.targets._target import Target, sizes_of

COMBINE = ("mean", "concatenate")


@keras.saving.register_keras_serializable(package="keras_ssl")
class TeacherFeatureTarget(Target):
    """Features that a teacher, frozen or a moving average, has of every token of a sample.

    The teacher sees the whole sample. One that wants other samples than the student, resized or
    with other statistics, does so itself: `keras.Sequential([resizing, normalization, network])`,
    which counts as a `backbones.TokenTransformer` where it ends in one.

    Args:
        teacher: a built network, which is copied, or a `core.Teacher`, which is taken as it is. It
            gives tokens `(B, L, D)`, a feature map `(B, g1, …, gd, D)`, or a list of them; of a
            `backbones.TokenTransformer`, such as a `VisionTransformer`, the tokens are taken even
            where it pools.
        layers: blocks of a `backbones.TokenTransformer`, counted from 1, whose output is taken;
            None for what the network gives, or the last block.
        combine: `"mean"` of several layers, or `"concatenate"`, one behind the other.
        normalize: whether the features of each token and layer get mean 0 and variance 1 before
            they are combined: a layer normalisation without parameters.
        epsilon: added to that variance.
        skip: number of tokens in front that are left out; None for the class token and registers of
            a `TokenTransformer`, all of them, and none of another network; 0 keeps them.
        momentum: of the copy: None for a frozen teacher, a share of the old teacher in [0, 1], or a
            schedule of the optimizer's step. `teacher.update(student)` moves it, as the pairs of
            `SSLModel.teachers` do.
        last_norm: whether outputs of blocks are taken after the transformer's last norm.
        **kwargs: `name` and other arguments of `keras.layers.Layer`.

    Call: `target(samples, training=...)` gives float32 `(B, L, D)`, or `(B, L, layers · D)`,
    without gradient. A frozen teacher runs in inference mode whatever `training` says, so that
    nothing of it moves.

    Raises:
        ValueError: for a network that is not built or gives no tokens, layers of a network that
            has no blocks, or an unknown setting.

    Source: data2vec, 2022, section 3.3 (mean of normalised layers); Stare at What You See
    (MaskAlign), 2022 (single layers, epsilon).

    Example:
        >>> encoder = backbones.VisionTransformer("tiny", (32, 32, 3), patch=4)
        >>> target = TeacherFeatureTarget(encoder, layers=(6, 12))
        >>> target(keras.ops.ones((2, 32, 32, 3))).shape
        (2, 64, 192)
    """

    def __init__(
        self,
        teacher: keras.Layer,
        layers: Sequence[int] | None = None,
        combine: str = "mean",
        normalize: bool = True,
        epsilon: float = 1e-5,
        skip: int | None = None,
        momentum: float | Callable | None = None,
        last_norm: bool = True,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        if combine not in COMBINE or not epsilon > 0.0:
            raise ValueError(
                f"TeacherFeatureTarget knows combine in {COMBINE} and needs epsilon > 0; received "
                f"combine={combine!r}, epsilon={epsilon!r}."
            )
        self.combine, self.normalize, self.epsilon = combine, bool(normalize), float(epsilon)
        # A list named `layers` would be taken for layers by Keras' own tools.
        self.blocks = None if layers is None else tuple(int(number) for number in layers)
        self.teacher = _as_teacher(teacher, momentum)
        network = self.teacher.network
        self.transformer = token_transformer(network)
        self.last_norm = bool(last_norm)
        prefix = None if self.transformer is None else self.transformer.prefix.count
        self.front = (skip or 0) if prefix is None else prefix
        self.skip = self.front if skip is None else int(skip)
        if not 0 <= self.skip <= self.front:
            raise ValueError(
                f"TeacherFeatureTarget(skip={skip!r}): the teacher {network.name!r} has "
                f"{self.front} tokens in front of its patches; skip some of them, or None for all."
            )
        self.network = _token_network(network, self.blocks, self.last_norm)
        self._check_outputs([tuple(x.shape) for x in tree.flatten(self._known_outputs())])
        self.built = True

    def call(self, inputs: Any, training: bool = False) -> Any:
        """The features of every token."""
        parts = [self.features(x) for x in self.outputs(inputs, training)]
        if self.combine == "concatenate":
            return ops.stop_gradient(ops.concatenate(parts, axis=-1))
        return ops.stop_gradient(sum(parts) / len(parts))

    def outputs(self, inputs: Any, training: bool = False) -> list:
        """What the teacher gives of samples, one for each layer, as it is and without gradient."""
        moves = self.teacher.momentum is not None
        found = tree.flatten(self.network(inputs, training=bool(training) and moves))
        self._check_outputs([tuple(x.shape) for x in found])
        return [ops.stop_gradient(x) for x in found]

    def features(self, x: Any) -> Any:
        """Tokens `(B, L, D)` of one output as `normalize` says, in float32."""
        rows, *grid, width = sizes_of(x)
        x = ops.reshape(ops.cast(x, "float32"), (rows, math.prod(grid), width))[:, self.skip :]
        return standardized(x, self.epsilon) if self.normalize else x

    def attention(self, inputs: Any, tokens: Any = None) -> Any:
        """How much the teacher's class token attends to each token in the last block.

        Args:
            inputs: samples `(B, …)`.
            tokens: what the last block gets, the raw output of the last but one, `(B, N, D)`;
                `None` computes it.

        Returns:
            float32 `(B, L)`, mean of the heads, without gradient.
        """
        maps = self.transformer.attention_maps(_prepared(self.teacher.network, inputs), -1, tokens)
        maps = ops.mean(ops.reshape(maps, (-1, maps.shape[1], math.prod(maps.shape[2:]))), axis=1)
        return ops.stop_gradient(maps)

    def projections(self, inputs: Any, blocks: Sequence[int]) -> list:
        """Queries, keys and values of some blocks of the teacher, without gradient.

        Args:
            inputs: samples `(B, …)`.
            blocks: blocks of its `backbones.TokenTransformer`, counted from 1.

        Returns:
            List of `[queries, keys, values]`, each `(B, front + L, D)`.
        """
        found = self.transformer.projections(_prepared(self.teacher.network, inputs), blocks)
        return tree.map_structure(ops.stop_gradient, found)

    def compute_output_shape(self, input_shape: Any) -> Any:
        """`(B, L, D)`, or `(B, L, layers · D)`."""
        shapes = self._shapes(input_shape)
        self._check_outputs(shapes)
        rows, *grid, _ = shapes[0]
        count = None if None in grid else math.prod(grid) - self.skip
        widths = [shape[-1] for shape in shapes]
        return (rows, count, sum(widths) if self.combine != "mean" else widths[0])

    def check(self, input_shape: Any, grid: Sequence[int]) -> None:
        """Requires the teacher's tokens to be those of a student.

        Args:
            input_shape: `(B, N1, …, Nd, C)` of the samples, B may be None; a dict of shapes for
                samples of several parts.
            grid: the student's tokens on every axis.

        Raises:
            ValueError: if the grids differ, or the numbers of tokens where the teacher gives no
                grid.
        """
        grid = tuple(grid)
        for shape in self._shapes(input_shape):
            mine = shape[1:-1]
            if len(mine) == 1 and self.transformer is not None:
                mine = self._grid(input_shape)
            elif len(mine) == 1 and mine[0] is not None:
                mine = (mine[0] - self.front,)
            if None in mine or mine == grid:
                continue
            if len(mine) == len(grid) or math.prod(mine) != math.prod(grid):
                raise ValueError(
                    f"the teacher {self.teacher.network.name!r} has tokens {mine} for samples "
                    f"{input_shape}, and the student's grid is {grid}. Choose a teacher of the "
                    "same grid, resize the samples inside of the teacher, or say by skip= how "
                    "many of its tokens stand in front of the patches."
                )

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        own = {
            "teacher": keras.saving.serialize_keras_object(self.teacher),
            "layers": None if self.blocks is None else list(self.blocks),
            "skip": self.skip,
            **{n: getattr(self, n) for n in ("combine", "normalize", "epsilon", "last_norm")},
        }
        return {**super().get_config(), **own}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> TeacherFeatureTarget:
        """Makes a target from `get_config`."""
        teacher = keras.saving.deserialize_keras_object(config["teacher"])
        return cls(**{**config, "teacher": teacher})

    def _grid(self, input_shape: Any) -> tuple:
        samples = _symbolic(input_shape)
        for layer in _front(self.teacher.network):
            samples = layer.compute_output_spec(samples)
        return self.transformer.grid_of(samples)

    def _known_outputs(self) -> Any:
        """Symbolic outputs where the network has them, else nothing."""
        return getattr(self.network, "outputs", None) or []

    def _shapes(self, input_shape: Any) -> list:
        samples = _symbolic(input_shape)
        return [tuple(x.shape) for x in tree.flatten(self.network.compute_output_spec(samples))]

    def _check_outputs(self, shapes: Sequence) -> None:
        if any(len(shape) < 3 for shape in shapes):
            raise ValueError(
                f"the teacher {self.teacher.network.name!r} gives {shapes}, no features of single "
                "tokens (B, L, D) or places (B, …, D). Leave out its pooling, or give a "
                "backbones.TokenTransformer."
            )
        if self.skip and any(len(shape) > 3 for shape in shapes):
            raise ValueError(
                f"the teacher {self.teacher.network.name!r} gives feature maps {shapes}, which "
                f"have no tokens in front; received skip={self.skip}."
            )
        if self.combine == "mean" and len({shape[-1] for shape in shapes}) > 1:
            raise ValueError(
                f"the teacher's layers have shapes {shapes} and no common width for a mean; use "
                "combine='concatenate', or layers of one width."
            )


def _symbolic(shape: Any) -> Any:
    """Samples of a shape, or of a dict of shapes, that have no values."""
    if isinstance(shape, Mapping):
        return {name: _symbolic(one) for name, one in shape.items()}
    return keras.KerasTensor(tuple(shape), dtype="float32")


def _as_teacher(network: keras.Layer, momentum: float | Callable | None) -> Teacher:
    if isinstance(network, Teacher):
        if momentum is not None:
            raise ValueError(
                f"TeacherFeatureTarget(momentum={momentum!r}) is for a network that is copied; a "
                "Teacher has its own. Leave momentum out."
            )
        return network
    if not isinstance(network, keras.Layer) or not network.built:
        raise ValueError(
            f"TeacherFeatureTarget copies a built network; received {network!r}. Build it, or call "
            "it once on a batch, before."
        )
    return Teacher(network, momentum, dtype=network.dtype_policy, name="teacher")


def token_transformer(network: Any) -> Any:
    """The `backbones.TokenTransformer` that a network is or, a `keras.Sequential`, ends in.

    Args:
        network: any layer, or a `core.Teacher` of it.

    Returns:
        The transformer, or `None`.
    """
    network = network.network if isinstance(network, Teacher) else network
    if isinstance(network, keras.Sequential) and network.layers:
        network = network.layers[-1]
    return network if hasattr(network, "token_model") else None


def standardized(x: Any, epsilon: float = 1e-5) -> Any:
    """A layer normalisation without parameters: mean 0 and variance 1 of the last axis.

    Args:
        x: `(…, D)`, any float dtype.
        epsilon: added to the variance.

    Returns:
        float32 `(…, D)`.
    """
    x = ops.cast(x, "float32")
    x = x - ops.mean(x, axis=-1, keepdims=True)
    return x * ops.rsqrt(ops.mean(ops.square(x), axis=-1, keepdims=True) + epsilon)


def _front(network: keras.Layer) -> list:
    """Layers that prepare samples for the transformer in which a network ends."""
    return [] if network is token_transformer(network) else network.layers[:-1]


def _prepared(network: keras.Layer, inputs: Any) -> Any:
    for layer in _front(network):
        inputs = layer(inputs)
    return inputs


def _token_network(
    network: keras.Layer, layers: Sequence[int] | None, last_norm: bool
) -> keras.Layer:
    """The network itself, or one on the same weights that gives tokens of the wanted blocks."""
    transformer = token_transformer(network)
    if transformer is not None:
        pooled = any(len(x.shape) == 2 for x in transformer.outputs)
        if layers is None and last_norm and not pooled:
            return network
        tokens = transformer.token_model(layers=layers, last_norm=last_norm)
        if not _front(network):
            return tokens
        samples = keras.Input(network.input_shape[1:])
        return keras.Model(samples, tokens(_prepared(network, samples)))
    if layers is not None:
        raise ValueError(
            f"TeacherFeatureTarget(layers={list(layers)}) names blocks of a "
            f"backbones.TokenTransformer; {network.name!r} has none. Let the network give the "
            "outputs of several layers, and leave layers out."
        )
    return network
