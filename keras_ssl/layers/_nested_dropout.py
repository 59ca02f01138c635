# SPDX-License-Identifier: Apache-2.0
"""Dropout that keeps the first features only, so that features are ordered by importance."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras import ops

from keras_ssl.core import distribution
from keras_ssl.layers._seeded import SeededLayer

PER = ("batch", "sample")


@keras.saving.register_keras_serializable(package="keras_ssl")
class NestedDropout(SeededLayer):
    """Keeps the first k features of vectors in training, k drawn anew at every step.

    What comes first has to serve alone more often, so features are ordered: the first ones hold
    most of what the loss asks for, and a representation can be cut off anywhere. k of N is drawn
    with a probability proportional to exp(-((k - mean) / deviation)²). Nothing is rescaled.

    Afterwards choose the k that does best on validation data and set `layer.keep = k`.

    Input: `(batch, …, features)` floats. Output: the same shape and dtype.

    Args:
        mean: of the distribution, in features.
        deviation: its width, in features, without the factor 2 of a normal distribution; the paper
            takes 10 for CIFAR-10 and 100 for larger data.
        per: `"batch"` for one k at a step, the same on all devices, as the paper has it, or
            `"sample"` for one k for every row, which learns the order faster.
        keep: features that are kept outside of training; `None` for all.
        seed: of the draws; `None` draws it.
        **kwargs: `name`, `dtype` and other arguments of `keras.layers.Layer`.

    Raises:
        ValueError: for a deviation that is not positive, an unknown `per`, a `keep` below 1, or
            inputs of no fixed width.

    Source: Chen et al., 2022, Compressing Features for Learning with Noisy Labels;
    https://arxiv.org/abs/2206.13140, distribution and one k a batch as in the released code.

    Example:
        >>> dropout = NestedDropout(deviation=10.0, seed=0)
        >>> kept = dropout(keras.ops.ones((4, 16)), training=True)
        >>> dropout.first(keras.ops.ones((1, 4)), 2)
        [[1., 1., 0., 0.]]
    """

    def __init__(
        self,
        mean: float = 0.0,
        deviation: float = 100.0,
        per: str = "batch",
        keep: int | None = None,
        seed: int | None = None,
        **kwargs: Any,
    ):
        super().__init__(seed, **kwargs)
        if not deviation > 0 or per not in PER or (keep is not None and keep < 1):
            raise ValueError(
                f"NestedDropout needs deviation > 0, per of {PER} and keep of at least 1 or None; "
                f"received {deviation}, {per!r} and {keep}."
            )
        self.mean, self.deviation, self.per = float(mean), float(deviation), per
        self.keep = keep

    def build(self, input_shape: Any) -> None:
        """Takes up the number of features."""
        if input_shape[-1] is None:
            raise ValueError(
                f"{self.name} takes features of a known number; received {tuple(input_shape)}."
            )
        self.cumulative = np.cumsum(self.probabilities(input_shape[-1])).astype("float32")
        self.built = True

    def probabilities(self, width: int) -> np.ndarray:
        """How likely it is that k = 1, …, width features are kept, float64 `(width,)`."""
        exponents = -np.square((np.arange(1, width + 1) - self.mean) / self.deviation)
        # Far from the mean every number of them would be 0.
        weights = np.exp(exponents - np.max(exponents))
        return weights / np.sum(weights)

    def first(self, inputs: Any, count: Any) -> Any:
        """The first `count` features, zeros after them.

        Args:
            inputs: `(…, features)`.
            count: integer, or integers of a shape that broadcasts with `(…, 1)`.
        """
        kept = ops.arange(inputs.shape[-1], dtype="int32") < ops.cast(count, "int32")
        return ops.where(kept, inputs, ops.zeros_like(inputs))

    def call(self, inputs: Any, training: bool = False) -> Any:
        """The features that are kept."""
        if not training:
            return inputs if self.keep is None else self.first(inputs, self.keep)
        seed = distribution.next_seed(self.seed_generator)
        if self.per == "batch":
            drawn = distribution.uniform_batch(seed, ())
        else:
            drawn = distribution.uniform_rows(seed, ops.shape(inputs)[0])
            drawn = ops.reshape(drawn, (-1,) + (1,) * (len(inputs.shape) - 1))
        # Of the last sum rounding may leave a little less than 1, above which nothing is.
        below = ops.expand_dims(drawn, -1) >= self.cumulative[:-1]
        return self.first(inputs, 1 + ops.sum(ops.cast(below, "int32"), axis=-1))

    def compute_output_shape(self, input_shape: Any) -> Any:
        """Same as the input's."""
        return input_shape

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        names = ("mean", "deviation", "per", "keep")
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}
