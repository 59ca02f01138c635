# SPDX-License-Identifier: Apache-2.0
"""Linear schedules."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from keras_ssl.schedules._step import as_step, check_steps


@keras.saving.register_keras_serializable("keras_ssl")
class LinearWarmup(keras.optimizers.schedules.LearningRateSchedule):
    """A straight line from `start` to `end`, for example a teacher temperature.

    | step | value |
    |---|---|
    | 0 | `start` |
    | `steps` | `end` |
    | beyond | `end`; with `clamp=False` the line goes on |

    Args:
        start: value at step 0.
        end: value at `steps`.
        steps: number of updates.
        clamp: stay at `end` beyond `steps`.
        name: optional name.

    Raises:
        ValueError: unless `steps > 0`.
    """

    def __init__(
        self,
        start: float,
        end: float,
        steps: float,
        clamp: bool = True,
        name: str | None = None,
    ):
        super().__init__()
        check_steps("LinearWarmup", steps)
        self.start = start
        self.end = end
        self.steps = steps
        self.clamp = clamp
        self.name = name

    def __call__(self, step: Any) -> Any:
        """The value at `step` (a number, array or tensor), float32."""
        progress = as_step(step) / self.steps
        if self.clamp:
            progress = ops.minimum(progress, 1.0)
        return self.start + (self.end - self.start) * progress

    def get_config(self) -> dict:
        """The constructor's arguments."""
        return {
            "start": self.start,
            "end": self.end,
            "steps": self.steps,
            "clamp": self.clamp,
            "name": self.name,
        }
