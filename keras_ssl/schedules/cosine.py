# SPDX-License-Identifier: Apache-2.0
"""Cosine schedules."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from keras_ssl.schedules._step import as_step, check_steps, half_cosine

Schedule = keras.optimizers.schedules.LearningRateSchedule


@keras.saving.register_keras_serializable("keras_ssl")
class WarmupCosine(Schedule):
    """Linear warm-up, then half a cosine.

    | step | value |
    |---|---|
    | 0 | `start` (`base` without warm-up) |
    | `warmup_steps` | `base` |
    | `total_steps` | `end` |
    | beyond | `end`; with `clamp=False` the cosine rises again |

    SimCLR (2020), BYOL, Barlow Twins (`end` = base / 1000) and VICReg use it as it is. DINO's
    code builds the warm-up with `linspace`, so that `base` is reached one step earlier and used
    twice: `peak_twice=True`.

    Args:
        base: value at the end of the warm-up.
        total_steps: number of updates of the whole schedule, the warm-up included.
        warmup_steps: number of updates of the warm-up.
        start: value at step 0 of a warm-up.
        end: value at `total_steps`.
        peak_twice: reach `base` at step `warmup_steps - 1` and again at `warmup_steps`.
        clamp: stay at `end` beyond `total_steps`.
        name: optional name.

    Raises:
        ValueError: unless `0 <= warmup_steps <= total_steps` and `total_steps > 0`.

    Example:

    >>> schedule = WarmupCosine(0.3, total_steps=100, warmup_steps=10)
    >>> optimizer = keras.optimizers.SGD(schedule)
    """

    def __init__(
        self,
        base: float,
        total_steps: float,
        warmup_steps: float = 0,
        start: float = 0.0,
        end: float = 0.0,
        peak_twice: bool = False,
        clamp: bool = True,
        name: str | None = None,
    ):
        super().__init__()
        check_steps("WarmupCosine", total_steps, warmup_steps)
        self.base = base
        self.total_steps = total_steps
        self.warmup_steps = warmup_steps
        self.start = start
        self.end = end
        self.peak_twice = peak_twice
        self.clamp = clamp
        self.name = name

    def __call__(self, step: Any) -> Any:
        """The value at `step` (a number, array or tensor), float32."""
        step = as_step(step)
        rise = max(self.warmup_steps - 1 if self.peak_twice else self.warmup_steps, 1)
        rising = self.start + (self.base - self.start) * (step / rise)
        fall = max(self.total_steps - self.warmup_steps, 1)
        progress = (step - self.warmup_steps) / fall
        if self.clamp:
            progress = ops.minimum(progress, 1.0)
        falling = half_cosine(progress, self.base, self.end)
        return ops.where(step < self.warmup_steps, rising, falling)

    def get_config(self) -> dict:
        """The constructor's arguments."""
        return {
            "base": self.base,
            "total_steps": self.total_steps,
            "warmup_steps": self.warmup_steps,
            "start": self.start,
            "end": self.end,
            "peak_twice": self.peak_twice,
            "clamp": self.clamp,
            "name": self.name,
        }


@keras.saving.register_keras_serializable("keras_ssl")
class CosineRamp(Schedule):
    """Half a cosine from `start` to `end`: DINO's weight decay, or any other ramp.

    | step | value |
    |---|---|
    | 0 | `start` |
    | `total_steps` | `end` |
    | beyond | `end`; with `clamp=False` the cosine turns back |

    DINO, Caron et al. 2021: weight decay from 0.04 to 0.4.

    Args:
        start: value at step 0.
        end: value at `total_steps`.
        total_steps: number of updates.
        clamp: stay at `end` beyond `total_steps`.
        name: optional name.

    Raises:
        ValueError: unless `total_steps > 0`.
    """

    def __init__(
        self,
        start: float,
        end: float,
        total_steps: float,
        clamp: bool = True,
        name: str | None = None,
    ):
        super().__init__()
        check_steps("CosineRamp", total_steps)
        self.start = start
        self.end = end
        self.total_steps = total_steps
        self.clamp = clamp
        self.name = name

    def __call__(self, step: Any) -> Any:
        """The value at `step` (a number, array or tensor), float32."""
        progress = as_step(step) / self.total_steps
        if self.clamp:
            progress = ops.minimum(progress, 1.0)
        return half_cosine(progress, self.start, self.end)

    def get_config(self) -> dict:
        """The constructor's arguments."""
        return {
            "start": self.start,
            "end": self.end,
            "total_steps": self.total_steps,
            "clamp": self.clamp,
            "name": self.name,
        }


@keras.saving.register_keras_serializable("keras_ssl")
class CosineMomentum(Schedule):
    """Teacher momentum `end - (end - base) (cos(pi k / K) + 1) / 2`.

    | step | value |
    |---|---|
    | 0 | `base` |
    | `total_steps` | `end` |
    | beyond | `end`; with `clamp=False` the cosine turns back |

    BYOL, Grill et al. 2020, section 3.2; MoCo v3 and DINO use the same form.

    Args:
        base: momentum at step 0, for example 0.996.
        total_steps: number of updates K.
        end: momentum at `total_steps`.
        clamp: stay at `end` beyond `total_steps`.
        name: optional name.

    Raises:
        ValueError: unless `total_steps > 0` and both momenta lie in [0, 1].
    """

    def __init__(
        self,
        base: float,
        total_steps: float,
        end: float = 1.0,
        clamp: bool = True,
        name: str | None = None,
    ):
        super().__init__()
        check_steps("CosineMomentum", total_steps)
        if not (0.0 <= base <= 1.0 and 0.0 <= end <= 1.0):
            raise ValueError(f"A momentum lies in [0, 1]; received base={base} and end={end}.")
        self.base = base
        self.total_steps = total_steps
        self.end = end
        self.clamp = clamp
        self.name = name

    def __call__(self, step: Any) -> Any:
        """The value at `step` (a number, array or tensor), float32."""
        progress = as_step(step) / self.total_steps
        if self.clamp:
            progress = ops.minimum(progress, 1.0)
        return half_cosine(progress, self.base, self.end)

    def get_config(self) -> dict:
        """The constructor's arguments."""
        return {
            "base": self.base,
            "total_steps": self.total_steps,
            "end": self.end,
            "clamp": self.clamp,
            "name": self.name,
        }
