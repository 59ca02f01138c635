# SPDX-License-Identifier: Apache-2.0
"""Masks whose ratio changes from step to step, or from sample to sample."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import keras
from keras import ops

from keras_ssl.core import distribution
from keras_ssl.masking._plan import Masking, MaskPlan, uniform
from keras_ssl.masking._subset import behind

RESTS = ("replace", "ignore")


@keras.saving.register_keras_serializable(package="keras_ssl")
class ScheduledMasking(keras.layers.Layer):
    """Another strategy with a ratio that a schedule or chance decides, without new shapes.

    As many tokens as the least ratio hides are gathered away. What the ratio of this step hides
    besides is replaced by a mask token in the encoder, or nobody attends to it. The decoder has
    room for all that the greatest ratio hides; what is visible is not attended to there and has no
    weight. Tokens that the strategy hides together, such as groups, stay together.

    Args:
        masking: strategy that decides the order in which tokens are hidden.
        ratio: a schedule, called with the number of updates, or `(mean, deviation)` of a normal
            distribution cut off at the range, drawn for every sample.
        least: smallest ratio.
        most: greatest ratio.
        rest: `"replace"` or `"ignore"` what is gathered but hidden.
        **kwargs: `name` and `dtype` of `keras.layers.Layer`.

    Call: `masking(tokens, seed=..., step=...)` with tokens `(B, g1, …, gd, D)` and an int32 `(2,)`
    seed gives a `MaskPlan`; `plan` needs no tokens.

    Raises:
        ValueError: for a strategy without indices, ratios that do not rise within (0, 1), an
            unknown rest, or a grid of which both ratios leave as much visible.

    Source: random ratio by dropping and replacing: MAGE, Li et al. 2023, section 3.

    Example:
        >>> masking = ScheduledMasking(RandomMasking(), (0.55, 0.25), least=0.5, most=0.95)
        >>> masking.plan(8, (14, 14), distribution.fixed_seed(0)).keep.shape
        (8, 98)
    """

    def __init__(
        self,
        masking: Masking,
        ratio: Callable | Sequence[float],
        least: float = 0.5,
        most: float = 0.95,
        rest: str = "replace",
        **kwargs: Any,
    ):
        super().__init__(**{"dtype": "float32", **kwargs})
        if not 0.0 < least < most < 1.0 or rest not in RESTS:
            raise ValueError(
                f"ScheduledMasking needs 0 < least < most < 1 and rest one of {RESTS}; received "
                f"{least}, {most}, {rest!r}."
            )
        if not isinstance(masking, Masking):
            raise ValueError(
                "ScheduledMasking takes a strategy that hides tokens in an order, a "
                f"masking.Masking such as RandomMasking(); received {type(masking).__name__}."
            )
        if not callable(ratio) and (len(ratio) != 2 or ratio[1] <= 0):
            raise ValueError(
                f"ratio is a schedule, or a mean and a deviation above 0; received {ratio!r}."
            )
        self.masking, self.least, self.most, self.rest = masking, float(least), float(most), rest
        self.ratio = ratio if callable(ratio) else tuple(float(number) for number in ratio)
        self.built = True

    @property
    def replaces(self) -> bool:
        """Whether an encoder needs a mask token for its plans."""
        return self.rest == "replace"

    def visible(self, grid: Sequence[int]) -> int:
        """Number of tokens that are gathered, of every sample."""
        return self._ends(grid)[0]

    def _ends(self, grid: Sequence[int]) -> tuple[int, int]:
        """How many tokens the least ratio shows and how many the greatest."""
        ends = self.masking.visible(grid, self.least), self.masking.visible(grid, self.most)
        if ends[0] == ends[1]:
            raise ValueError(
                f"of a grid {tuple(grid)} ratios of {self.least} and {self.most} both show "
                f"{ends[0]} tokens, so there is nothing to schedule."
            )
        return ends

    def ratios(self, rows: Any, seed: Any, step: Any) -> Any:
        """The ratio of every sample, float32 `(rows,)`."""
        if callable(self.ratio):
            value = ops.cast(self.ratio(0 if step is None else step), "float32")
            return ops.clip(value, self.least, self.most) + ops.zeros((rows,), "float32")
        mean, deviation = self.ratio
        low, high = (
            0.5 * (1.0 + math.erf((end - mean) / deviation / math.sqrt(2.0)))
            for end in (self.least, self.most)
        )
        quantile = low + (high - low) * uniform(seed, rows)
        drawn = mean + deviation * math.sqrt(2.0) * ops.erfinv(2.0 * quantile - 1.0)
        return ops.clip(drawn, self.least, self.most)

    def plan(
        self, rows: Any, grid: Sequence[int], seed: Any, step: Any = None, **context: Any
    ) -> MaskPlan:
        """Which tokens are shown in this step, see `Masking.plan`."""
        kept, fewest = self._ends(grid)
        inner = self.masking.plan(rows, grid, distribution.fold_in(seed, 0), step=step, **context)
        order = ops.concatenate([inner.keep, inner.hidden], axis=1)
        tokens = order.shape[1]
        ratio = self.ratios(rows, distribution.fold_in(seed, 1), step)
        unit = self.masking.together(grid)
        # A little more, for 1 - 0.6 in float32 is less than 0.4, and of 5 tokens only 1.
        shown = ops.floor((1.0 - ratio) * (tokens // unit) + 1e-4) * unit
        shown = ops.expand_dims(ops.cast(ops.clip(shown, fewest, kept), "int32"), 1)
        seen = ops.arange(kept, dtype="int32")[None] < shown
        restore = ops.cast(ops.argsort(order, axis=1), "int32")
        decode, place = behind(order, shown, tokens - fewest)
        asked = place < tokens
        replaces = self.rest == "replace"
        return MaskPlan(
            mask=ops.cast(restore >= shown, "float32"),
            keep=order[:, :kept],
            hidden=order[:, kept:],
            restore=restore,
            decode=decode,
            weight=ops.cast(asked, "float32"),
            shown=None if replaces else seen,
            asked=asked,
            replaced=ops.logical_not(seen) if replaces else None,
        )

    def call(self, inputs: Any, seed: Any, step: Any = None) -> MaskPlan:
        """The plan of tokens on their grid."""
        return self.plan(ops.shape(inputs)[0], inputs.shape[1:-1], seed, step=step)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        serialize = keras.saving.serialize_keras_object
        own = {
            "masking": serialize(self.masking),
            "ratio": serialize(self.ratio) if callable(self.ratio) else list(self.ratio),
            "least": self.least,
            "most": self.most,
            "rest": self.rest,
        }
        return {**super().get_config(), **own}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> ScheduledMasking:
        """Builds the layer from `get_config`."""
        config = dict(config)
        for name in ("masking", "ratio"):
            if isinstance(config[name], dict):
                config[name] = keras.saving.deserialize_keras_object(config[name])
        return cls(**config)
