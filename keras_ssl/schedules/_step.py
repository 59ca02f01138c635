# SPDX-License-Identifier: Apache-2.0
"""Helpers of the schedules."""

from __future__ import annotations

import math
from typing import Any

from keras import ops


def as_step(step: Any) -> Any:
    """A step count as float32 (number, array, tensor or variable).

    Args:
        step: number of updates done so far; the first step is 0.

    Returns:
        float32 tensor.
    """
    return ops.cast(ops.convert_to_tensor(step), "float32")


def half_cosine(progress: Any, first: float, last: float) -> Any:
    """Half a cosine: `first` at progress 0, `last` at progress 1.

    Args:
        progress: float32 tensor.
        first: value at 0.
        last: value at 1.

    Returns:
        float32 tensor.
    """
    return last + (first - last) * 0.5 * (1.0 + ops.cos(math.pi * progress))


def check_steps(schedule: str, total_steps: float, warmup_steps: float = 0) -> None:
    """Requires `0 <= warmup_steps <= total_steps` and at least one step.

    Args:
        schedule: name, for the message.
        total_steps: length of the whole schedule.
        warmup_steps: length of the warm-up.

    Raises:
        ValueError: otherwise.
    """
    if not total_steps > 0:
        raise ValueError(f"{schedule} needs total_steps > 0; received {total_steps}.")
    if not 0 <= warmup_steps <= total_steps:
        raise ValueError(
            f"{schedule} needs 0 <= warmup_steps <= total_steps; received warmup_steps="
            f"{warmup_steps} and total_steps={total_steps}. Both count updates, not epochs."
        )
