# SPDX-License-Identifier: Apache-2.0
"""Distances to prototypes that can be decoded to samples."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from keras_ssl.core.keras_private import LossesOfReplica
from keras_ssl.losses._math import as_float32
from keras_ssl.losses.prototypes import nearest_prototype, nearest_sample


@keras.saving.register_keras_serializable(package="keras_ssl")
class PrototypeDistance(LossesOfReplica, keras.layers.Layer):
    """Squared distances of codes to learned prototypes: what a linear classifier can show.

    Prototypes live in the space of an autoencoder's codes, so its decoder shows them as samples: "a
    3, because it is near this 3 and far from that 8". Two terms, added to the loss in training,
    keep them there: every prototype near some sample of the batch, every sample near some
    prototype. `callbacks.PrototypePictures` watches them. For unit vectors and cosines, as SwAV has
    them, see `Prototypes`.

    Args:
        count: number of prototypes; 15 in the paper for ten digits.
        near_samples: weight of `losses.nearest_sample`, 0 for none.
        near_prototypes: weight of `losses.nearest_prototype`, 0 for none. The paper weighs both as
            the squared error of an image, summed over its pixels, and the cross-entropy 20 times.
        initializer: of the prototypes, as for any Keras layer; `"uniform"` is between 0 and 1, as
            in the released code.
        seed: of the initial prototypes where `initializer` is a name; `None` draws it.
        **kwargs: `name`, `dtype`, `trainable` of `keras.layers.Layer`; float32 unless given.

    Call: `layer(codes)` with codes `(B, …)`, flattened to `(B, D)`, gives float32 `(B, count)`.

    Raises:
        ValueError: for a count below 1, a weight below 0, or codes of no fixed shape.

    Source: Li et al., 2018, Deep Learning for Case-Based Reasoning through Prototypes, section 3;
    https://arxiv.org/abs/1710.04806.

    Example:

    ```python
    code = encoder(images)
    distances = layers.PrototypeDistance(15)(code)
    logits = keras.layers.Dense(10, use_bias=False)(distances)
    model = keras.Model(images, {"logits": logits, "reconstruction": decoder(code)})
    ```
    """

    def __init__(
        self,
        count: int,
        near_samples: float = 1.0,
        near_prototypes: float = 1.0,
        initializer: Any = "uniform",
        seed: int | None = None,
        **kwargs: Any,
    ):
        # Differences of large squares do not survive half precision.
        kwargs.setdefault("dtype", "float32")
        super().__init__(**kwargs)
        if not isinstance(count, int) or count < 1 or min(near_samples, near_prototypes) < 0:
            raise ValueError(
                "PrototypeDistance needs a count of at least 1 and weights of at least 0; received "
                f"{count!r}, near_samples={near_samples} and near_prototypes={near_prototypes}."
            )
        self.count, self.seed = count, seed
        self.near_samples, self.near_prototypes = float(near_samples), float(near_prototypes)
        if initializer == "uniform":
            initializer = keras.initializers.RandomUniform(0.0, 1.0, seed=seed)
        self.initializer = keras.initializers.get(initializer)

    def build(self, input_shape: Any) -> None:
        """Makes the prototypes for codes `(B, …)`."""
        shape = tuple(input_shape[1:])
        if not shape or None in shape:
            raise ValueError(
                f"{self.name} takes codes of a fixed shape; received {tuple(input_shape)}."
            )
        self.code_shape = shape
        self.prototypes = self.add_weight(
            shape=(self.count, *shape), initializer=self.initializer, name="prototypes"
        )

    def call(self, inputs: Any, training: bool = False) -> Any:
        """Squared distances `(B, count)` of codes to prototypes."""
        codes = ops.reshape(as_float32(inputs), (ops.shape(inputs)[0], -1))
        prototypes = ops.reshape(ops.cast(self.prototypes, "float32"), (self.count, -1))
        squares = ops.sum(ops.square(codes), axis=1, keepdims=True)
        own = ops.sum(ops.square(prototypes), axis=1)
        distances = squares + own - 2.0 * ops.matmul(codes, ops.transpose(prototypes))
        # Rounding may leave the distance of equal vectors a little below 0.
        distances = ops.maximum(distances, 0.0)
        if training and self.near_samples:
            self.add_loss(self.near_samples * nearest_sample(distances))
        if training and self.near_prototypes:
            self.add_loss(self.near_prototypes * nearest_prototype(distances))
        return distances

    def compute_output_shape(self, input_shape: Any) -> Any:
        """`(B, count)`."""
        return (input_shape[0], self.count)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        names = ("count", "near_samples", "near_prototypes", "seed")
        own = {name: getattr(self, name) for name in names}
        own["initializer"] = keras.initializers.serialize(self.initializer)
        return {**super().get_config(), **own}
