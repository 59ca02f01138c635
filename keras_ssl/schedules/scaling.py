# SPDX-License-Identifier: Apache-2.0
"""How a learning rate follows the batch size."""

from __future__ import annotations

import math


def scale_by_batch(
    base: float, batch_size: int, *, reference: int = 256, rule: str = "linear"
) -> float:
    """Scales a published base learning rate to the batch size in use.

    Linear: `base * batch_size / reference` (Goyal et al. 2017; SimCLR, BYOL, Barlow Twins).
    Square root: `base * sqrt(batch_size / reference)`; SimCLR's `0.075 sqrt(batch_size)` is
    `base=0.075, reference=1`.

    Args:
        base: learning rate at the reference batch size.
        batch_size: global batch size (all replicas).
        reference: batch size for which `base` was stated.
        rule: `"linear"` or `"sqrt"`.

    Returns:
        the learning rate.

    Raises:
        ValueError: for an unknown rule or sizes below 1.

    Example:

    >>> scale_by_batch(0.2, 2048)
    1.6
    """
    if batch_size < 1 or reference < 1:
        raise ValueError(
            f"Batch sizes start at 1; received batch_size={batch_size}, reference={reference}."
        )
    if rule not in ("linear", "sqrt"):
        raise ValueError(f'rule is "linear" or "sqrt"; received {rule!r}.')
    ratio = batch_size / reference
    return base * (ratio if rule == "linear" else math.sqrt(ratio))
