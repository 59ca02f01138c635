# SPDX-License-Identifier: Apache-2.0
"""Heads that end in many prototypes: DINO's, and Franca's nested one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from keras_ssl.core.seeds import layer_seed
from keras_ssl.layers._mlp import MLP


@keras.saving.register_keras_serializable(package="keras_ssl")
class WeightNorm(keras.layers.Layer):
    """A linear map without offset whose weights are a direction and a length.

    Args:
        units: width of the output.
        trainable_gain: whether the lengths are learned; DINO fixes them at 1.
        seed: integer for the initial weights, or `None`.
        **kwargs: `name`, `dtype` and other arguments of `keras.layers.Layer`.

    Call: `(…, D)` → `(…, units)`.

    Source: Weight Normalization, Salimans and Kingma 2016, equation 2.

    Example:
        >>> WeightNorm(4096)(keras.ops.ones((2, 256))).shape
        (2, 4096)
    """

    def __init__(
        self, units: int, trainable_gain: bool = False, seed: int | None = None, **kwargs: Any
    ):
        super().__init__(**kwargs)
        if units < 1:
            raise ValueError(f"WeightNorm needs at least 1 unit, received {units}.")
        self.units, self.trainable_gain, self.seed = int(units), trainable_gain, seed

    def build(self, input_shape: Any) -> None:
        """Makes direction `(D, units)` and gain `(units,)`."""
        start = keras.initializers.TruncatedNormal(stddev=0.02, seed=self.seed)
        shape = (input_shape[-1], self.units)
        self.direction = self.add_weight(shape=shape, initializer=start, name="direction")
        self.gain = self.add_weight(
            shape=(self.units,), initializer="ones", trainable=self.trainable_gain, name="gain"
        )
        self.built = True

    @property
    def kernel(self) -> Any:
        """The weights `(D, units)`, float32: every column has the length of its gain."""
        direction = ops.cast(self.direction, "float32")
        return ops.normalize(direction, axis=0) * ops.cast(self.gain, "float32")

    def call(self, inputs: Any) -> Any:
        """The mapped vectors."""
        return ops.matmul(inputs, ops.cast(self.kernel, inputs.dtype))

    def compute_output_shape(self, input_shape: Any) -> Any:
        """`(…, units)`."""
        return (*input_shape[:-1], self.units)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        own = {n: getattr(self, n) for n in ("units", "trainable_gain", "seed")}
        return {**super().get_config(), **own}


@keras.saving.register_keras_serializable(package="keras_ssl")
class PrototypeHead(keras.layers.Layer):
    """An MLP to a bottleneck, and from there to a similarity with each of many prototypes.

    Args:
        widths: of the MLP; the last is the bottleneck.
        prototypes: number of prototypes, K.
        batch_norm: whether hidden layers are normalised (DINO: for ResNets on small data no).
        normalize: whether the bottleneck is scaled to unit length before the prototypes.
        trainable_gain: whether the lengths of the prototypes are learned; DINO fixes them, which
            is more stable.
        last_activation: whether the bottleneck has an activation too, as in Franca's code.
        seed: integer for the initial weights, or `None`.
        **kwargs: `name`, `dtype` and other arguments of `keras.layers.Layer`.

    Call: `(…, D)` → logits `(…, prototypes)`. `last` is the `WeightNorm` of the prototypes.

    Source: DINO, Caron et al. 2021, appendix C.

    Example:
        >>> PrototypeHead((512, 512, 64), 1024)(keras.ops.ones((2, 192))).shape
        (2, 1024)
    """

    def __init__(
        self,
        widths: Sequence[int] = (2048, 2048, 256),
        prototypes: int = 65536,
        batch_norm: bool = False,
        normalize: bool = True,
        trainable_gain: bool = False,
        last_activation: bool = False,
        seed: int | None = None,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.widths, self.prototypes = tuple(widths), int(prototypes)
        self.batch_norm, self.normalize = batch_norm, normalize
        self.trainable_gain, self.last_activation = trainable_gain, last_activation
        self.seed = seed
        self.mlp = MLP(
            self.widths,
            batch_norm=batch_norm,
            bias="all",
            activation="gelu",
            kernel_initializer=keras.initializers.TruncatedNormal(stddev=0.02),
            seed=layer_seed(seed, 0),
            dtype=self.dtype_policy,
            name="mlp",
        )
        self.last = WeightNorm(
            self.prototypes,
            trainable_gain,
            layer_seed(seed, 1),
            dtype=self.dtype_policy,
            name="prototypes",
        )

    def build(self, input_shape: Any) -> None:
        """Builds all layers for inputs `(…, D)`."""
        self.mlp.build((None, input_shape[-1]))
        self.last.build((None, self.widths[-1]))
        self.built = True

    def call(self, inputs: Any, training: bool = False) -> Any:
        """Logits, one for each prototype."""
        # Batch norm takes rows: the tokens of all images are normalised together.
        flat = self.batch_norm and len(inputs.shape) > 2
        x = ops.reshape(inputs, (-1, inputs.shape[-1])) if flat else inputs
        x = self.mlp(x, training=training)
        if self.last_activation:
            x = ops.gelu(x, approximate=False)
        if self.normalize:
            x = ops.cast(ops.normalize(ops.cast(x, "float32"), axis=-1), x.dtype)
        x = self.last(x)
        return ops.reshape(x, (*ops.shape(inputs)[:-1], self.prototypes)) if flat else x

    def compute_output_shape(self, input_shape: Any) -> Any:
        """`(…, prototypes)`."""
        return (*input_shape[:-1], self.prototypes)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        names = ("prototypes", "batch_norm", "normalize", "trainable_gain", "last_activation")
        own = {name: getattr(self, name) for name in (*names, "seed")}
        return {**super().get_config(), "widths": list(self.widths), **own}


@keras.saving.register_keras_serializable(package="keras_ssl")
class NestedPrototypeHead(keras.layers.Layer):
    """A head for each of several nested widths of one representation (Matryoshka).

    The first features alone must then carry a coarse clustering, more of them a finer one. Each
    level has an MLP and prototypes of its own, whose number grows with its width.

    Args:
        levels: widths in rising order; the last is that of the representation.
        prototypes: number of prototypes of the widest level; level m has
            `prototypes · m / levels[-1]`.
        widths: of every level's MLP; the last is the bottleneck.
        projected: whether a level sees a linear map of all features to its width, as the released
            code has it, instead of the paper's slice of the first features.
        normalize: whether bottlenecks are scaled to unit length; not in the released code.
        trainable_gain: whether the lengths of the prototypes are learned.
        last_activation: whether the bottleneck has an activation too.
        seed: integer for the initial weights, or `None`.
        **kwargs: `name`, `dtype` and other arguments of `keras.layers.Layer`.

    Call: `(…, D)` → list of logits, one a level.

    Raises:
        ValueError: if levels do not rise, or the last is not the width of the input.

    Source: Franca, Venkataramanan et al. 2025, section 3.2; released code (valeoai/Franca).
    """

    def __init__(
        self,
        levels: Sequence[int],
        prototypes: int = 131072,
        widths: Sequence[int] = (2048, 2048, 384),
        projected: bool = False,
        normalize: bool = False,
        trainable_gain: bool = True,
        last_activation: bool = True,
        seed: int | None = None,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.levels = tuple(int(level) for level in levels)
        if not self.levels or any(
            level < 1 or level <= before
            for level, before in zip(self.levels, (0, *self.levels), strict=False)
        ):
            raise ValueError(f"levels must be rising positive widths; received {levels!r}.")
        self.prototypes, self.widths, self.projected = int(prototypes), tuple(widths), projected
        self.normalize, self.trainable_gain = normalize, trainable_gain
        self.last_activation, self.seed = last_activation, seed
        policy = self.dtype_policy
        self.projections = [
            keras.layers.Dense(level, dtype=policy, name=f"projection_{level}")
            for level in (self.levels if projected else ())
        ]
        self.heads = [
            PrototypeHead(
                self.widths,
                self.prototypes * level // self.levels[-1],
                normalize=normalize,
                trainable_gain=trainable_gain,
                last_activation=last_activation,
                seed=layer_seed(seed, 2, index),
                dtype=policy,
                name=f"head_{level}",
            )
            for index, level in enumerate(self.levels)
        ]
        for index, projection in enumerate(self.projections):
            start = keras.initializers.TruncatedNormal(stddev=0.02, seed=layer_seed(seed, 3, index))
            projection.kernel_initializer = start

    def build(self, input_shape: Any) -> None:
        """Builds every level for inputs `(…, D)`."""
        width = input_shape[-1]
        if self.levels[-1] != width:
            raise ValueError(
                f"the last level is the whole representation: {self.levels} does not end in its "
                f"width {width}."
            )
        for projection in self.projections:
            projection.build((None, width))
        for level, head in zip(self.levels, self.heads, strict=True):
            head.build((None, level))
        self.built = True

    def call(self, inputs: Any, training: bool = False) -> list:
        """Logits of every level."""
        if self.projected:
            parts = [projection(inputs) for projection in self.projections]
        else:
            parts = [inputs[..., :level] for level in self.levels]
        return [head(part, training=training) for head, part in zip(self.heads, parts, strict=True)]

    def compute_output_shape(self, input_shape: Any) -> list:
        """`(…, prototypes of the level)` for every level."""
        return [(*input_shape[:-1], head.prototypes) for head in self.heads]

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        names = ("prototypes", "projected", "normalize", "trainable_gain", "last_activation")
        own = {name: getattr(self, name) for name in (*names, "seed")}
        lists = {"levels": list(self.levels), "widths": list(self.widths)}
        return {**super().get_config(), **lists, **own}
