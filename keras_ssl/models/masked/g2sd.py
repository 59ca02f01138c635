# SPDX-License-Identifier: Apache-2.0
"""G2SD."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from keras_ssl import losses
from keras_ssl.backbones import TokenTransformer
from keras_ssl.core import Teacher, register
from keras_ssl.core.seeds import layer_seed
from keras_ssl.masking import MaskPlan
from keras_ssl.models.masked.engine import MaskedModeling
from keras_ssl.targets import standardized
from keras_ssl.tokens import CrossSelfDecoder, TransformerDecoder, front_and_patches, tokens_at

SUPERVISED = ("all", "hidden")


@register(
    paper="Generic-to-Specific Distillation of Masked Autoencoders",
    year=2023,
    family="masked modelling",
    modality="image",
    needs=("vision transformer", "frozen teacher"),
)
class G2SD(MaskedModeling):
    """Distils a trained MAE into a small one: first what it knows in general, then of a task.

    This model is the generic stage. Student and frozen teacher see the same patches, and what the
    student's decoder makes of all places is mapped to what the teacher's decoder has there, half
    way. The specific stage is a call of its own, `evaluation.fine_tune(..., recipe="g2sd",
    teacher=...)`: a classifier whose distillation token learns from a fine-tuned teacher.

    Args:
        encoder: a `backbones.VisionTransformer`, the student, in the paper with
            `positions="sincos"` and `kernel_initializer="glorot_uniform"`.
        teacher: trained `models.MAE` of the same grid, or `(encoder, decoder)` of one; both are
            copied.
        masking: share of hidden patches, or a strategy of `masking`.
        decoder: `(width, depth, heads)` of the student's `tokens.TransformerDecoder`, or one with
            `values=0`.
        teacher_block: block of the teacher's decoder, counted from 1, whose output is learned.
        supervise: `"all"` tokens with the class token, or the `"hidden"` patches alone.
        predictor: layer from the student's tokens to the teacher's width; None for two linear maps
            with GELU in between.
        loss: of a token, see `losses.token_error`.
        beta: where its `"smooth_l1"` turns linear.
        views: name of views or a layer; None for none.
        **kwargs: `decode` of `MaskedModeling`, `seed`, `name`, `dtype`.

    Raises:
        ValueError: for a teacher of another grid, without a decoder of blocks, or without the block
            that is asked for.

    Source: Huang et al., 2023, section 3.2; https://arxiv.org/abs/2302.14771; the released commands
    (pengzhiliang/G2SD), whose settings these are. Their loss of encoder features has weight 0 and
    is left out.

    Example:

    ```python
    options = {"positions": "sincos", "kernel_initializer": "glorot_uniform"}
    encoder = backbones.VisionTransformer("tiny", (32, 32, 3), patch=4, **options)
    model = G2SD(encoder, teacher=mae, decoder=(96, 2, 3), teacher_block=1)
    model.compile(optimizers.AdamW(1.5e-3, beta_2=0.95, weight_decay=0.05))
    model.fit(dataset)
    taught = evaluation.fine_tune(mae, *labelled)
    tuned = evaluation.fine_tune(model, *labelled, recipe="g2sd", teacher=taught.model)
    ```
    """

    loss_terms = ("features",)
    makes = ("target",)

    def __init__(
        self,
        encoder: TokenTransformer,
        teacher: MaskedModeling | Sequence[keras.Layer],
        masking: float | keras.Layer = 0.75,
        decoder: Sequence[int] | TransformerDecoder = (256, 4, 8),
        teacher_block: int = 4,
        supervise: str = "all",
        predictor: keras.Layer | None = None,
        loss: str = "smooth_l1",
        beta: float = 2.0,
        views: str | keras.Layer | None = "mae",
        **kwargs: Any,
    ):
        super().__init__(encoder, masking, None, None, loss, views=views, **kwargs)
        if supervise not in SUPERVISED:
            raise ValueError(f"supervise must be one of {SUPERVISED}; received {supervise!r}.")
        if self.mask_token is not None:
            raise ValueError(
                "G2SD shows the teacher what the student sees, so the masking must leave hidden "
                "tokens out; this one replaces them. Give a ratio."
            )
        self.teacher_block, self.supervise, self.beta = int(teacher_block), supervise, float(beta)
        self.teacher = self._frozen(teacher)
        if not isinstance(decoder, keras.Layer):
            width, depth, heads = decoder
            seed = layer_seed(self.seed, 2)
            decoder = TransformerDecoder(0, width, depth, heads, seed=seed, dtype=self.dtype_policy)
        if decoder.values != 0:
            raise ValueError(
                f"G2SD maps tokens of the student's decoder itself, but this one predicts "
                f"values={decoder.values}. Give (width, depth, heads), or a decoder of values=0."
            )
        self._check_kind("student", decoder)
        self.decoder = decoder
        self.predictor = self._mlp() if predictor is None else predictor
        for part, width in ((self.decoder, encoder.width), (self.predictor, decoder.width)):
            if not part.built:
                part.build((None, None, width))

    def _frozen(self, teacher: Any) -> tuple[Teacher, ...]:
        """Frozen copies of the teacher's encoder and decoder.

        Raises:
            ValueError: where they do not fit the student.
        """
        if isinstance(teacher, MaskedModeling):
            teacher = teacher.encoder, teacher.decoder
        teacher = teacher if isinstance(teacher, (tuple, list)) else (teacher,)
        pair = tuple(part.network if isinstance(part, Teacher) else part for part in teacher)
        kinds = (TokenTransformer, TransformerDecoder)
        if len(pair) != 2 or not all(isinstance(p, k) for p, k in zip(pair, kinds, strict=True)):
            raise ValueError(
                "G2SD needs a trained MAE, or its (encoder, decoder), a backbones.TokenTransformer "
                f"and a tokens.TransformerDecoder; received {[type(p).__name__ for p in pair]}."
            )
        encoder, decoder = pair
        self._check_kind("teacher", decoder)
        shapes = [(tuple(n.sample_shape), tuple(n.grid)) for n in (encoder, self.encoder)]
        if shapes[0] != shapes[1]:
            raise ValueError(
                f"the teacher {encoder.name!r} makes a grid of {shapes[0][1]} of samples "
                f"{shapes[0][0]}, the student one of {shapes[1][1]} of {shapes[1][0]}; both see "
                "the same patches, so choose a teacher of the student's grid."
            )
        if not 1 <= self.teacher_block <= decoder.depth:
            raise ValueError(
                f"teacher_block={self.teacher_block} is no block of the teacher's decoder, which "
                f"has {decoder.depth}."
            )
        return tuple(
            given if isinstance(given, Teacher) else Teacher(part, None, dtype=part.dtype_policy)
            for given, part in zip(teacher, pair, strict=True)
        )

    def _check_kind(self, whose: str, decoder: TransformerDecoder) -> None:
        """Raises where a decoder has other tokens than those of one view, each seeing all."""
        if decoder.window is not None or isinstance(decoder, CrossSelfDecoder):
            raise ValueError(
                f"G2SD compares tokens that attend to all of one view; the {whose}'s decoder "
                f"{decoder.name!r} has a window or a memory. Give a tokens.TransformerDecoder "
                "without either."
            )

    def _mlp(self) -> keras.Sequential:
        """Two linear maps, both as wide as the teacher's decoder."""
        maps = [
            keras.layers.Dense(
                self.teacher[1].network.width,
                activation,
                kernel_initializer=keras.initializers.GlorotUniform(layer_seed(self.seed, 3, n)),
                dtype=self.dtype_policy,
                name=f"linear{n}",
            )
            for n, activation in enumerate(("gelu", None), start=1)
        ]
        return keras.Sequential(maps, name="predictor")

    def compute_losses(self, views: dict, training: bool) -> dict[str, Any]:
        """How far the student's tokens are from the teacher's, behind the same mask."""
        inputs, plan = views["inputs"], views["plan"]
        encoder, decoder = (part.network for part in self.teacher)
        wanted = encoder.encode(inputs, plan)
        grid = self.encoder.grid_of(inputs)
        wanted = decoder.hidden(wanted, plan, grid, self.teacher_block)
        mine = self.encoder.encode(inputs, plan, training=training)
        mine = self.decoder.hidden(mine, plan, grid, training=training)
        prefixes = self.encoder.prefix, encoder.prefix
        both = int(all(prefix.class_token for prefix in prefixes))
        mine, wanted = (
            front_and_patches(x, prefix.count, both)
            for x, prefix in zip((mine, wanted), prefixes, strict=True)
        )
        mine = self.predictor(mine, training=training)
        weight = self.weights_of(plan, both)
        wanted = standardized(wanted, 1e-6)
        error = losses.token_error(mine, wanted, weight, self.loss, self.beta)
        return {"features": error}

    def weights_of(self, plan: MaskPlan, class_tokens: int) -> Any:
        """How much each token of the decoder counts: class token, kept and asked for, `(B, N)`."""
        seen = 1.0 - tokens_at(plan.mask, plan.keep)
        asked = ops.ones_like(plan.decode, "float32") if plan.weight is None else plan.weight
        front = ops.ones_like(seen[:, :class_tokens])
        if self.supervise == "hidden":
            front, seen = 0.0 * front, 0.0 * seen
        return ops.concatenate([front, seen, asked], axis=1)
