# SPDX-License-Identifier: Apache-2.0
"""V-JEPA."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import keras

from keras_ssl import losses
from keras_ssl.backbones import TokenTransformer
from keras_ssl.core import register
from keras_ssl.masking import MultiTubeMasking, SeveralMaskings, each_alone
from keras_ssl.models.predictive.engine import JointEmbeddingPredictive
from keras_ssl.tokens import LatentPredictor, RotaryPositions


@register(
    paper="Revisiting Feature Prediction for Learning Visual Representations from Video",
    year=2024,
    family="joint-embedding prediction",
    modality="video",
    needs=("teacher",),
)
class VJEPA(JointEmbeddingPredictive):
    """Predicts latents of blocks that run through a whole clip from what they leave.

    Two masks of every clip are drawn, eight blocks of 15 % of a frame and two of 70 %; the encoder
    sees what each leaves, and the predictor has a mask token for each. The teacher, a moving
    average of the encoder, sees the clip. Calling the model gives the mean of its tokens.

    With rotary positions, `positions={"pairs": "neighbours"}` in the encoder, the predictor has
    them too: V-JEPA 2. `"legacy": True` besides takes the angles of its released weights.

    Args:
        encoder: a `backbones.TokenTransformer` of cubes, `tokens.PatchTokenizer((2, 16, 16), …)`,
            in the paper with `positions=VJEPA.positions` and `class_token=False`.
        masking: a strategy of `masking` or a `masking.SeveralMaskings`; None for the paper's two.
        predictor: `(width, depth, heads)` of a `tokens.LatentPredictor`, or such a layer.
        momentum: share of the old teacher, a float or a schedule of the optimizer's step; the paper
            goes from 0.998 to 1, V-JEPA 2 stays at 0.99925.
        normalize: whether the teacher's latents get mean 0 and variance 1 in every token.
        loss: of a token.
        variance_weight: of a hinge on the deviation of predictions over a clip's tokens, see
            `losses.token_variance`; 0 in the paper.
        views: a layer that makes one view of a clip; None for none.
        **kwargs: `watch` of `JointEmbeddingPredictive`, `seed`, `name`, `dtype`.

    Raises:
        ValueError: for an encoder that pools a class token, or a grid of other than three axes.

    Source: Bardes et al., 2024, section 3; https://arxiv.org/abs/2404.08471; V-JEPA 2: Assran et
    al., 2025; https://arxiv.org/abs/2506.09985; released codes (facebookresearch/jepa and vjepa2).
    Their predictor of the second version sorts tokens by place, which changes nothing here.

    Example:

    ```python
    tokenizer = tokens.PatchTokenizer((2, 8, 8), 192)
    options = {"class_token": False, "positions": VJEPA.positions}
    encoder = backbones.TokenTransformer(tokenizer, (8, 64, 64, 3), **options)
    model = VJEPA(encoder, predictor=(96, 4, 3))
    model.compile(optimizers.AdamW(6e-4, weight_decay=0.04))
    model.fit(clips)
    ```
    """

    # Frames, rows and columns share the channels evenly, as in the released commands.
    positions = {"split": "cut"}

    def __init__(
        self,
        encoder: TokenTransformer,
        masking: keras.Layer | None = None,
        predictor: Sequence[int] | keras.Layer = (384, 12, 12),
        momentum: float | Callable = 0.998,
        normalize: bool = True,
        loss: str = "l1",
        variance_weight: float = 0.0,
        views: keras.Layer | None = None,
        **kwargs: Any,
    ):
        if masking is None:
            short = MultiTubeMasking(8, (0.15, 0.15), context=0.5, predicted=0.75)
            far = MultiTubeMasking(2, (0.7, 0.7), context=0.35, predicted=0.95)
            masking = SeveralMaskings([short, far])
        if variance_weight:
            self.loss_terms = (*type(self).loss_terms, "variance")
        self.decoded_terms = ("prediction",)
        super().__init__(
            encoder,
            masking,
            predictor,
            momentum=momentum,
            normalize=normalize,
            loss=loss,
            views=views,
            **kwargs,
        )
        self.variance_weight = variance_weight

    def make_decoder(self, size: Any, values: int, **options: Any) -> keras.Layer:
        """A predictor of `(width, depth, heads)` with the encoder's kind of positions."""
        place, kinds = self.encoder.positions, len(getattr(self.masking, "strategies", [None]))
        if isinstance(place, RotaryPositions):
            # Those in front are the predictor's affair.
            settings = ("grid", "base", "pairs", "legacy")
            options["rotary"] = {name: getattr(place, name) for name in settings}
        else:
            options["positions"] = getattr(place, "settings", None)
        return LatentPredictor(values, *size, kinds=kinds, **options)

    def decoding(self, number: int) -> dict[str, Any]:
        """The mask token of a mask."""
        return {"kind": number} if isinstance(self.predictor, LatentPredictor) else {}

    def further_terms(self, predicted: dict[str, list], plans: Sequence) -> dict[str, Any]:
        """The hinge on the deviation of predictions."""
        if not self.variance_weight:
            return {}
        asked = [each_alone(plan).weight for plan in plans]
        hinge = losses.token_variance(predicted["prediction"], asked)
        return {"variance": self.variance_weight * hinge}
