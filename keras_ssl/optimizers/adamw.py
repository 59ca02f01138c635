# SPDX-License-Identifier: Apache-2.0
"""AdamW whose decay and learning rate differ from variable to variable."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import keras
from keras import ops

from keras_ssl.optimizers._rules import Schedule, VariableRules


@keras.saving.register_keras_serializable("keras_ssl")
class AdamW(VariableRules, keras.optimizers.AdamW):
    """`keras.optimizers.AdamW` with decay rules kept in its config.

    DINO's decay that rises from 0.04 to 0.4 is `weight_decay=CosineRamp(0.04, 0.4, steps)`; it
    is read at every update, also inside a compiled step, where a number changed by a callback
    would have no effect. Decoupled Weight Decay Regularization, Loshchilov & Hutter 2019.

    `multipliers` scale learning rates, and so the whole update, decay included, as torch's
    parameter groups do. Scaled gradients would leave Adam's update as it is.

    Args:
        learning_rate: float or schedule.
        weight_decay: float or schedule of the number of updates.
        exclude: regular expressions of variable paths without decay.
        exclude_rank: variables with at most this many axes are not decayed (1: biases and
            norms; -1: all are).
        multipliers: path, or regular expression searched in the path → factor of the learning
            rate, at least 0; the own path counts first, then the first match. See
            `layer_decay_scales`.
        **kwargs: arguments of `keras.optimizers.AdamW`.

    Example:

    >>> optimizer = AdamW(5e-4, weight_decay=0.05, exclude=["position", "class_token"])
    """

    # Keras's own decay knows one learning rate for all; `update_step` decays instead.
    decay_in_gradient = True

    def __init__(
        self,
        learning_rate: float | Schedule = 1e-3,
        weight_decay: float | Schedule = 0.05,
        exclude: str | Sequence[str] = (),
        exclude_rank: int = 1,
        multipliers: Mapping[str, float] | None = None,
        **kwargs,
    ):
        super().__init__(
            learning_rate,
            weight_decay=weight_decay,
            exclude=exclude,
            exclude_rank=exclude_rank,
            multipliers=multipliers,
            **kwargs,
        )

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        """Decays and updates one variable.

        Args:
            gradient: gradient of the loss, without loss scale.
            variable: the variable.
            learning_rate: scalar.
        """
        index = self.variable_index(variable)
        rate = ops.cast(learning_rate, variable.dtype) * self._factors[index]
        if self._decayed[index]:
            decay = ops.cast(self.weight_decay, variable.dtype)
            self.assign_sub(variable, variable * decay * rate)
        super().update_step(gradient, variable, rate)
