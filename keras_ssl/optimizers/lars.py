# SPDX-License-Identifier: Apache-2.0
"""LARS: layer-wise adaptive rate scaling for large batches."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import keras
from keras import ops

from keras_ssl.optimizers._rules import Schedule, VariableRules, factor_of, matches, pattern_list

_RATIOS = ("gradient", "separate", "update")


@keras.saving.register_keras_serializable("keras_ssl")
class LARS(VariableRules, keras.optimizers.Optimizer):
    """Momentum SGD whose step per variable is scaled by `trust_coefficient · |w| / |g|`.

    Weight decay is L2 inside the gradient, `g + weight_decay · w`, before the norm. Two families
    exist, equal while the learning rate is constant: BYOL, Barlow Twins, VICReg and MoCo v3
    multiply the momentum buffer by the learning rate (default here); SimCLR keeps it inside the
    buffer (`lr_in_momentum=True`). Where either norm is zero the ratio is 1. Norms and the step
    are computed in float32. Large Batch Training of Convolutional Networks, You et al. 2017.

    Args:
        learning_rate: float or schedule.
        momentum: decay of the momentum buffer.
        weight_decay: float or schedule.
        trust_coefficient: the eta of the ratio. `None`: no ratio, plain momentum SGD.
        exclude: regular expressions; variables whose path matches get neither decay nor ratio.
        exclude_rank: variables with at most this many axes get neither (1: biases and norm
            parameters; -1: all variables are adapted).
        exclude_from_ratio: as `exclude`, for the ratio alone, in addition to `exclude`.
        lr_in_momentum: learning rate inside of the momentum buffer (SimCLR).
        nesterov: Nesterov momentum.
        ratio: what `|g|` is. `"gradient"`: the norm of the decayed gradient (official);
            `"separate"`: `|g| + weight_decay · |w| + epsilon` (solo-learn); `"update"`: the norm
            of the momentum-averaged update (SimCLR's "popular" form).
        clip: LARC, `min(ratio / learning_rate, 1)`.
        epsilon: added to the denominator of `"separate"`.
        bias_scale: factor of the learning rate of variables with at most one axis (Barlow
            Twins: 0.0048 / 0.2 = 0.024).
        multipliers: path, or regular expression searched in the path → factor of the learning
            rate; the own path counts first, then the first match, then `bias_scale`.
        **kwargs: arguments of `keras.optimizers.Optimizer` (clipping, EMA, accumulation, name).

    Raises:
        ValueError: for an unknown `ratio` or contradictory options.

    Example:

    >>> optimizer = LARS(0.2, weight_decay=1e-6, bias_scale=0.024)
    """

    # Keras's own decay is decoupled from the gradient.
    decay_in_gradient = True

    def __init__(
        self,
        learning_rate: float | Schedule = 0.2,
        momentum: float = 0.9,
        weight_decay: float | Schedule = 0.0,
        trust_coefficient: float | None = 1e-3,
        exclude: str | Sequence[str] = (),
        exclude_rank: int = 1,
        exclude_from_ratio: str | Sequence[str] = (),
        lr_in_momentum: bool = False,
        nesterov: bool = False,
        ratio: str = "gradient",
        clip: bool = False,
        epsilon: float = 1e-8,
        bias_scale: float = 1.0,
        multipliers: Mapping[str, float] | None = None,
        name: str = "lars",
        **kwargs,
    ):
        if ratio not in _RATIOS:
            raise ValueError(f"ratio is one of {_RATIOS}; received {ratio!r}.")
        if lr_in_momentum and ratio == "update":
            raise ValueError(
                'ratio="update" adapts after the momentum, where the learning rate is not yet '
                "applied; use it with lr_in_momentum=False."
            )
        super().__init__(
            learning_rate,
            weight_decay=weight_decay,
            exclude=exclude,
            exclude_rank=exclude_rank,
            multipliers=multipliers,
            name=name,
            **kwargs,
        )
        self.momentum = momentum
        self.trust_coefficient = trust_coefficient
        self.exclude_from_ratio = pattern_list("exclude_from_ratio", exclude_from_ratio)
        self.lr_in_momentum = lr_in_momentum
        self.nesterov = nesterov
        self.ratio = ratio
        self.clip = clip
        self.epsilon = epsilon
        self.bias_scale = bias_scale

    def build(self, variables):
        """Makes the momentum buffers.

        Args:
            variables: the trainable Keras variables.
        """
        if self.built:
            return
        super().build(variables)
        self.momentums = self.add_optimizer_variables(variables, "momentum")
        self._adapted = [
            decayed and not matches(variable, self.exclude_from_ratio, -1)
            for decayed, variable in zip(self._decayed, variables, strict=True)
        ]

    def rate_factor(self, variable: Any) -> float:
        """Factor of the learning rate of a variable."""
        factor = factor_of(variable, self.multipliers)
        if factor is not None:
            return factor
        return self.bias_scale if len(variable.shape) <= 1 else 1.0

    def update_step(self, gradient, variable, learning_rate):
        """Updates one variable.

        Args:
            gradient: gradient of the loss, without loss scale.
            variable: the variable.
            learning_rate: scalar.
        """
        index = self.variable_index(variable)
        buffer = self.momentums[index]
        weight = ops.cast(variable, "float32")
        # Sparse gradients of embeddings are made dense: the norm and the decay need every row.
        gradient = ops.cast(ops.convert_to_tensor(gradient, sparse=False), "float32")
        rate = ops.cast(learning_rate, "float32") * self._factors[index]
        decay = ops.cast(self.weight_decay if self._decayed[index] else 0.0, "float32")
        adapted = self._adapted[index] and self.trust_coefficient is not None

        raw, gradient = gradient, gradient + decay * weight
        if adapted and self.ratio != "update":
            gradient = gradient * self._trust(weight, raw, gradient, decay, rate)
        step = rate * gradient if self.lr_in_momentum else gradient
        velocity = self.momentum * ops.cast(buffer, "float32") + step
        update = self.momentum * velocity + step if self.nesterov else velocity
        if adapted and self.ratio == "update":
            update = update * self._trust(weight, raw, update, decay, rate)
        if not self.lr_in_momentum:
            update = rate * update
        self.assign(buffer, ops.cast(velocity, buffer.dtype))
        self.assign(variable, ops.cast(weight - update, variable.dtype))

    def _trust(self, weight: Any, raw: Any, scaled: Any, decay: Any, rate: Any) -> Any:
        weight_norm, norm = norm_of(weight), norm_of(scaled)
        if self.ratio == "separate":
            raw_norm = norm_of(raw)
            norm = ops.where(
                raw_norm > 0.0, raw_norm + decay * weight_norm + self.epsilon, raw_norm
            )
        usable = ops.logical_and(weight_norm > 0.0, norm > 0.0)
        ratio = self.trust_coefficient * weight_norm / ops.where(usable, norm, 1.0)
        if self.clip:
            # The first step of a warm-up has learning rate 0.
            ratio = ops.minimum(ratio / ops.maximum(rate, 1e-30), 1.0)
        return ops.where(usable, ratio, 1.0)

    def get_config(self) -> dict:
        """The constructor's arguments."""
        return {
            **super().get_config(),
            "momentum": self.momentum,
            "trust_coefficient": self.trust_coefficient,
            "exclude_from_ratio": list(self.exclude_from_ratio),
            "lr_in_momentum": self.lr_in_momentum,
            "nesterov": self.nesterov,
            "ratio": self.ratio,
            "clip": self.clip,
            "epsilon": self.epsilon,
            "bias_scale": self.bias_scale,
        }


def norm_of(x: Any) -> Any:
    """Euclidean norm of all entries, a float32 scalar."""
    # Scaled by the largest entry: the plain sum of squares under- and overflows float32.
    largest = ops.max(ops.abs(x))
    safe = ops.where(largest > 0.0, largest, 1.0)
    return largest * ops.sqrt(ops.sum(ops.square(x / safe)))
