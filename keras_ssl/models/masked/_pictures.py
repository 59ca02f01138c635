# SPDX-License-Identifier: Apache-2.0
"""What a masked model makes of samples, to look at."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from keras import ops

from keras_ssl.core import distribution
from keras_ssl.tokens import gather_tokens, spread, tokens_at


def reconstructed(model: Any, samples: Any, seed: int) -> dict[str, Any]:
    """Samples with their hidden tokens, and as a model reconstructs them.

    Args:
        model: a `MaskedModeling`.
        samples: `(B, …)` as the model takes them.
        seed: of the mask.

    Returns:
        `original`, `masked` and `reconstruction`, see `MaskedModeling.reconstruct`.

    Raises:
        ValueError: for a target whose predictions are no samples.
    """
    target = _first(model.target)
    if not hasattr(target, "to_pixels"):
        name = type(model if target is None else target).__name__
        raise ValueError(f"{name} predicts no samples that could be shown.")
    views = model.views_to_show(samples, distribution.fixed_seed(seed))
    inputs, plan, decoder = views["inputs"], views["plan"], _first(model.decoder_for(views))
    if plan.apart:
        raise ValueError(f"{type(model.masking).__name__} hides parts of windows, not of samples.")
    encoder = model.masked_encoder
    grid, encoded = encoder.grid_of(inputs), model.encode(inputs, plan)
    if plan.keep is None:
        predicted = decoder(encoded, plan=plan, grid=grid)
    else:
        # All hidden tokens, whatever is asked for in training.
        every = ops.concatenate([plan.keep, plan.hidden], axis=1)
        whole = plan._replace(decode=every, asked=tokens_at(plan.mask, every) > 0.5)
        predicted = gather_tokens(decoder(encoded, plan=whole, grid=grid), plan.restore)
    hidden = spread(plan.mask, grid, encoder.patch)
    return {
        "original": inputs,
        "masked": inputs * (1.0 - hidden) + hidden * ops.mean(inputs),
        "reconstruction": target.to_pixels(predicted, inputs, plan.mask),
    }


def _first(part: Any) -> Any:
    """Of parts for several terms the first."""
    return next(iter(part.values())) if isinstance(part, Mapping) else part
