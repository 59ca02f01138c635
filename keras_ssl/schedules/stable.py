# SPDX-License-Identifier: Apache-2.0
"""Schedules with a constant phase, that need not know how long training will last."""

from __future__ import annotations

import math
from typing import Any

import keras
from keras import ops

from keras_ssl.schedules._step import as_step, check_steps, half_cosine
from keras_ssl.schedules.cosine import WarmupCosine

Schedule = keras.optimizers.schedules.LearningRateSchedule


@keras.saving.register_keras_serializable("keras_ssl")
class InfiniteSchedule(Schedule):
    """Warm-up, cooldown to a constant that has no end, and annealing where it is asked for.

    | step | value |
    |---|---|
    | 0 | 0 (`base` without warm-up, `constant` without cooldown either) |
    | `warmup_steps` | `base` |
    | `cooldown_end`, and until `anneal_start` | `constant` |
    | `anneal_start + anneal_steps` and beyond | `end` |

    More data may come at any time: train on with the constant, from a state saved just before
    annealing (`callbacks.AnnealBranch`), which restores the optimizer's moments and its step; the
    annealed copy is for use. Its schedule then is this one with a later `anneal_start`, for steps
    go on counting.

    Args:
        base: value at the end of the warm-up.
        constant: value of the constant phase; the paper has 0.25 to 0.75 of `base`.
        warmup_steps: number of updates of the warm-up, from 0.
        cooldown_end: step at which the cooldown ends.
        anneal_start: step at which annealing begins; None for never.
        anneal_steps: number of updates of the annealing.
        end: value after annealing, above 0, for the way there is exponential; None for a tenth of
            `constant`.
        cooldown: `"cosine"`, `"linear"` or `"inverse_sqrt"`.
        name: optional name.

    Raises:
        ValueError: for phases out of order, an unknown cooldown, or an `end` of 0.

    Source: Beyond Cosine Decay: On the effectiveness of Infinite Learning Rate Schedule for
    Continual Pre-training, 2025, section 3, and its authors' code, whose task takes 5 % of its
    steps to warm up, until 30 % to cool down and from 80 % to anneal.

    Example:

    >>> options = {"warmup_steps": 50, "cooldown_end": 300, "anneal_steps": 200}
    >>> first = InfiniteSchedule(1e-3, 2.5e-4, anneal_start=800, **options)
    >>> second = InfiniteSchedule(1e-3, 2.5e-4, anneal_start=1600, **options)
    """

    def __init__(
        self,
        base: float,
        constant: float,
        warmup_steps: float = 0,
        cooldown_end: float = 0,
        anneal_start: float | None = None,
        anneal_steps: float = 0,
        end: float | None = None,
        cooldown: str = "cosine",
        name: str | None = None,
    ):
        super().__init__()
        _check_phases(warmup_steps, cooldown_end, anneal_start, anneal_steps)
        end = 0.1 * constant if end is None else end
        if not (end > 0 and constant > 0):
            raise ValueError(
                f"InfiniteSchedule anneals exponentially, so constant and end lie above 0; "
                f"received {constant} and {end}."
            )
        if cooldown not in ("cosine", "linear", "inverse_sqrt"):
            raise ValueError(
                f'cooldown is "cosine", "linear" or "inverse_sqrt"; received {cooldown!r}.'
            )
        self.base, self.constant, self.end = base, constant, end
        self.warmup_steps, self.cooldown_end = warmup_steps, cooldown_end
        self.anneal_start, self.anneal_steps = anneal_start, anneal_steps
        self.cooldown, self.name = cooldown, name

    def __call__(self, step: Any) -> Any:
        """The value at `step` (a number, array or tensor), float32."""
        step = as_step(step)
        value = ops.where(step < self.cooldown_end, self._cooling(step), self.constant)
        rising = self.base * step / max(self.warmup_steps, 1)
        value = ops.where(step < self.warmup_steps, rising, value)
        if self.anneal_start is None:
            return value
        progress = (step - self.anneal_start) / max(self.anneal_steps, 1)
        falling = self.constant * ops.exp(
            math.log(self.end / self.constant) * ops.clip(progress, 0.0, 1.0)
        )
        return ops.where(step < self.anneal_start, value, falling)

    def _cooling(self, step: Any) -> Any:
        """From `base` to `constant`."""
        length = max(self.cooldown_end - self.warmup_steps, 1)
        progress = ops.clip((step - self.warmup_steps) / length, 0.0, 1.0)
        if self.cooldown == "cosine":
            return half_cosine(progress, self.base, self.constant)
        if self.cooldown == "linear":
            return self.base + (self.constant - self.base) * progress
        # 10 is the released code's timescale.
        last = 11.0**-0.5
        share = (ops.rsqrt(1.0 + 10.0 * progress) - last) / (1.0 - last)
        return self.constant + (self.base - self.constant) * share

    def get_config(self) -> dict:
        """The constructor's arguments."""
        return {
            "base": self.base,
            "constant": self.constant,
            "warmup_steps": self.warmup_steps,
            "cooldown_end": self.cooldown_end,
            "anneal_start": self.anneal_start,
            "anneal_steps": self.anneal_steps,
            "end": self.end,
            "cooldown": self.cooldown,
            "name": self.name,
        }


