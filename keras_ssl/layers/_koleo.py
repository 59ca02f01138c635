# SPDX-License-Identifier: Apache-2.0
"""KoLeo for any model: spreads what passes through."""

from __future__ import annotations

from typing import Any

import keras

from keras_ssl.losses import koleo


@keras.saving.register_keras_serializable(package="keras_ssl")
class KoLeo(keras.layers.Layer):
    """Passes vectors on unchanged and adds to the model's loss how unevenly they are spread.

    Args:
        weight: of the loss; 0.1 in DINOv2.
        **kwargs: `name` and `dtype` of `keras.layers.Layer`.

    Call: `(B, D)` → the same; in training mode `weight · losses.koleo` is added.

    Raises:
        ValueError: for a negative weight.

    Source: Sablayrolles et al., 2019, equation 2; Oquab et al., 2023.

    Example:

    ```python
    features = layers.KoLeo(0.1)(encoder(images))
    model = keras.Model(images, keras.layers.Dense(10)(features))
    ```
    """

    def __init__(self, weight: float = 0.1, **kwargs: Any):
        super().__init__(**kwargs)
        if weight < 0:
            raise ValueError(f"KoLeo's weight is at least 0, received {weight}.")
        self.weight = float(weight)
        self.built = True

    def call(self, inputs: Any, training: bool = False) -> Any:
        """The vectors as they are."""
        if training:
            self.add_loss(self.weight * koleo(inputs))
        return inputs

    def compute_output_shape(self, input_shape: Any) -> Any:
        """Same as the input's."""
        return input_shape

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {**super().get_config(), "weight": self.weight}
