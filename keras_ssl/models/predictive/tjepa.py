# SPDX-License-Identifier: Apache-2.0
"""T-JEPA."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
from keras import ops

from keras_ssl.backbones import TokenTransformer
from keras_ssl.core import batches, register
from keras_ssl.masking import FeatureSubsetMasking
from keras_ssl.models.predictive.engine import JointEmbeddingPredictive
from keras_ssl.tokens import TransformerDecoder

# Rows of a data set that are looked at before training; of arrays all are.
LOOKED_AT = 256


@register(
    paper="T-JEPA: Augmentation-Free Self-Supervised Learning for Tabular Data",
    year=2024,
    family="joint-embedding prediction",
    modality="table",
    needs=("teacher",),
)
class TJEPA(JointEmbeddingPredictive):
    """Predicts latents of columns of a table from a few others of the same row.

    Every column is a token. Four sets of columns are predicted, each by itself, from one context
    that has none of them; the teacher, a moving average of the encoder, sees the whole row. Nothing
    is augmented. Registers of the encoder, the paper's regularization tokens, are always in the
    context and never predicted; without one latents tend to become alike, the paper found.

    Calling the model gives the teacher's tokens, with `pooling="concat"` those of all columns side
    by side, which the paper hands to its heads.

    Args:
        encoder: a `backbones.TokenTransformer` of a `tokens.FeatureTokenizer`, in the paper with
            `class_token=False, registers=1, positions=TJEPA.positions` and `pooling="concat"`.
            Columns have weights of their own, so that `positions="none"` tells them apart too and
            leaves more of the first latents to the values.
        masking: a strategy of `masking`; None for `masking.FeatureSubsetMasking()`.
        predictor: `(width, depth, heads)` of a `tokens.TransformerDecoder` with the positions
            `TJEPA.positions`, or a layer.
        momentum: share of the old teacher, a float or a schedule of the optimizer's step; the paper
            goes from 0.996 to 1.
        normalize: whether the teacher's latents are normalised besides the encoder's own last norm.
        loss: of a token.
        **kwargs: `watch` of `JointEmbeddingPredictive`, `seed`, `name`, `dtype`.

    Input: `{"numeric": (B, n) numbers, "categorical": (B, m) codes}`, either left out where there
    are no such columns, as `data.from_dataframe` makes them; numbers are taken as they are.

    Raises:
        ValueError: for an encoder of no table, or a table too small for the masking; in `fit` for
            values of which no token can be made.

    Source: Thimonier et al., 2024, section 3; https://arxiv.org/abs/2410.05016; released code
    (jose-melo/t-jepa), which differs from the paper twice: its four sets of a row are the same, and
    its numbers of columns count the register as the first, so that it is predicted and the last
    column is not. Here both are as the paper says. Blocks are pre-norm with GELU and no dropout
    where the code has post-norm with ReLU, and its last linear map between two norms is left out.

    Example:

    ```python
    inputs, schema = data.from_dataframe(frame)
    tokenizer = tokens.FeatureTokenizer(len(schema.numeric), schema.cardinalities, 64, missing=True)
    options = {"class_token": False, "registers": 1, "pooling": "concat"}
    options["positions"] = TJEPA.positions
    encoder = backbones.TokenTransformer(tokenizer, schema.shapes, 4, 4, **options)
    model = TJEPA(encoder, predictor=(32, 2, 4))
    model.compile(optimizers.AdamW(1e-3))
    model.fit(inputs, batch_size=256, epochs=20)
    features = model.predict(inputs)
    ```
    """

    # Of columns, whose order is the table's.
    positions = {"base": 100.0}

    def __init__(
        self,
        encoder: TokenTransformer,
        masking: keras.Layer | None = None,
        predictor: Sequence[int] | keras.Layer = (16, 16, 4),
        momentum: float | Callable = 0.996,
        normalize: bool = False,
        loss: str = "l2",
        **kwargs: Any,
    ):
        masking = FeatureSubsetMasking() if masking is None else masking
        super().__init__(
            encoder,
            masking,
            predictor,
            momentum=momentum,
            normalize=normalize,
            loss=loss,
            **kwargs,
        )
        if not encoder.prefix.count:
            warnings.warn(
                f"TJEPA's encoder {encoder.name!r} has no token in front, and its latents may "
                "become the same for all rows. Build it with registers=1.",
                stacklevel=2,
            )

    def checked_encoder(self, encoder: Any) -> Any:
        """The encoder, if its samples are rows of a table.

        Raises:
            ValueError: if they are not, or as `JointEmbeddingPredictive`.
        """
        encoder = super().checked_encoder(encoder)
        if not isinstance(encoder.sample_shape, Mapping) or len(encoder.grid) != 1:
            raise ValueError(
                "TJEPA's encoder takes rows of a table, input_shape={'numeric': (n,), "
                f"'categorical': (m,)}} or one of both; {encoder.name!r} takes samples of shape "
                f"{encoder.sample_shape}."
            )
        return encoder

    def make_decoder(self, size: Any, values: int, **options: Any) -> keras.Layer:
        """A predictor of `(width, depth, heads)` that knows columns by their positions."""
        return TransformerDecoder(values, *size, positions=self.positions, **options)

    def preprocess(self, inputs: Any) -> Any:
        """Numbers as float32 and codes as integers, of which none is scaled."""
        kinds = {"categorical": "int32"}
        return {name: ops.cast(x, kinds.get(name, "float32")) for name, x in inputs.items()}

    def fit(self, x: Any = None, *args: Any, **kwargs: Any):
        """Trains; arguments as `SSLModel.fit`. Arrays, and the first rows of a data set, are looked
        through before for values of which no token can be made."""
        check = getattr(self.encoder.tokenizer, "check", None)
        rows = x if isinstance(x, Mapping) else batches.some_rows_or_none(x, LOOKED_AT)
        if check is not None and rows is not None:
            check(rows)
        return super().fit(x, *args, **kwargs)
