# SPDX-License-Identifier: Apache-2.0
"""From a student's blocks to the levels of a teacher."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras import ops

from keras_ssl.core.seeds import layer_seed

FUSIONS = ("linear", "mean", "none")
HEADS = ("linear", "norm_linear", "mlp")


@keras.saving.register_keras_serializable(package="keras_ssl")
class DynamicAlignment(keras.layers.Layer):
    """Mixes the outputs of a student's blocks for each level of a teacher, and maps them to it.

    The last levels are made: level a is the head of a applied to the sum over blocks b of
    `fusion[a, b]` times the output of b.

    Args:
        features: width of the teacher's tokens.
        levels: number of the teacher's last levels; `None` for as many as there are blocks.
        fusion: how mixtures start: `"linear"` from each level's own block, as many levels as
            blocks, with 0.01 of all blocks; `"mean"` from the mean of all blocks, for a teacher of
            another depth; `"none"` takes a level's own block and learns no mixture.
        head: of each level, `"linear"`, `"norm_linear"` (a layer normalisation before it) or
            `"mlp"` (two linear maps with GELU in between).
        seed: integer for the initial weights, or `None`.
        **kwargs: `name`, `dtype` and other arguments of `keras.layers.Layer`.

    Call: list of `(B, N, D)`, outputs of all blocks in their order → list of `(B, N, features)`,
    one for each level, the last behind.

    Raises:
        ValueError: for an unknown setting, or more levels than blocks where each has its own.

    Source: Stare at What You See (MaskAlign), Xue et al. 2022, section 3.3; start and heads as
    released.

    Example:
        >>> states = encoder.hidden_states(images)
        >>> tuple(level.shape for level in DynamicAlignment(768, levels=2)(states))
        ((8, 197, 768), (8, 197, 768))
    """

    def __init__(
        self,
        features: int,
        levels: int | None = None,
        fusion: str = "linear",
        head: str = "linear",
        seed: int | None = None,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        if fusion not in FUSIONS or head not in HEADS:
            raise ValueError(
                f"DynamicAlignment knows fusion in {FUSIONS} and head in {HEADS}; received "
                f"{fusion!r} and {head!r}."
            )
        if min(features, 1 if levels is None else levels) < 1:
            raise ValueError(
                "DynamicAlignment needs features and levels of at least 1; received "
                f"{features} and {levels}."
            )
        self.features, self.levels, self.fusion, self.head = features, levels, fusion, head
        self.seed = seed

    def build(self, input_shape: Any) -> None:
        """Makes mixtures and heads for outputs `(B, N, D)` of every block."""
        depth, width = len(input_shape), input_shape[0][-1]
        levels = self.levels or depth
        if self.fusion != "mean" and levels > depth:
            raise ValueError(
                f"{levels} levels of a teacher have no block each in a student of {depth}; "
                "choose fewer levels, or fusion='mean'."
            )
        self.mixture = None
        if self.fusion != "none":
            start = np.full((levels, depth), 1.0 / depth)
            if self.fusion == "linear":
                start = np.eye(depth)[-levels:] + 0.01
            self.mixture = self.add_weight(
                shape=(levels, depth),
                initializer=lambda shape, dtype: ops.convert_to_tensor(start, dtype),
                name="fusion",
            )
        self.heads = [self._head(level, width) for level in range(levels)]
        self.built = True

    def _head(self, level: int, width: int) -> keras.Sequential:
        policy = self.dtype_policy

        def linear(units, place, activation=None):
            start = keras.initializers.GlorotUniform(layer_seed(self.seed, level, place))
            return keras.layers.Dense(
                units, activation, kernel_initializer=start, dtype=policy, name=f"linear{place}"
            )

        parts: list = [linear(self.features, 2)]
        if self.head == "mlp":
            parts.insert(0, linear(width, 1, "gelu"))
        elif self.head == "norm_linear":
            parts.insert(0, keras.layers.LayerNormalization(epsilon=1e-6, dtype=policy))
        head = keras.Sequential(parts, name=f"head{level + 1}")
        head.build((None, None, width))
        return head

    def call(self, inputs: Any) -> list:
        """The student's tokens as the levels of the teacher."""
        states = list(inputs)
        if self.mixture is None:
            mixed = states[-len(self.heads) :]
        else:
            # One product for all levels and tokens.
            flat = ops.reshape(ops.stack(states, axis=0), (len(states), -1))
            mixed = ops.matmul(ops.cast(self.mixture, flat.dtype), flat)
            shape = (len(self.heads), -1, *states[0].shape[1:])
            mixed = ops.unstack(ops.reshape(mixed, shape), axis=0)
        return [head(x) for head, x in zip(self.heads, mixed, strict=True)]

    def compute_output_shape(self, input_shape: Any) -> list:
        """`(B, N, features)` for each level."""
        shape = (*input_shape[0][:-1], self.features)
        return [shape] * (self.levels or len(input_shape))

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        names = ("features", "levels", "fusion", "head", "seed")
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}
