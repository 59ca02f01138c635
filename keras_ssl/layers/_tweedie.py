# SPDX-License-Identifier: Apache-2.0
"""Tweedie's formula: from the score of noisy samples to clean ones."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

FAMILIES = ("gaussian", "poisson", "gamma")


@keras.saving.register_keras_serializable(package="keras_ssl")
class TweediePosterior(keras.layers.Layer):
    """What noisy samples most likely were, from the gradient of their log density.

    | `family` | noise | `level` | estimate |
    |---|---|---|---|
    | `"gaussian"` | y = x + σ · normal | σ | y + σ² · score |
    | `"poisson"` | y = ζ · Poisson(x / ζ) | ζ | (y + ζ / 2) · exp(score) |
    | `"gamma"` | y = x · Gamma(k, 1 / k) | k | k · y / (k - 1 - y · score) |

    For Gaussian noise this is the posterior mean, for Poisson noise nearly so, and for gamma noise
    one over the posterior mean of 1 / x. A Poisson score is that of the counts y / ζ, at y / ζ. The
    divisor for gamma noise is positive where the score is true, and is held so.

    Args:
        family: of the noise.
        level: of the noise, known beforehand, in the units of the samples.
        **kwargs: `name`, `dtype`; float32 unless given.

    Call: `layer(y, score)` with two tensors of one shape gives float32 of that shape.

    Raises:
        ValueError: for an unknown family, a level that is not positive, or k of at most 1.

    Source: Kim and Ye, 2021, table 1; https://arxiv.org/abs/2106.07009, forms of the released code.

    Example:
        >>> TweediePosterior("gaussian", 0.5)(keras.ops.ones((1, 1)), -keras.ops.ones((1, 1)))
        [[0.75]]
    """

    def __init__(self, family: str = "gaussian", level: float = 0.1, **kwargs: Any):
        # Half precision would round the estimate to what the eye can see.
        kwargs.setdefault("dtype", "float32")
        super().__init__(**kwargs)
        least = 1.0 if family == "gamma" else 0.0
        if family not in FAMILIES or not level > least:
            raise ValueError(
                f"TweediePosterior needs a family of {FAMILIES} and a level above 0, for gamma "
                f"noise above 1; received {family!r} and {level}."
            )
        self.family, self.level = family, float(level)
        self.built = True

    def call(self, inputs: Any, score: Any) -> Any:
        """Estimates of clean samples."""
        if self.family == "gaussian":
            return inputs + self.level**2 * score
        if self.family == "poisson":
            return (inputs + 0.5 * self.level) * ops.exp(score)
        divisor = ops.maximum(self.level - 1.0 - inputs * score, 1e-6)
        return self.level * inputs / divisor

    def compute_output_shape(self, input_shape: Any, score_shape: Any = None) -> Any:
        """Same as the input's."""
        return input_shape

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {**super().get_config(), "family": self.family, "level": self.level}
