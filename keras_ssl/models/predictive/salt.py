# SPDX-License-Identifier: Apache-2.0
"""SALT."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from keras_ssl.backbones import TokenTransformer
from keras_ssl.core import Teacher, register
from keras_ssl.core.seeds import layer_seed
from keras_ssl.core.teacher import clone
from keras_ssl.models.masked.engine import MaskedModeling
from keras_ssl.models.predictive.vjepa import VJEPA
from keras_ssl.targets import token_transformer


@register(
    paper="Rethinking JEPA: Compute-Efficient Video SSL with Frozen Teachers",
    year=2025,
    family="joint-embedding prediction",
    modality="video",
    needs=("frozen teacher",),
)
class SALT(VJEPA):
    """V-JEPA whose teacher learns pixels first and is frozen then.

    One call of `fit` runs both stages: the teacher reconstructs pixels of V-JEPA's blocks; frozen,
    it gives the latents that the student predicts. These stand still, so nothing collapses, the
    loss tells how far the student is, and student and teacher may be of any two sizes. Calling the
    model gives the student's representation.

    Args:
        encoder: the student, a `backbones.TokenTransformer` as for `VJEPA`.
        teacher: network of the same grid, which is copied; new, or trained with `teacher_epochs=0`.
        masking: a strategy of `masking` or a `masking.SeveralMaskings` for both stages; None for
            V-JEPA's two.
        predictor: `(width, depth, heads)` of a `tokens.LatentPredictor`, or such a layer.
        teacher_epochs: passes over the data of the first stage, in the first call of `fit`; None
            for a fifth of those of the second, at least one; 0 leaves it out.
        teacher_decoder: `(width, depth, heads)` of the teacher's decoder in the first stage.
        teacher_target: `"normalized"` or `"pixels"`, or a layer of `targets`.
        normalize: whether the teacher's latents get mean 0 and variance 1 in every token; else few
            features may decide the loss.
        loss: of a token in the second stage.
        views: a layer that makes one view of a clip; None for none.
        **kwargs: other arguments of `VJEPA`, `seed`, `name`, `dtype`.

    Attributes:
        teacher_history: what `fit` of the first stage returned, or `None`.

    Raises:
        ValueError: for networks of other grids, or as `VJEPA`.

    Source: Rethinking JEPA, 2025 (frozen teachers trained on pixels under V-JEPA's masks, most
    compute for the student: its abstract). How epochs are shared, the teacher's decoder and
    standardised pixels are our reading; no code is released.

    Example:

    ```python
    def network(width):
        tokenizer = tokens.PatchTokenizer((2, 8, 8), width)
        return backbones.TokenTransformer(tokenizer, (8, 64, 64, 3), class_token=False)

    model = SALT(network(384), teacher=network(192), predictor=(96, 4, 3))
    model.compile(optimizers.AdamW(6e-4, weight_decay=0.04))
    model.fit(clips, epochs=100)
    ```
    """

    def __init__(
        self,
        encoder: TokenTransformer,
        teacher: TokenTransformer | Teacher,
        masking: keras.Layer | None = None,
        predictor: Sequence[int] | keras.Layer = (384, 12, 12),
        teacher_epochs: int | None = None,
        teacher_decoder: Sequence[int] = (384, 4, 6),
        teacher_target: str | keras.Layer = "normalized",
        normalize: bool = True,
        loss: str = "l1",
        views: keras.Layer | None = None,
        **kwargs: Any,
    ):
        kwargs.pop("momentum", None)
        if token_transformer(teacher) is None:
            raise ValueError(
                "SALT's teacher learns from hidden tokens, so it must be a "
                f"backbones.TokenTransformer; received {type(teacher).__name__}."
            )
        super().__init__(
            encoder,
            masking,
            predictor,
            normalize=normalize,
            loss=loss,
            views=views,
            teacher=teacher,
            **kwargs,
        )
        self.teacher_epochs, self.teacher_target = teacher_epochs, teacher_target
        self.teacher_decoder = tuple(teacher_decoder)
        self.taught = self.add_weight(
            shape=(), initializer="zeros", dtype="int32", trainable=False, name="taught"
        )
        self.teacher_history: Any = None

    def first_stage(self) -> MaskedModeling:
        """A model that reconstructs pixels with a copy of the teacher, as it is now."""
        return MaskedModeling(
            clone(self.teacher.network),
            self.masking,
            self.teacher_decoder,
            self.teacher_target,
            views=self.views,
            seed=layer_seed(self.seed, 7),
            dtype=self.dtype_policy,
        )

    def fit(self, x: Any = None, *args: Any, **kwargs: Any):
        """Trains the teacher, where it is not yet trained, then the student.

        Arguments as `SSLModel.fit`; those on epochs, callbacks and validation are the student's.
        """
        if not int(ops.convert_to_numpy(self.taught)):
            epochs = self.teacher_epochs
            if epochs is None:
                epochs = max(kwargs.get("epochs", 1) // 5, 1)
            if epochs:
                students = ("epochs", "initial_epoch", "callbacks")
                options = {
                    name: value
                    for name, value in kwargs.items()
                    if name not in students and not name.startswith("validation")
                }
                self._teach(x, *args, epochs=epochs, **options)
            self.taught.assign(1)
        return super().fit(x, *args, **kwargs)

    def _teach(self, x: Any, *args: Any, **kwargs: Any) -> None:
        """The first stage, with an optimizer like the student's."""
        with self.distribute_strategy.scope():
            model = self.first_stage()
            optimizer = keras.optimizers.deserialize(keras.optimizers.serialize(self.optimizer))
            model.compile(optimizer, jit_compile=self.jit_compile, run_eagerly=self.run_eagerly)
        self.teacher_history = model.fit(x, *args, **kwargs)
        self.teacher.network.set_weights(model.encoder.get_weights())
