# SPDX-License-Identifier: Apache-2.0
"""SIGReg for any model: draws its directions and returns the statistic."""

from __future__ import annotations

from typing import Any

import keras

from keras_ssl.core import distribution
from keras_ssl.layers._seeded import SeededLayer
from keras_ssl.losses._math import normalize
from keras_ssl.losses.sigreg import check_quadrature, sigreg


@keras.saving.register_keras_serializable(package="keras_ssl")
class SIGReg(SeededLayer):
    """How far embeddings are from an isotropic standard normal distribution, as one number.

    Every call in training draws new random directions, the same on all replicas; outside of
    training the directions are fixed. Embeddings must not be normalised. The value of a collapsed
    batch grows with the batch, and so does the weight that this term has in a loss.

    Args:
        slices: number of directions drawn a call; 1024 in the paper, 256 in its small example.
        knots: points of the quadrature, see `losses.epps_pulley`.
        t_max: upper end of the quadrature.
        flatten: whether several views are one sample, see `losses.sigreg`.
        seed: of the directions; `None` draws it.
        **kwargs: `name` and `dtype` of `keras.layers.Layer`; float32 unless given.

    Call: `sigreg(z, training=...)` with `z` `(B, D)`, or a list of those, gives a float32 scalar.

    Raises:
        ValueError: for `slices` below 1 or a bad quadrature.

    Source: Balestriero and LeCun, 2025, section 4; https://arxiv.org/abs/2511.08544.

    Example:

    ```python
    class Regularised(keras.Model):
        def call(self, images, training=False):
            z = self.encoder(images, training=training)
            self.add_loss(0.05 * self.sigreg(z, training=training))  # SIGReg(), made in __init__
            return z
    ```
    """

    def __init__(
        self,
        slices: int = 1024,
        knots: int = 17,
        t_max: float = 3.0,
        flatten: bool = False,
        seed: int | None = None,
        **kwargs: Any,
    ):
        # Half precision would round what the characteristic functions are made of.
        kwargs.setdefault("dtype", "float32")
        super().__init__(seed, **kwargs)
        if not isinstance(slices, int) or slices < 1:
            raise ValueError(f"SIGReg needs slices of at least 1; received {slices}.")
        check_quadrature("SIGReg", knots, t_max)
        self.slices, self.knots, self.t_max, self.flatten = slices, knots, t_max, flatten
        self.built = True

    def directions(self, width: int, training: bool = False) -> Any:
        """Unit columns `(width, slices)`, float32: new ones in training, else fixed ones.

        Args:
            width: features of an embedding.
            training: whether this is a step of training.
        """
        if training:
            seed = distribution.next_seed(self.seed_generator)
        else:
            seed = distribution.fixed_seed(self.seed or 0)
        return normalize(distribution.normal_batch(seed, (width, self.slices)), axis=0)

    def call(self, inputs: Any, training: bool = False) -> Any:
        """The statistic of `(B, D)`, or the mean over a list of views, a float32 scalar."""
        views = list(inputs) if isinstance(inputs, (list, tuple)) else [inputs]
        width = views[0].shape[-1]
        return sigreg(
            views,
            self.directions(width, training),
            flatten=self.flatten,
            knots=self.knots,
            t_max=self.t_max,
        )

    def compute_output_spec(self, inputs: Any, training: bool = False) -> Any:
        """A float32 scalar."""
        return keras.KerasTensor((), dtype="float32")

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        own = {name: getattr(self, name) for name in ("slices", "knots", "t_max", "flatten")}
        return {**super().get_config(), **own}
