# SPDX-License-Identifier: Apache-2.0
"""ECG-JEPA."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import keras

from keras_ssl.backbones import TokenTransformer
from keras_ssl.core import register
from keras_ssl.masking import ContiguousMasking
from keras_ssl.models.predictive.engine import JointEmbeddingPredictive


@register(
    paper="Self-supervised pre-training with joint-embedding predictive architecture boosts ECG "
    "classification performance",
    year=2024,
    family="joint-embedding prediction",
    modality="signal",
    needs=("teacher", "signal transformer"),
)
class ECGJEPA(JointEmbeddingPredictive):
    """Predicts latents of long runs of a recording from the few pieces between them.

    Samples are signals `(steps, leads)`, standardised lead by lead and without gaps; a token is a
    piece of all leads. With samples `(steps, leads, 1)` and a patch of `(n, 1)` every lead has
    tokens of its own, and the same time is hidden in all of them. The teacher moves before a step,
    and its latents are as its last norm leaves them. Calling the model gives the mean of the
    teacher's tokens.

    Args:
        encoder: a `backbones.TokenTransformer` over signals, in the paper with one register.
        masking: a strategy of `masking`; None for `masking.ContiguousMasking()`.
        predictor: `(width, depth, heads)` of a `tokens.TransformerDecoder`, or a layer.
        momentum: share of the old teacher, a float or a schedule of the optimizer's step; the
            authors go from 0.998 to 0.9995 in a straight line.
        normalize: whether the teacher's latents get mean 0 and variance 1 besides.
        loss: of a token.
        views: a layer that makes one view; None for none.
        **kwargs: `watch` of `JointEmbeddingPredictive`, `seed`, `name`, `dtype`.

    Raises:
        ValueError: for an encoder that pools a class token, or a sequence too short to hide runs.

    Source: Weimann and Conrad, 2024, section 3; https://arxiv.org/abs/2410.13867; released code
    (kweimann/ECG-JEPA). Its layers have no offsets; ours have.

    Example:

    ```python
    tokenizer = tokens.PatchTokenizer((25,), 384)
    options = {"class_token": False, "registers": 1}
    encoder = backbones.TokenTransformer(tokenizer, (5000, 12), depth=8, heads=6, **options)
    model = ECGJEPA(encoder, momentum=schedules.LinearWarmup(0.998, 0.9995, steps=100_000))
    model.compile(optimizers.AdamW(1e-3, weight_decay=0.01))
    model.fit(recordings)
    ```
    """

    teachers_move = "before"

    def __init__(
        self,
        encoder: TokenTransformer,
        masking: keras.Layer | None = None,
        predictor: Sequence[int] | keras.Layer = (192, 8, 6),
        momentum: float | Callable = 0.998,
        normalize: bool = False,
        loss: str = "l1",
        views: keras.Layer | None = None,
        **kwargs: Any,
    ):
        super().__init__(
            encoder,
            ContiguousMasking() if masking is None else masking,
            predictor,
            momentum=momentum,
            normalize=normalize,
            loss=loss,
            views=views,
            **kwargs,
        )
