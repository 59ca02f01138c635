# SPDX-License-Identifier: Apache-2.0
"""Integer seeds that tell the parts of a network apart."""

from __future__ import annotations

import numpy as np


def layer_seed(seed: int | None, *position: int) -> int | None:
    """Returns an integer seed of its own for one layer of a network.

    Args:
        seed: Seed of the network, or `None`.
        *position: Integers that tell the layer from the network's others.

    Returns:
        An integer below 2**31, the same for the same arguments; `None` when `seed` is `None`.
    """
    if seed is None:
        return None
    return int(np.random.SeedSequence([int(seed), *position]).generate_state(1)[0] >> 1)