@keras.saving.register_keras_serializable("keras_ssl")
class RepeatedCosine(Schedule):
    """Warm-up and half a cosine, over again every `cycle_steps`: a task after the other.

    | step | value |
    |---|---|
    | 0, `cycle_steps`, … | `start` (`base` without warm-up) |
    | `warmup_steps` of a cycle | `base` |
    | towards the end of a cycle | `end`, but for one step |

    It is what `InfiniteSchedule` is compared with: every warm-up makes the network forget.

    Args:
        base: value at the end of a warm-up.
        cycle_steps: number of updates of a cycle.
        warmup_steps: number of updates of a warm-up.
        start: value at the first step of a warm-up.
        end: value that a cycle ends with.
        name: optional name.

    Raises:
        ValueError: unless `0 <= warmup_steps <= cycle_steps` and `cycle_steps > 0`.

    Source: SGDR: Stochastic Gradient Descent with Warm Restarts, 2017, equation 5 (without
    warm-up, cycles of one length).

    Example:

    >>> schedule = RepeatedCosine(1e-3, cycle_steps=1000, warmup_steps=50)
    """

    def __init__(
        self,
        base: float,
        cycle_steps: float,
        warmup_steps: float = 0,
        start: float = 0.0,
        end: float = 0.0,
        name: str | None = None,
    ):
        super().__init__()
        check_steps("RepeatedCosine", cycle_steps, warmup_steps)
        self.base, self.start, self.end = base, start, end
        self.cycle_steps, self.warmup_steps, self.name = cycle_steps, warmup_steps, name
        self._cycle = WarmupCosine(base, cycle_steps, warmup_steps, start, end)

    def __call__(self, step: Any) -> Any:
        """The value at `step` (a number, array or tensor), float32."""
        return self._cycle(ops.mod(as_step(step), float(self.cycle_steps)))

    def get_config(self) -> dict:
        """The constructor's arguments."""
        return {
            "base": self.base,
            "cycle_steps": self.cycle_steps,
            "warmup_steps": self.warmup_steps,
            "start": self.start,
            "end": self.end,
            "name": self.name,
        }


@keras.saving.register_keras_serializable("keras_ssl")
class WarmupStableDecay(Schedule):
    """Linear warm-up, a constant, and a linear decay over the last steps.

    | step | value |
    |---|---|
    | 0 | `start` (`base` without warm-up) |
    | `warmup_steps` until `total_steps - decay_steps` | `base` |
    | `total_steps` and beyond | `end` |

    Args:
        base: value of the constant phase.
        total_steps: number of updates of the whole schedule.
        warmup_steps: number of updates of the warm-up.
        decay_steps: number of updates of the decay.
        start: value at step 0 of a warm-up.
        end: value at `total_steps`.
        name: optional name.

    Raises:
        ValueError: unless warm-up and decay fit into `total_steps`, and that is above 0.

    Source: V-JEPA 2, 2025, released code; MiniCPM: Unveiling the Potential of Small Language
    Models, 2024, gave it its name.

    Example:

    >>> schedule = WarmupStableDecay(5e-4, 1000, warmup_steps=50, decay_steps=200)
    """

    def __init__(
        self,
        base: float,
        total_steps: float,
        warmup_steps: float = 0,
        decay_steps: float = 0,
        start: float = 0.0,
        end: float = 0.0,
        name: str | None = None,
    ):
        super().__init__()
        check_steps("WarmupStableDecay", total_steps, warmup_steps)
        if not 0 <= decay_steps <= total_steps - warmup_steps:
            raise ValueError(
                "WarmupStableDecay needs a decay that fits behind the warm-up; received "
                f"decay_steps={decay_steps}, warmup_steps={warmup_steps} and total_steps="
                f"{total_steps}."
            )
        self.base, self.start, self.end = base, start, end
        self.total_steps, self.warmup_steps = total_steps, warmup_steps
        self.decay_steps, self.name = decay_steps, name

    def __call__(self, step: Any) -> Any:
        """The value at `step` (a number, array or tensor), float32."""
        step = as_step(step)
        rise = ops.minimum(step / max(self.warmup_steps, 1), 1.0) if self.warmup_steps else 1.0
        left = (self.total_steps - step) / max(self.decay_steps, 1)
        falling = self.end + (self.base - self.end) * ops.clip(left, 0.0, 1.0)
        rising = self.start + (self.base - self.start) * rise
        return ops.where(step < self.total_steps - self.decay_steps, rising, falling)

    def get_config(self) -> dict:
        """The constructor's arguments."""
        return {
            "base": self.base,
            "total_steps": self.total_steps,
            "warmup_steps": self.warmup_steps,
            "decay_steps": self.decay_steps,
            "start": self.start,
            "end": self.end,
            "name": self.name,
        }


def _check_phases(
    warmup_steps: float, cooldown_end: float, anneal_start: float | None, anneal_steps: float
) -> None:
    """Requires the phases of an `InfiniteSchedule` to follow one another."""
    after = anneal_start is None or cooldown_end <= anneal_start
    annealed = (anneal_start is None) == (anneal_steps == 0) and anneal_steps >= 0
    if not (0 <= warmup_steps <= cooldown_end and after and annealed):
        raise ValueError(
            "InfiniteSchedule needs 0 <= warmup_steps <= cooldown_end <= anneal_start, and "
            f"anneal_steps above 0 with an anneal_start only; received {warmup_steps}, "
            f"{cooldown_end}, {anneal_start} and {anneal_steps}. All count updates, not epochs."
        )
