# SPDX-License-Identifier: Apache-2.0
"""From what is observed now to the next steps: what will be observed, and what to do."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from keras_ssl.core.seeds import layer_seed
from keras_ssl.tokens._cross import CrossSelfBlock


class _Chunk(keras.layers.Layer):
    """Blocks over the steps of a chunk, which look at the tokens of an observation."""

    def __init__(
        self,
        width: int,
        depth: int,
        heads: int,
        mlp_ratio: float = 4.0,
        seed: int | None = None,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        if min(width, depth, heads) < 1 or width % heads:
            raise ValueError(
                f"{type(self).__name__} needs a width, depth and heads of at least 1, and heads "
                f"that divide the width; received {width}, {depth} and {heads}."
            )
        self.width, self.depth, self.heads = int(width), int(depth), int(heads)
        self.mlp_ratio, self.seed = mlp_ratio, seed

    def dense(self, units: int, place: int, name: str, inputs: int) -> keras.layers.Dense:
        """A built linear map of tokens; `place` tells it apart."""
        start = keras.initializers.GlorotUniform(layer_seed(self.seed, place))
        layer = keras.layers.Dense(
            units, kernel_initializer=start, dtype=self.dtype_policy, name=name
        )
        layer.build((None, None, inputs))
        return layer

    def build_blocks(self, memory: int) -> None:
        """Makes the map of the observation's tokens, of a number of features, and the blocks."""
        self.embed = self.dense(self.width, 1, "embed", memory)
        self.blocks = []
        for index in range(self.depth):
            block = CrossSelfBlock(
                self.heads,
                self.mlp_ratio,
                0.0,
                layer_seed(self.seed, 2, index),
                dtype=self.dtype_policy,
                name=f"block{index + 1}",
            )
            block.build((None, None, self.width))
            self.blocks.append(block)

    def read(self, steps: Any, memory: Any, training: bool) -> Any:
        """Steps `(B, K, width)` after all blocks."""
        memory = self.embed(memory)
        for block in self.blocks:
            steps = block(steps, memory, training=training)
        return steps

    def choosing_variables(self, attention: str) -> list:
        """What decides where blocks look; idle where there is but one thing to look at.

        Args:
            attention: `"cross_attention"`, to the observation, or `"self_attention"`, to the steps.
        """
        parts = [getattr(block, attention) for block in self.blocks]
        return [v for part in parts for half in (part.query, part.key) for v in half.variables]

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        names = ("width", "depth", "heads", "mlp_ratio", "seed")
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}


@keras.saving.register_keras_serializable(package="keras_ssl")
class FutureChunkPredictor(_Chunk):
    """Predicts a latent vector of each of the next observations.

    Learned queries, one a step, look at the tokens of the observation now and at one another.

    Args:
        chunk: number of steps.
        width: features of a query.
        depth: number of blocks, `CrossSelfBlock`.
        heads: heads of a block; they divide the width.
        mlp_ratio: hidden features of a block's feed-forward, in widths.
        seed: integer for the initial weights, or `None`.
        **kwargs: `name`, `dtype` and other arguments of `keras.layers.Layer`.

    Call: `layer(memory, training=False)` with the observation's tokens `(B, M, D)` gives the steps
    `(B, chunk, width)`, and `layer.latents(steps)` `(B, chunk, D)`.

    Raises:
        ValueError: for sizes below 1, or heads that do not divide the width.

    Source: ACT-JEPA, 2025 (queries of a chunk that look at the encoded observation); queries start
    as in DETR, Carion et al. 2020. Order and number of the parts are not published.

    Example:
        >>> predictor = FutureChunkPredictor(8, width=64, depth=2, heads=4)
        >>> predictor.latents(predictor(keras.ops.ones((2, 49, 512)))).shape
        (2, 8, 512)
    """

    def __init__(
        self,
        chunk: int,
        width: int = 256,
        depth: int = 4,
        heads: int = 8,
        mlp_ratio: float = 4.0,
        seed: int | None = None,
        **kwargs: Any,
    ):
        super().__init__(width, depth, heads, mlp_ratio, seed, **kwargs)
        if chunk < 1:
            raise ValueError(f"A chunk has at least 1 step; received {chunk}.")
        self.chunk = int(chunk)

    def build(self, memory_shape: Any) -> None:
        """Makes all parts for tokens `(B, M, D)`."""
        start = keras.initializers.RandomNormal(stddev=1.0, seed=layer_seed(self.seed, 3))
        self.queries = self.add_weight(
            shape=(self.chunk, self.width), initializer=start, name="queries"
        )
        self.build_blocks(memory_shape[-1])
        self.head = self.dense(memory_shape[-1], 4, "head", self.width)
        self.built = True

    def call(self, memory: Any, training: bool = False) -> Any:
        """The steps `(B, chunk, width)`."""
        steps = ops.cast(self.queries, memory.dtype)[None]
        steps = ops.broadcast_to(steps, (ops.shape(memory)[0], self.chunk, self.width))
        return self.read(steps, memory, training)

    def latents(self, steps: Any) -> Any:
        """Predicted latents `(B, chunk, D)`."""
        return self.head(steps)

    def compute_output_shape(self, memory_shape: Any) -> Any:
        """`(B, chunk, width)`."""
        return (memory_shape[0], self.chunk, self.width)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {**super().get_config(), "chunk": self.chunk}


