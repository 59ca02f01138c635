# SPDX-License-Identifier: Apache-2.0
"""SGD that leaves the learning rate of some variables where it is."""

from __future__ import annotations

import re
from typing import Any

import keras

from keras_ssl.optimizers.sgd import SGD


@keras.saving.register_keras_serializable("keras_ssl")
class PartlyConstantSGD(SGD):
    """`keras_ssl.optimizers.SGD` with a constant learning rate for variables of some paths.

    SimSiam's predictor keeps its learning rate while that of the rest decays (Chen & He, 2021,
    section 4.2).

    Args:
        learning_rate: float or schedule, for the others.
        constant: regular expression searched in the variables' paths.
        constant_rate: their learning rate.
        **kwargs: arguments of `keras_ssl.optimizers.SGD`.
    """

    def __init__(
        self,
        learning_rate: Any = 0.01,
        *,
        constant: str = "predictor",
        constant_rate: float = 0.01,
        **kwargs: Any,
    ):
        super().__init__(learning_rate, **kwargs)
        self.constant = constant
        self.constant_rate = constant_rate

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        """Updates one variable.

        Args:
            gradient: gradient of the loss.
            variable: the variable.
            learning_rate: scalar, that of the schedule.
        """
        if re.search(self.constant, getattr(variable, "path", variable.name)):
            learning_rate = keras.ops.full_like(learning_rate, self.constant_rate)
        super().update_step(gradient, variable, learning_rate)

    def get_config(self) -> dict:
        """The constructor's arguments."""
        own = {"constant": self.constant, "constant_rate": self.constant_rate}
        return {**super().get_config(), **own}
