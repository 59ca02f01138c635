# SPDX-License-Identifier: Apache-2.0
"""Momentum SGD with L2 decay inside the gradient, as MoCo, SimSiam and SwAV train."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import keras

from keras_ssl.optimizers._rules import Schedule
from keras_ssl.optimizers.lars import LARS


@keras.saving.register_keras_serializable("keras_ssl")
class SGD(LARS):
    """`v = momentum · v + g + weight_decay · w; w = w - learning_rate · v`.

    The published recipes mean this L2 decay: it goes through the momentum, so that with 0.9 it
    acts ten times as strongly as the decoupled `weight_decay` of `keras.optimizers.SGD`.

    Args:
        learning_rate: float or schedule.
        momentum: decay of the momentum buffer.
        weight_decay: float or schedule.
        exclude: regular expressions of variable paths without decay.
        exclude_rank: variables with at most this many axes are not decayed; -1 (default)
            decays all, as MoCo v2 and SimSiam do.
        nesterov: Nesterov momentum.
        bias_scale: factor of the learning rate of variables with at most one axis.
        multipliers: path, or regular expression searched in the path → factor of the learning
            rate; see `layer_decay_scales`.
        **kwargs: arguments of `keras.optimizers.Optimizer`.

    Example:

    >>> optimizer = SGD(0.03, weight_decay=1e-4)
    """

    def __init__(
        self,
        learning_rate: float | Schedule = 0.01,
        momentum: float = 0.9,
        weight_decay: float | Schedule = 0.0,
        exclude: str | Sequence[str] = (),
        exclude_rank: int = -1,
        nesterov: bool = False,
        bias_scale: float = 1.0,
        multipliers: Mapping[str, float] | None = None,
        name: str = "sgd",
        **kwargs,
    ):
        super().__init__(
            learning_rate,
            momentum=momentum,
            weight_decay=weight_decay,
            trust_coefficient=None,
            exclude=exclude,
            exclude_rank=exclude_rank,
            nesterov=nesterov,
            bias_scale=bias_scale,
            multipliers=multipliers,
            name=name,
            **kwargs,
        )

    def get_config(self) -> dict:
        """The constructor's arguments."""
        config = super().get_config()
        for key in (
            "trust_coefficient",
            "exclude_from_ratio",
            "lr_in_momentum",
            "ratio",
            "clip",
            "epsilon",
        ):
            config.pop(key)
        return config
