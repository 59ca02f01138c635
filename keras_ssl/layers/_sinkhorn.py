# SPDX-License-Identifier: Apache-2.0
"""Sinkhorn-Knopp as a layer."""

from __future__ import annotations

from typing import Any

import keras

from keras_ssl.losses._math import check_positive
from keras_ssl.losses.sinkhorn import sinkhorn_knopp


@keras.saving.register_keras_serializable(package="keras_ssl")
class SinkhornKnopp(keras.layers.Layer):
    """Balanced soft codes of a batch of scores; see `losses.sinkhorn_knopp`.

    Args:
        epsilon: weight of the entropy; smaller is sharper.
        iterations: turns of both normalisations.
        **kwargs: `name` and `dtype` of `keras.layers.Layer`; float32 unless given.

    Call: `sinkhorn(scores, weights=None)` with scores `(..., B, K)` and weights `(..., B)` gives
    float32 `(..., B, K)`, rows that sum to 1, without gradient.

    Raises:
        ValueError: for settings that are not positive.

    Source: Caron et al., 2020, section 3.1; https://arxiv.org/abs/2006.09882.

    Example:

    >>> SinkhornKnopp()(keras.random.normal((64, 10))).shape
    (64, 10)
    """

    def __init__(self, epsilon: float = 0.05, iterations: int = 3, **kwargs: Any):
        # Half precision would round the scores before they are divided by epsilon.
        kwargs.setdefault("dtype", "float32")
        super().__init__(**kwargs)
        check_positive("SinkhornKnopp", "epsilon", epsilon)
        check_positive("SinkhornKnopp", "iterations", iterations)
        self.epsilon, self.iterations = epsilon, iterations
        self.built = True

    def call(self, inputs: Any, weights: Any = None) -> Any:
        """Codes `(..., B, K)` of scores `(..., B, K)`."""
        return sinkhorn_knopp(
            inputs, epsilon=self.epsilon, iterations=self.iterations, weights=weights
        )

    def compute_output_shape(self, input_shape: Any, weights_shape: Any = None) -> Any:
        """Same as the input's."""
        return input_shape

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        own = {"epsilon": self.epsilon, "iterations": self.iterations}
        return {**super().get_config(), **own}
