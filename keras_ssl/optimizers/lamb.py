# SPDX-License-Identifier: Apache-2.0
"""LAMB: Adam's direction, a step in proportion to the weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import keras
from keras import ops

from keras_ssl.optimizers._rules import Schedule, VariableRules
from keras_ssl.optimizers.lars import norm_of


@keras.saving.register_keras_serializable("keras_ssl")
class LAMB(VariableRules, keras.optimizers.Optimizer):
    """Adam whose step per variable has the length `learning_rate · |w|`.

    The direction is Adam's plus `weight_decay · w`; `keras.optimizers.Lamb` decays apart from it,
    which is another method once the decay matters. Variables without decay take Adam's step as it
    is. Where either norm is zero the ratio is 1. Norms and the step are computed in float32. Large
    Batch Optimization for Deep Learning, You et al. 2020, algorithm 2, with the exemptions of its
    fused implementations.

    Args:
        learning_rate: float or schedule.
        beta_1: decay of the average of gradients.
        beta_2: decay of the average of their squares.
        epsilon: added to the root of that average.
        weight_decay: float or schedule of the number of updates.
        exclude: regular expressions; variables whose path matches get neither decay nor ratio.
        exclude_rank: variables with at most this many axes get neither (1: biases and norm
            parameters; -1: all variables are adapted).
        multipliers: path, or regular expression searched in the path → factor of the learning
            rate; the own path counts first, then the first match.
        **kwargs: arguments of `keras.optimizers.Optimizer` (clipping, EMA, accumulation, name).

    Example:

    >>> optimizer = LAMB(3.2e-3, beta_2=0.95, weight_decay=0.04, global_clipnorm=5.0)
    """

    # Keras's own decay is decoupled from the direction.
    decay_in_gradient = True

    def __init__(
        self,
        learning_rate: float | Schedule = 1e-3,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-6,
        weight_decay: float | Schedule = 0.01,
        exclude: str | Sequence[str] = (),
        exclude_rank: int = 1,
        multipliers: Mapping[str, float] | None = None,
        name: str = "lamb",
        **kwargs,
    ):
        super().__init__(
            learning_rate,
            weight_decay=weight_decay,
            exclude=exclude,
            exclude_rank=exclude_rank,
            multipliers=multipliers,
            name=name,
            **kwargs,
        )
        self.beta_1, self.beta_2, self.epsilon = beta_1, beta_2, epsilon

    def build(self, variables):
        """Makes the averages of gradients and of their squares.

        Args:
            variables: the trainable Keras variables.
        """
        if self.built:
            return
        super().build(variables)
        self.momentums = self.add_optimizer_variables(variables, "momentum")
        self.velocities = self.add_optimizer_variables(variables, "velocity")

    def update_step(self, gradient, variable, learning_rate):
        """Updates one variable.

        Args:
            gradient: gradient of the loss, without loss scale.
            variable: the variable.
            learning_rate: scalar.
        """
        index = self.variable_index(variable)
        first, second = self.momentums[index], self.velocities[index]
        weight = ops.cast(variable, "float32")
        # Sparse gradients of embeddings are made dense: the norm and the decay need every row.
        gradient = ops.cast(ops.convert_to_tensor(gradient, sparse=False), "float32")
        step = ops.cast(self.iterations + 1, "float32")
        mean = self.beta_1 * ops.cast(first, "float32") + (1.0 - self.beta_1) * gradient
        square = self.beta_2 * ops.cast(second, "float32")
        square = square + (1.0 - self.beta_2) * ops.square(gradient)
        root = ops.sqrt(square / (1.0 - ops.power(self.beta_2, step)))
        update = mean / (1.0 - ops.power(self.beta_1, step)) / (root + self.epsilon)
        if self._decayed[index]:
            update = update + ops.cast(self.weight_decay, "float32") * weight
            length, norm = norm_of(weight), norm_of(update)
            usable = ops.logical_and(length > 0.0, norm > 0.0)
            update = update * ops.where(usable, length / ops.where(usable, norm, 1.0), 1.0)
        rate = ops.cast(learning_rate, "float32") * self._factors[index]
        self.assign(first, ops.cast(mean, first.dtype))
        self.assign(second, ops.cast(square, second.dtype))
        self.assign(variable, ops.cast(weight - rate * update, variable.dtype))

    def get_config(self) -> dict:
        """The constructor's arguments."""
        names = ("beta_1", "beta_2", "epsilon")
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}