@keras.saving.register_keras_serializable(package="keras_ssl")
class ActionChunkDecoder(_Chunk):
    """Says what to do in each of the next steps.

    What is expected of a step looks at the tokens of the observation now and at the other steps.

    Args:
        actions: numbers of an action.
        width: features of a step.
        depth: number of blocks, `CrossSelfBlock`.
        heads: heads of a block; they divide the width.
        mlp_ratio: hidden features of a block's feed-forward, in widths.
        seed: integer for the initial weights, or `None`.
        **kwargs: `name`, `dtype` and other arguments of `keras.layers.Layer`.

    Call: `layer(steps, memory, training=False)` with steps `(B, K, D)` of a `FutureChunkPredictor`
    and the observation's tokens `(B, M, D')` gives `(B, K, actions)`.

    Raises:
        ValueError: for sizes below 1, or heads that do not divide the width.

    Source: ACT, Zhao et al. 2023 (a chunk of actions at once); that steps are those of the
    predictor is our reading of ACT-JEPA, 2025.

    Example:
        >>> steps, memory = keras.ops.ones((2, 8, 64)), keras.ops.ones((2, 49, 512))
        >>> ActionChunkDecoder(7, width=64, depth=1, heads=4)(steps, memory).shape
        (2, 8, 7)
    """

    def __init__(
        self,
        actions: int,
        width: int = 256,
        depth: int = 1,
        heads: int = 8,
        mlp_ratio: float = 4.0,
        seed: int | None = None,
        **kwargs: Any,
    ):
        super().__init__(width, depth, heads, mlp_ratio, seed, **kwargs)
        if actions < 1:
            raise ValueError(f"An action has at least 1 number; received {actions}.")
        self.actions = int(actions)

    def build(self, steps_shape: Any, memory_shape: Any) -> None:
        """Makes all parts for steps `(B, K, D)` and tokens `(B, M, D')`."""
        self.begin = self.dense(self.width, 3, "begin", steps_shape[-1])
        self.build_blocks(memory_shape[-1])
        self.head = self.dense(self.actions, 4, "head", self.width)
        self.built = True

    def call(self, steps: Any, memory: Any, training: bool = False) -> Any:
        """The actions `(B, K, actions)`."""
        return self.head(self.read(self.begin(steps), memory, training))

    def compute_output_shape(self, steps_shape: Any, memory_shape: Any) -> Any:
        """`(B, K, actions)`."""
        return (*steps_shape[:-1], self.actions)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {**super().get_config(), "actions": self.actions}
