# SPDX-License-Identifier: Apache-2.0
"""DirectPred."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import keras

from keras_ssl import losses
from keras_ssl.core import register
from keras_ssl.core.seeds import layer_seed
from keras_ssl.layers import DirectPredictor
from keras_ssl.models.joint_embedding.byol import BYOL


@register(
    paper="Understanding Self-supervised Learning Dynamics without Contrastive Pairs",
    year=2021,
    family="self-distillation",
    modality="image",
    needs=("teacher",),
)
class DirectPred(BYOL):
    """BYOL whose linear predictor is set from the spectrum of its inputs instead of trained.

    In a step the moment of the projections moves first, the loss still uses the predictor set
    after the step before, the optimizer moves it with the rest, then it is set anew and the
    teacher follows.

    Args:
        encoder: any Keras model from image `(H, W, C)` to vector; a feature map is pooled.
        projector: widths of the head (Linear, BN without scale and offset, ReLU, Linear, with
            biases) or a layer.
        momentum: share of the old teacher, a float or a schedule of the optimizer's step.
        rho: share of the old moment, moved by every batch (also one that only accumulates
            gradients).
        epsilon: added to the predictor's eigenvalues.
        update_every: optimizer steps from one setting of the predictor to the next; between them
            it is trained.
        form: `"direct"`, or `"copy"` for DirectCopy, see `layers.DirectPredictor`.
        batch_norm: teacher's policy for moving statistics, `"own"`, `"average"` or `"copy"`.
        views: view recipe, a name or a layer.
        **kwargs: `seed`, `name`, `dtype`.

    Raises:
        ValueError: for an argument of the predictor outside its range.

    Source: Tian et al., 2021, equations 18 and 19; https://arxiv.org/abs/2102.06810.

    Example:

    ```python
    model = DirectPred(encoder, rho=0.3, epsilon=0.01)
    model.compile(optimizers.SGD(0.03, weight_decay=4e-4))
    model.fit(images, batch_size=128, epochs=100)
    ```
    """

    def __init__(
        self,
        encoder: keras.Model,
        projector: Sequence[int] | keras.Layer = (512, 128),
        momentum: float | Callable = 0.996,
        rho: float = 0.3,
        epsilon: float = 0.01,
        update_every: int = 1,
        form: str = "direct",
        batch_norm: str = "own",
        views: str | keras.Layer = "direct_pred",
        **kwargs: Any,
    ):
        named = {"form": form, "seed": layer_seed(kwargs.get("seed"), 2), "name": "predictor"}
        predictor = DirectPredictor(rho, epsilon, update_every, **named)
        super().__init__(encoder, projector, predictor, momentum, batch_norm, views, **kwargs)
        self.rho, self.epsilon, self.update_every, self.form = rho, epsilon, update_every, form

    def build_head(self, head, width, position, **options):
        """A head with the released layout."""
        options = {"bias": "all", "batch_norm": "plain", **options}
        return super().build_head(head, width, position, **options)

    def compute_losses(self, views: list, training: bool) -> dict[str, Any]:
        """BYOL's regression, with the predictor as it was set after the step before."""
        projections = [self.project(view, training) for view in views]
        targets = [self.target_projection(view, training) for view in views[:2]]
        if training:
            self.predictor.update_moment(projections)
        predictions = [self.predictor(projection) for projection in projections]
        return {"byol": losses.byol(predictions, targets)}

    def after_update(self) -> None:
        """Sets the predictor from the moment, then the teacher follows."""
        self.predictor.set_kernel(self.step_index, self.stepped)
        super().after_update()

    def get_config(self) -> dict[str, Any]:
        """Constructor arguments; the predictor is made from them."""
        config = super().get_config()
        del config["predictor"]
        return config
