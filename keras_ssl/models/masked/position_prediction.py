# SPDX-License-Identifier: Apache-2.0
"""Position prediction (MP3)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from keras_ssl.backbones import TokenTransformer
from keras_ssl.core import register
from keras_ssl.masking import MaskPlan
from keras_ssl.models.masked.engine import MaskedModeling
from keras_ssl.targets import PositionTarget
from keras_ssl.tokens import MLPDecoder, PatchTokenizer


@register(
    paper="Position Prediction as an Effective Pretraining Strategy",
    year=2022,
    family="masked modelling",
    modality="image",
    needs=("vision transformer",),
)
class PositionPrediction(MaskedModeling):
    """Says of every patch where it belongs, told by no position and few other patches (MP3).

    The encoder gets patches without positions, so to it they are a set. All of them ask, in every
    block, but only a random part may be attended to, the same in all blocks; the others see that
    part, not each other. A linear map classifies each patch among all places.

    The encoder works without positions afterwards, or gets them for a task:
    `evaluation.fine_tune(model, …, positions="sincos")`, or
    `model.encoder.copied(positions="sincos")` for anything else.

    Args:
        encoder: a `backbones.VisionTransformer` with `positions="none"`.
        masking: share of patches that no patch attends to, or a strategy of `masking`.
        hidden: widths of layers in front of the last; none makes the head linear.
        views: name of views or a layer; None for none.
        **kwargs: `seed`, `name`, `dtype`.

    Raises:
        ValueError: for an encoder with positions, or one whose tokens see more than their own
            patch: both would tell the answer.

    Source: Zhai et al., 2022, abstract and accounts of section 3, which state that all patches are
    queries and a part of them keys and values; https://arxiv.org/abs/2207.07611. No code is
    published. Inferred: one part for all blocks and a count that is the same for all images;
    tokens in front (class token, registers) may always be attended to and predict nothing; every
    patch counts in the loss, hidden or not.

    Example:

    ```python
    encoder = backbones.VisionTransformer("tiny", (32, 32, 3), patch=4, positions="none")
    model = PositionPrediction(encoder)
    model.compile(optimizers.AdamW(1e-3, weight_decay=0.05))
    model.fit(dataset)
    tuned = evaluation.fine_tune(model, *train, *test, positions="sincos")
    ```
    """

    layout = "context"
    makes = ("decoder", "target", "loss", "decode")

    def __init__(
        self,
        encoder: TokenTransformer,
        masking: float | keras.Layer = 0.75,
        hidden: Sequence[int] = (),
        views: str | keras.Layer | None = "mae",
        **kwargs: Any,
    ):
        target = PositionTarget(self.checked_encoder(encoder).patch)
        self.hidden = tuple(hidden)
        super().__init__(
            encoder, masking, self.hidden, target, "cross_entropy", views=views, **kwargs
        )

    def checked_encoder(self, encoder: Any) -> Any:
        """The encoder, if nothing in it tells places.

        Raises:
            ValueError: if it is not made of tokens, or something does.
        """
        encoder = super().checked_encoder(encoder)
        if encoder.positions is not None:
            raise ValueError(
                f"PositionPrediction asks where patches belong, and the encoder {encoder.name!r} "
                f"is told by its {type(encoder.positions).__name__}. Build it with "
                'positions="none"; evaluation.fine_tune(..., positions="sincos") adds them later.'
            )
        if not isinstance(encoder.tokenizer, PatchTokenizer):
            raise ValueError(
                "PositionPrediction needs tokens that see their own patch alone; those of "
                f"{type(encoder.tokenizer).__name__} may overlap or know the border, which tells "
                "places. Take a tokens.PatchTokenizer."
            )
        return encoder

    def make_decoder(self, size: Any, values: int, **options: Any) -> keras.Layer:
        """A head of hidden widths."""
        return MLPDecoder(values, size, **options)

    def compared(self, predicted: Any, wanted: Any, plan: MaskPlan) -> Any:
        """The cross-entropy of all patches."""
        every = plan._replace(mask=ops.ones_like(plan.mask))
        return super().compared(predicted, wanted, every)
