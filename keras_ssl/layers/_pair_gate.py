# SPDX-License-Identifier: Apache-2.0
"""A gate on features that is made from a pair of classes (Hydra, SimLAP)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from keras_ssl.core.seeds import layer_seed
from keras_ssl.layers._batch_norm import batch_norm

COMBINE = ("mean", "product")


@keras.saving.register_keras_serializable(package="keras_ssl")
class PairGate(keras.layers.Layer):
    """Factors in 0..1 that select the features which a pair of classes shares.

    The classes' embeddings go through ReLU, batch norm, Linear, ReLU, batch norm, Linear and a
    sigmoid. Called on two `(batch,)` integer vectors; class -1 (unlabelled) is taken as 0.

    Args:
        classes: number of classes.
        width: number of features that are gated.
        hidden: widths of the embedding and of the hidden layer.
        combine: `"mean"`: the gate of the mean embedding; `"product"`: the product of both gates.
        synchronized: whether batch statistics are shared between replicas (TensorFlow).
        seed: integer that fixes the initial weights; None draws them from Keras's global seed.
        **kwargs: `name`, `dtype` and other arguments of `keras.layers.Layer`.

    Raises:
        ValueError: for an unknown `combine` or fewer than two classes.

    Source: Wu et al., 2024, section 3; https://arxiv.org/abs/2410.18200.

    Example:
        >>> gate = PairGate(classes=10, width=256)
        >>> gate(np.array([0, 3]), np.array([3, 1])).shape
        (2, 256)
    """

    def __init__(
        self,
        classes: int,
        width: int,
        *,
        hidden: Sequence[int] = (512, 1024),
        combine: str = "mean",
        synchronized: bool = True,
        seed: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if combine not in COMBINE:
            raise ValueError(f"combine is one of {COMBINE}; received {combine!r}.")
        if classes < 2:
            raise ValueError(f"A pair needs at least 2 classes; received {classes}.")
        self.classes, self.width, self.hidden = classes, width, tuple(hidden)
        self.combine, self.synchronized, self.seed = combine, synchronized, seed
        start = keras.initializers.RandomNormal(stddev=1.0, seed=layer_seed(seed, 0))
        self.embedding = keras.layers.Embedding(
            classes, self.hidden[0], embeddings_initializer=start, dtype=self.dtype_policy
        )
        self.norms = [
            batch_norm(synchronized=synchronized, dtype=self.dtype_policy, name=f"norm_{index}")
            for index in range(2)
        ]
        self.linear = [self._dense(units, 1 + i) for i, units in enumerate((self.hidden[1], width))]
        self.embedding.build(None)
        for norm, linear, units in zip(self.norms, self.linear, self.hidden, strict=True):
            norm.build((None, units))
            linear.build((None, units))
        self.built = True

    def _dense(self, units: int, index: int) -> keras.layers.Dense:
        start = keras.initializers.HeNormal(seed=layer_seed(self.seed, index))
        return keras.layers.Dense(
            units, kernel_initializer=start, dtype=self.dtype_policy, name=f"linear_{index}"
        )

    def call(self, first: Any, second: Any, training: bool = False) -> Any:
        """Gates of pairs.

        Args:
            first: `(batch,)` class indices.
            second: `(batch,)` class indices.
            training: whether batch norms use and track the batch.

        Returns:
            `(batch, width)` in 0..1, in the compute dtype.
        """
        pairs = [self.embedding(ops.maximum(ops.cast(c, "int32"), 0)) for c in (first, second)]
        if self.combine == "mean":
            return self._gate((pairs[0] + pairs[1]) / 2, training)
        return self._gate(pairs[0], training) * self._gate(pairs[1], training)

    def _gate(self, x: Any, training: bool) -> Any:
        for norm, linear in zip(self.norms, self.linear, strict=True):
            x = linear(norm(ops.relu(x), training=training))
        return ops.sigmoid(x)

    def compute_output_shape(self, first: tuple, second: tuple) -> tuple:
        """`(batch, width)`."""
        return (first[0], self.width)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        names = ("classes", "width", "hidden", "combine", "synchronized", "seed")
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}
