# SPDX-License-Identifier: Apache-2.0
"""The network that is followed, not trained: a moving average of a student, or frozen."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
from keras import ops, tree

from keras_ssl.core import distribution
from keras_ssl.core.keras_private import all_layers

BATCH_NORM_POLICIES = ("own", "average", "copy")
DROPPING = (keras.layers.Dropout, keras.layers.GaussianDropout, keras.layers.AlphaDropout)


def clone(network: keras.Layer) -> keras.Layer:
    """Copies a layer or model with its weights.

    Args:
        network: a built layer or model with a working `get_config`.

    Returns:
        An independent copy with equal weights.
    """
    copy = type(network).from_config(network.get_config())
    if not copy.built:
        copy.build_from_config(network.get_build_config())
    # A clone starts from new random weights, so they are copied explicitly.
    copy.set_weights(network.get_weights())
    return copy


@keras.saving.register_keras_serializable(package="keras_ssl")
class Teacher(keras.layers.Layer):
    """A copy of a network that no gradient reaches and that follows its student.

    The copy's *variables* are frozen, not its layers: a batch-normalisation layer with
    `trainable=False` would run in inference mode, with the statistics of a random network. Dropout
    and dropped paths of the copy are off: a target is not to be disturbed at random.

    Args:
        network: built layer or model to copy; its weights are the teacher's first weights.
        momentum: share of the old teacher kept at each update, a float in [0, 1], a schedule
            of `optimizer.iterations`, or `None` for a teacher that never moves.
        batch_norm: what happens to moving statistics: `"own"` (the teacher's forward passes
            in training mode update them; MoCo, BYOL, DINO), `"average"` (averaged like
            weights) or `"copy"` (copied from the student).

    Call: `teacher(x, training=True)` gives the network's output with stopped gradient.

    Raises:
        ValueError: for an unknown `batch_norm` or a momentum outside [0, 1].

    Source: Mean teachers are better role models (2017), eq. 2; BYOL (2020), eq. 1.

    Example:

    ```python
    teacher = Teacher(encoder, momentum=0.99)
    target = teacher(images, training=True)
    teacher.update(encoder, step=0)
    ```
    """

    def __init__(
        self,
        network: keras.Layer,
        momentum: float | Callable | None = 0.996,
        batch_norm: str = "own",
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        if batch_norm not in BATCH_NORM_POLICIES:
            raise ValueError(
                f"Teacher(batch_norm={batch_norm!r}) is unknown; use one of {BATCH_NORM_POLICIES}."
            )
        if isinstance(momentum, (int, float)) and not 0.0 <= momentum <= 1.0:
            raise ValueError(
                f"Teacher(momentum={momentum}) must lie in [0, 1]: it is the share of the old "
                "teacher that an update keeps."
            )
        self.network = clone(network)
        self.momentum = momentum
        self.batch_norm = batch_norm
        for variable in self.network.variables:
            variable.trainable = False
        for layer in (self.network, *all_layers(self.network)):
            if isinstance(layer, DROPPING):
                layer.rate = 0.0
        self.built = True

    def call(self, inputs: Any, training: bool = False) -> Any:
        """Output of the copied network, a tensor or several, with stopped gradient."""
        return tree.map_structure(ops.stop_gradient, self.network(inputs, training=training))

    def compute_output_shape(self, input_shape: Any) -> Any:
        """Shape of the copied network's output."""
        return self.network.compute_output_shape(input_shape)

    def momentum_at(self, step: Any) -> Any:
        """Momentum of the update that follows optimizer step `step` (0 for the first)."""
        if callable(self.momentum):
            return ops.cast(self.momentum(step), "float32")
        return ops.convert_to_tensor(self.momentum, "float32")

    def update(self, student: keras.Layer, step: Any = 0, stepped: Any = True) -> None:
        """Moves the teacher towards the student.

        Args:
            student: the network that was copied.
            step: index of the optimizer step just taken, for a momentum schedule.
            stepped: boolean; where False (a micro-batch of gradient accumulation) the
                teacher stays where it is.
        """
        if self.momentum is None:
            return
        statistics = {id(v) for v in _moving_statistics(self.network)}
        momentum = ops.where(stepped, self.momentum_at(step), 1.0)
        own, new = [], []
        for mine, theirs in zip(self.network.variables, student.variables, strict=True):
            # Seed states are integers: averaging them would stop the random numbers.
            if not keras.backend.is_float_dtype(mine.dtype):
                continue
            weight = momentum
            if id(mine) in statistics:
                if self.batch_norm == "own":
                    continue
                if self.batch_norm == "copy":
                    weight = ops.where(stepped, 0.0, 1.0)
            weight = ops.cast(weight, mine.dtype)
            own.append(mine)
            new.append(mine * weight + theirs * (1 - weight))
        distribution.assign_all(own, new)

    def get_config(self) -> dict:
        """Config from which an equal teacher is made; weights are restored by Keras."""
        serialize = keras.saving.serialize_keras_object
        return {
            **super().get_config(),
            "network": serialize(self.network),
            "momentum": serialize(self.momentum) if callable(self.momentum) else self.momentum,
            "batch_norm": self.batch_norm,
        }

    @classmethod
    def from_config(cls, config: dict) -> Teacher:
        """Makes a teacher from `get_config`."""
        config = dict(config)
        config["network"] = keras.saving.deserialize_keras_object(config["network"])
        if isinstance(config["momentum"], dict):
            config["momentum"] = keras.saving.deserialize_keras_object(config["momentum"])
        return cls(**config)


def _moving_statistics(network: keras.Layer) -> list:
    layers = [network, *all_layers(network)]
    norms = [x for x in layers if isinstance(x, keras.layers.BatchNormalization)]
    return [v for norm in norms for v in (norm.moving_mean, norm.moving_variance)]
