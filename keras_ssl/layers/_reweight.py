# SPDX-License-Identifier: Apache-2.0
"""A head without weights: the i-th feature times a fixed power."""

from __future__ import annotations

import math
from typing import Any

import keras
import numpy as np
from keras import ops


@keras.saving.register_keras_serializable(package="keras_ssl")
class ReweightHead(keras.layers.Layer):
    """Multiplies feature i (counted from 0) by `kappa ** -i`; nothing is trained.

    A stand-in for the projector of any joint-embedding method, by which to look at what a
    projector is for: the loss sees some features more than others, and the representation before
    the head is used afterwards, un-weighted.

    `kappa` must be near 1 for wide representations. With 1.1 and 512 features the middle one
    weighs 3e-11 and only the first 49 more than a hundredth: most features get no signal.
    Where the loss normalises its vectors only the ratios matter.

    Input: `(batch, features)` floats. Output: the same shape, in the compute dtype.

    Args:
        kappa: base of the weights, positive; above 1 the first features count most, below 1 the
            last. `None` or 1 leaves the features as they are.
        **kwargs: `name`, `dtype` and other arguments of `keras.layers.Layer`.

    Raises:
        ValueError: if `kappa` is not a positive number, or so small that the weight of the last
            feature overflows.

    Source: Xue et al., 2024, Investigating the Benefits of Projection Head for Representation
    Learning; https://arxiv.org/abs/2403.11391. Which values of kappa it uses is not known here.

    Example:
        >>> head = ReweightHead(2.0)
        >>> head(keras.ops.ones((1, 3)))
        [[1., 0.5, 0.25]]
    """

    def __init__(self, kappa: float | None = None, **kwargs: Any):
        super().__init__(**kwargs)
        if kappa is not None and not (0.0 < kappa < math.inf):
            raise ValueError(
                f"ReweightHead needs kappa > 0, a number near 1 such as 1.01; received {kappa!r}."
            )
        self.kappa = None if kappa is None else float(kappa)

    def build(self, input_shape: Any) -> None:
        """Computes the weights for inputs `(batch, features)`."""
        width = input_shape[-1]
        if width is None:
            raise ValueError(
                f"ReweightHead takes vectors of a known width, received shape {tuple(input_shape)}."
            )
        with np.errstate(over="ignore"):
            factors = np.power(self.kappa or 1.0, -np.arange(width, dtype="float64"))
            self.factors = factors.astype("float32")
        if not np.all(np.isfinite(self.factors)):
            raise ValueError(
                f"ReweightHead(kappa={self.kappa}) gives the last of {width} features the weight "
                f"{factors[-1]:.1e}, which float32 cannot hold; take kappa nearer to 1."
            )
        super().build(input_shape)

    def call(self, inputs: Any) -> Any:
        """Weighs the features."""
        return inputs * ops.cast(self.factors, inputs.dtype)

    def compute_output_shape(self, input_shape: Any) -> Any:
        """Same as the input's."""
        return input_shape

    def get_config(self) -> dict[str, Any]:
        """The constructor's argument."""
        return {**super().get_config(), "kappa": self.kappa}
