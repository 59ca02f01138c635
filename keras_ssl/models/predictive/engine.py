# SPDX-License-Identifier: Apache-2.0
"""The engine of latent prediction: context → encoder → predictor → latents of a teacher."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import keras

from keras_ssl.backbones import TokenTransformer
from keras_ssl.core import Teacher
from keras_ssl.models.masked.engine import MaskedModeling
from keras_ssl.models.predictive._watched import Watched
from keras_ssl.targets import TeacherFeatureTarget


@keras.saving.register_keras_serializable(package="keras_ssl")
class JointEmbeddingPredictive(Watched, MaskedModeling):
    """Predicts what a teacher makes of hidden parts of a sample, from what the encoder sees of it.

    The encoder gets a context, gathered by the masking. A narrow transformer, the predictor, gets
    what it made of it and mask tokens at the places of a set of other tokens, and predicts the
    teacher's latents there; the teacher sees the whole sample. Each set is a sequence of its own,
    and all of them are one call of the predictor, so that no prediction depends on what else is
    asked. It is masked modelling whose target are latents: a method chooses masking, teacher and
    loss.

    Nothing but the slow teacher keeps latents from becoming the same everywhere, and the loss is
    lowest then. `fit` therefore watches the representation of some samples and warns. What tells
    places is the same in all samples and easiest to predict: narrow encoders of small patches learn
    more where it is the smaller part of a token, `PatchTokenizer(patch, width, VarianceScaling(8))`
    or larger inputs, or has no part in tokens that differ by themselves, as columns of a table.

    Calling the model gives the teacher's representation where the teacher follows the encoder: it
    is what the papers evaluate, pooled by the mean, and `model.encoder` is the other one. A frozen
    teacher leaves the encoder's.

    Args:
        encoder: a `backbones.TokenTransformer` whose pooling is `"mean"` or `"concat"`: nothing is
            asked of a class token.
        masking: a strategy of `masking` whose plans have indices.
        predictor: `(width, depth, heads)` of a `tokens.TransformerDecoder`, or a layer called as it
            is.
        teacher: trained network of the same grid that stays as it is; `None` for a copy of the
            encoder that follows it.
        momentum: share of the old teacher, a float or a schedule of the optimizer's step; a given
            teacher has none.
        normalize: whether the latents of a token get mean 0 and variance 1.
        loss: of a token: `"smooth_l1"`, `"l1"`, `"l2"` or `"cosine"`.
        views: name of views or a layer that makes one view; `None` for none.
        watch: samples that `fit` watches with a `callbacks.RepresentationMonitor`, unless it is
            given one or cannot read its data twice; 0 for none.
        **kwargs: `seed`, `name`, `dtype`.

    Raises:
        ValueError: for a pooled class token, a masking without indices, or as `MaskedModeling`.

    Source: A Path Towards Autonomous Machine Intelligence, LeCun 2022; I-JEPA, Assran et al. 2023.
    """

    loss_terms: tuple[str, ...] = ("prediction",)
    makes = ("decoder", "target", "decode")

    def __init__(
        self,
        encoder: TokenTransformer,
        masking: keras.Layer,
        predictor: Sequence[int] | keras.Layer = (384, 6, 12),
        teacher: keras.Layer | Teacher | None = None,
        momentum: float | Callable | None = 0.996,
        normalize: bool = True,
        loss: str = "smooth_l1",
        views: str | keras.Layer | None = None,
        watch: int = 256,
        **kwargs: Any,
    ):
        follows = teacher is None
        if follows and momentum is None:
            raise ValueError(
                f"{type(self).__name__} without momentum would predict a network that never learns."
                " Give a momentum such as 0.996, or a trained teacher."
            )
        network = self.checked_encoder(encoder) if follows else teacher
        target = TeacherFeatureTarget(
            network, normalize=normalize, momentum=momentum if follows else None, name="target"
        )
        super().__init__(encoder, masking, predictor, target, loss, views=views, **kwargs)
        if self.mask_token is not None:
            raise ValueError(
                f"{type(self).__name__}'s encoder gets its context only; "
                f"{type(self.masking).__name__} replaces what is hidden. Give a masking whose "
                "plans have indices, such as masking.MultiBlockMasking()."
            )
        self.momentum = momentum if follows else None
        self.normalize, self.watch = normalize, watch
        self.teacher = target.teacher
        if follows:
            # Targets are tokens of this network; it pools them besides.
            self.teacher_encoder = self.teacher.network

    def checked_encoder(self, encoder: Any) -> Any:
        """The encoder, if it is made of tokens and pools them, not a class token.

        Raises:
            ValueError: if it is or does not.
        """
        encoder = super().checked_encoder(encoder)
        if encoder.pooling not in ("mean", "concat"):
            raise ValueError(
                f"{type(self).__name__} asks nothing of a class token, and the encoder "
                f"{encoder.name!r} {'pools it' if encoder.pooling else 'pools nothing'}. Build it "
                'with pooling="mean", as a rule with class_token=False.'
            )
        return encoder

    @property
    def predictor(self) -> keras.Layer:
        """What predicts the latents of hidden tokens."""
        return self.decoder

    @property
    def representing(self) -> keras.Model:
        """The teacher where it follows the encoder, else the encoder."""
        return self.encoder if self.momentum is None else self.teacher_encoder

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        config = super().get_config()
        if self.momentum is not None:
            config["teacher"] = None
        return config
