# SPDX-License-Identifier: Apache-2.0
"""EEG-VJEPA."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import keras

from keras_ssl.backbones import TokenTransformer
from keras_ssl.core import register
from keras_ssl.models.predictive.vjepa import VJEPA


@register(
    paper="From Video to EEG: Adapting Joint Embedding Predictive Architecture to Uncover Visual "
    "Concepts in Brain Signal Analysis",
    year=2025,
    family="joint-embedding prediction",
    modality="signal",
    needs=("teacher", "signal transformer"),
)
class EEGVJEPA(VJEPA):
    """V-JEPA on recordings of many channels, whose frames are channels by time.

    Samples are recordings `(steps, channels)`, standardised channel by channel. Hidden blocks have
    some channels and some steps of every frame, and run through all frames.

    Args:
        encoder: a `backbones.TokenTransformer` over a `tokens.RecordingTokenizer`, in the paper
            with `positions=EEGVJEPA.positions`.
        masking: a strategy of `masking`, or a `masking.SeveralMaskings`; None for V-JEPA's two.
        predictor: `(width, depth, heads)` of a `tokens.LatentPredictor`, or such a layer.
        momentum: share of the old teacher, a float or a schedule of the optimizer's step; in the
            paper from 0.998 to 1 in a straight line.
        **kwargs: other arguments of `VJEPA`, `seed`, `name`, `dtype`.

    Raises:
        ValueError: as `VJEPA`.

    Source: Hojjati et al., 2025, section 3; released code
    (amir-hojjati/eeg-vjepa).

    Example:

    ```python
    tokenizer = tokens.RecordingTokenizer(32, patch=(4, 4, 25), width=384)
    options = {"class_token": False, "positions": EEGVJEPA.positions}
    encoder = backbones.TokenTransformer(tokenizer, (16000, 16), depth=12, heads=6, **options)
    model = EEGVJEPA(encoder)
    model.compile(optimizers.AdamW(6.25e-4, weight_decay=0.04))
    model.fit(recordings)
    ```
    """

    def __init__(
        self,
        encoder: TokenTransformer,
        masking: keras.Layer | None = None,
        predictor: Sequence[int] | keras.Layer = (384, 6, 6),
        momentum: float | Callable = 0.998,
        **kwargs: Any,
    ):
        super().__init__(encoder, masking, predictor, momentum, **kwargs)
