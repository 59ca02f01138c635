# SPDX-License-Identifier: Apache-2.0
"""CropMAE."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Sequence
from typing import Any

import keras

from keras_ssl.backbones import TokenTransformer
from keras_ssl.core import register
from keras_ssl.models.masked.engine import MaskedModeling
from keras_ssl.tokens import CrossSelfDecoder


@register(
    paper="Efficient Image Pre-Training with Siamese Cropped Masked Autoencoders",
    year=2024,
    family="masked modelling",
    modality="image",
    needs=("vision transformer",),
)
class CropMAE(MaskedModeling):
    """Reconstructs a crop, almost all of it hidden, by looking at another crop of the same image.

    One encoder gets the first view whole and of the second two patches of 196. The decoder's tokens
    of the second look at those of the first, so what has to be learned is where things went. The
    loss is MAE's on hidden patches of the second view.

    The name of the views is the strategy: `"crop_mae"` cuts the second view out of the first,
    `"crop_mae_local_to_global"` the first out of the second, `"crop_mae_random"` each out of the
    image, and `"crop_mae_same"` has one view in both places.

    Args:
        encoder: a `backbones.VisionTransformer`, in the paper with `positions="sincos"` and
            `kernel_initializer="glorot_uniform"`.
        masking: share of hidden patches of the second view, or a strategy of `masking`; of small
            grids the published share leaves none visible.
        decoder: `(width, depth, heads)` of a `tokens.CrossSelfDecoder`, or a layer that takes
            `memory=`.
        target: `"normalized"` or `"pixels"`, or a layer of `targets`.
        views: name of views or a layer that makes one view or two; None takes samples as they are
            in both places.
        **kwargs: `loss` and `decode` of `MaskedModeling`, `seed`, `name`, `dtype`.

    Raises:
        ValueError: for more than two views, a decoder without a memory, or as `MaskedModeling`.

    Source: Eymaël et al., 2024, section 3; https://arxiv.org/abs/2403.17823. Views and target are
    those of the released ImageNet command; the code's own defaults are crops of 20 to 100 % of
    either area and raw pixels.

    Example:

    ```python
    options = {"positions": "sincos", "kernel_initializer": "glorot_uniform"}
    encoder = backbones.VisionTransformer("tiny", (32, 32, 3), patch=4, **options)
    model = CropMAE(encoder, masking=0.968, decoder=(96, 2, 3))
    model.compile(optimizers.AdamW(1e-3, beta_2=0.95, weight_decay=0.05))
    model.fit(dataset)
    ```
    """

    several_views = True

    def __init__(
        self,
        encoder: TokenTransformer,
        masking: float | keras.Layer = 0.985,
        decoder: Sequence[int] | keras.Layer = (256, 4, 8),
        target: str | keras.Layer = "normalized",
        views: str | keras.Layer | None = "crop_mae",
        **kwargs: Any,
    ):
        super().__init__(encoder, masking, decoder, target, views=views, **kwargs)
        if "memory" not in inspect.signature(self.decoder.call).parameters:
            raise ValueError(
                f"CropMAE's decoder looks at a second view; {type(self.decoder).__name__} takes no "
                "memory=. Give (width, depth, heads) or a tokens.CrossSelfDecoder."
            )
        if (count := getattr(self.views, "count", 1)) > 2:
            raise ValueError(f"CropMAE takes one view or two; views={views!r} gives {count}.")

    def make_decoder(self, size: Any, values: int, **options: Any) -> keras.Layer:
        """A decoder of `(width, depth, heads)`."""
        return CrossSelfDecoder(values, *size, **options)

    def make_views(self, batch: Any) -> dict[str, Any]:
        """The view that is seen whole, the other, and which of its tokens are hidden."""
        made = self.all_views(batch)
        plan = self.draw_plan(made[-1], self.encoder)
        return {"reference": made[0], "inputs": made[-1], "plan": plan}

    def decoder_for(self, views: dict, training: bool = False) -> Any:
        """The decoder with the tokens of the view that is seen whole."""
        memory = self.encoder.encode(views["reference"], training=training)
        return functools.partial(self.decoder, memory=memory)

    def views_to_show(self, samples: Any, seed: Any) -> dict[str, Any]:
        """Two views of samples, the second masked, by a seed."""
        made = self.all_views(samples, seed)
        plan = self.plan_for(made[-1], self.encoder, seed)
        return {"reference": made[0], "inputs": made[-1], "plan": plan}
