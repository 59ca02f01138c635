# SPDX-License-Identifier: Apache-2.0
"""Which variables an optimizer treats differently, and weight decay that may be a schedule."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

import keras

from keras_ssl.core.keras_private import WeightDecayHooks

Schedule = keras.optimizers.schedules.LearningRateSchedule


def matches(variable: Any, patterns: Sequence[str], rank: int) -> bool:
    """Whether a variable has at most `rank` axes or a path that a pattern finds.

    Args:
        variable: Keras variable.
        patterns: regular expressions searched in `variable.path`, for example `"head/"`.
        rank: largest number of axes that counts; -1 for none.

    Returns:
        bool.
    """
    path = getattr(variable, "path", variable.name)
    return len(variable.shape) <= rank or any(re.search(p, path) for p in patterns)


def pattern_list(name: str, patterns: Any) -> list[str]:
    """Checks a list of regular expressions.

    Args:
        name: name of the argument, for the message.
        patterns: a string or a sequence of strings.

    Returns:
        list of strings.

    Raises:
        ValueError: if an expression cannot be compiled.
    """
    patterns = [patterns] if isinstance(patterns, str) else list(patterns)
    for pattern in patterns:
        try:
            re.compile(pattern)
        except re.error as error:
            raise ValueError(
                f"{name} holds regular expressions for variable paths such as "
                f"'resnet/block1/bn/gamma'; {pattern!r} is none ({error})."
            ) from error
    return patterns


def factor_of(variable: Any, multipliers: Mapping[str, float]) -> float | None:
    """The factor that a table of paths and patterns gives to a variable.

    Args:
        variable: Keras variable.
        multipliers: path, or regular expression searched in the path → factor. The variable's
            own path counts first, then the first pattern that is found.

    Returns:
        float, or None where nothing matches.
    """
    own = multipliers.get(getattr(variable, "path", variable.name))
    if own is not None:
        return own
    found = (factor for key, factor in multipliers.items() if matches(variable, [key], -1))
    return next(found, None)


def checked_multipliers(multipliers: Mapping[str, float] | None) -> dict[str, float]:
    """Checks factors of learning rates.

    Args:
        multipliers: path or regular expression → factor, or None for none.

    Returns:
        dict with floats.

    Raises:
        ValueError: if a key is no regular expression, or a factor negative or not finite.
    """
    factors = {str(key): float(factor) for key, factor in (multipliers or {}).items()}
    pattern_list("multipliers", factors)
    for key, factor in factors.items():
        if not 0.0 <= factor < math.inf:
            raise ValueError(
                f"multipliers are factors of the learning rate, at least 0 and finite; received "
                f"{factor} for {key!r}. A factor of 0 keeps a variable where it is."
            )
    return factors


class VariableRules(WeightDecayHooks):
    """Mixin: what differs from variable to variable, all kept in the config.

    `weight_decay` is a number or a schedule and spares variables by rank and name; `multipliers`
    scale the learning rate, and with it the whole update.

    The exclusions of Keras's own `exclude_from_weight_decay` are kept outside of the config and
    are lost when a model is saved and loaded; these are not.
    """

    def __init__(
        self,
        *args,
        weight_decay: float | Schedule = 0.0,
        exclude: str | Sequence[str] = (),
        exclude_rank: int = 1,
        multipliers: Mapping[str, float] | None = None,
        **kwargs,
    ):
        super().__init__(*args, weight_decay=0.0, **kwargs)
        self.weight_decay = weight_decay
        self.exclude = pattern_list("exclude", exclude)
        self.exclude_rank = exclude_rank
        self.multipliers = checked_multipliers(multipliers)
        self._decayed, self._factors = [], []

    @property
    def weight_decay(self) -> Any:
        """The decay of the current update (a number, or a tensor when it is scheduled)."""
        decay = self._weight_decay
        return decay(self.iterations) if isinstance(decay, Schedule) else decay

    @weight_decay.setter
    def weight_decay(self, value: float | Schedule):
        if not isinstance(value, Schedule) and not float(value or 0.0) >= 0.0:
            raise ValueError(f"weight_decay is at least 0; received {value}.")
        self._weight_decay = value if isinstance(value, Schedule) else float(value or 0.0)

    def build(self, variables):
        """Decides per variable, once, while paths are known.

        Args:
            variables: the trainable Keras variables.
        """
        super().build(variables)
        self._decayed = [
            not matches(variable, self.exclude, self.exclude_rank) for variable in variables
        ]
        self._factors = [self.rate_factor(variable) for variable in variables]

    def rate_factor(self, variable: Any) -> float:
        """Factor of the learning rate of a variable."""
        factor = factor_of(variable, self.multipliers)
        return 1.0 if factor is None else factor

    def is_decayed(self, variable: Any) -> bool:
        """Whether weight decay applies to a variable."""
        return self._decayed[self.variable_index(variable)]

    def get_config(self) -> dict:
        """The constructor's arguments."""
        config = super().get_config()
        decay = self._weight_decay
        if isinstance(decay, Schedule):
            decay = keras.saving.serialize_keras_object(decay)
        config["weight_decay"] = decay
        config["exclude"] = list(self.exclude)
        config["exclude_rank"] = self.exclude_rank
        config["multipliers"] = dict(self.multipliers)
        return config

    @classmethod
    def from_config(cls, config, custom_objects=None):
        """Makes the optimizer of a config.

        Args:
            config: what `get_config` returned.
            custom_objects: unregistered classes by name.

        Returns:
            optimizer.
        """
        config = dict(config)
        if isinstance(config.get("weight_decay"), dict):
            config["weight_decay"] = keras.saving.deserialize_keras_object(
                config["weight_decay"], custom_objects=custom_objects
            )
        return super().from_config(config, custom_objects=custom_objects)
