# SPDX-License-Identifier: Apache-2.0
"""I-JEPA."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import keras

from keras_ssl.backbones import TokenTransformer
from keras_ssl.core import register
from keras_ssl.masking import MultiBlockMasking
from keras_ssl.models.predictive.engine import JointEmbeddingPredictive


@register(
    paper="Self-Supervised Learning from Images with a Joint-Embedding Predictive Architecture",
    year=2023,
    family="joint-embedding prediction",
    modality="image",
    needs=("teacher", "vision transformer"),
)
class IJEPA(JointEmbeddingPredictive):
    """Predicts latents of four blocks of an image from one large block without them.

    The teacher, a moving average of the encoder, sees the whole image; its latents get mean 0 and
    variance 1 in every token. There are no other views than crops, so what is learned keeps place,
    number and size of things. Calling the model gives the mean of the teacher's tokens.

    Args:
        encoder: a `backbones.VisionTransformer` with `class_token=False`, in the paper with
            `positions="sincos"`.
        masking: a strategy of `masking`; None for `masking.MultiBlockMasking()`.
        predictor: `(width, depth, heads)` of a `tokens.TransformerDecoder`, or a layer; in the
            paper a depth of 6 for ViT-B and of 12 for larger ones, and the encoder's heads.
        momentum: share of the old teacher, a float or a schedule of the optimizer's step; the paper
            goes from 0.996 to 1 in a straight line.
        normalize: whether the teacher's latents are normalised.
        loss: of a token; the paper writes squared errors, the authors' code has `"smooth_l1"`.
        views: name of views or a layer; None for none.
        **kwargs: `watch` of `JointEmbeddingPredictive`, `seed`, `name`, `dtype`.

    Raises:
        ValueError: for an encoder that pools a class token, or a grid too small for the blocks.

    Source: Assran et al., 2023, section 3; https://arxiv.org/abs/2301.08243; released code
    (facebookresearch/ijepa). The predictor starts from Glorot-uniform weights instead of a
    truncated normal of 0.02, which narrow networks do not learn from.

    Example:

    ```python
    options = {"class_token": False, "positions": "sincos"}
    options |= {"kernel_initializer": "glorot_uniform"}
    encoder = backbones.VisionTransformer("tiny", (32, 32, 3), patch=4, **options)
    model = IJEPA(encoder, predictor=(96, 4, 3))
    model.compile(optimizers.AdamW(1e-3, weight_decay=0.04))
    model.fit(dataset)
    ```
    """

    def __init__(
        self,
        encoder: TokenTransformer,
        masking: keras.Layer | None = None,
        predictor: Sequence[int] | keras.Layer = (384, 6, 12),
        momentum: float | Callable = 0.996,
        normalize: bool = True,
        loss: str = "smooth_l1",
        views: str | keras.Layer | None = "ijepa",
        **kwargs: Any,
    ):
        masking = MultiBlockMasking() if masking is None else masking
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
