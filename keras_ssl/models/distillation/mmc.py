# SPDX-License-Identifier: Apache-2.0
"""MMC."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import keras
from keras import ops

from keras_ssl import losses
from keras_ssl.core import register
from keras_ssl.core.seeds import layer_seed
from keras_ssl.layers import MLP
from keras_ssl.models.distillation.ibot import IBOT, LARGE
from keras_ssl.tokens import gather_tokens, patchify


@register(
    paper="Masked Momentum Contrastive Learning for Zero-shot Semantic Understanding",
    year=2023,
    family="self-distillation",
    modality="image",
    needs=("negatives", "prototypes", "teacher", "vision transformer"),
)
class MMC(IBOT):
    """Masked patches give pixels and what a teacher makes of them; class tokens find their image.

    A student sees two views with blocks masked, a slowly moving teacher sees them whole. Masked
    tokens give pixels (a linear decoder) and the teacher's distribution over prototypes (iBOT); the
    class token finds the other view's (MoCo v3). Made for `evaluation.prompt_segmentation`.

    Only the abstract was at hand: it names the three parts, not their forms. Inferred here: pixels
    as in SimMIM and GMML, patches as in iBOT, class tokens as in MoCo v3, each with its source's
    heads and temperatures; iBOT's masks; equal weights; a teacher that moves after the step.

    Args:
        encoder: a `backbones.VisionTransformer` with a class token.
        projector: widths of the class token's MLP, or a layer.
        predictor: the same, behind the projector.
        patch_projector: widths of the patches' head, or a layer that gives logits.
        prototypes: number of prototypes of patches, K.
        head_batch_norm: whether projector and predictor have batch norms, as MoCo v3's.
        temperature: divisor of the cosine similarities of class tokens.
        patch_temperature: of the teacher's patches, a float or a schedule of the optimizer's step.
        term_weights: of pixels, patches and class tokens.
        views: recipe of two views, a name or a layer.
        **kwargs: `masking`, `momentum`, `student_temperature` and `patch_center_momentum` (of
            patches), `freeze_steps`, `batch_norm` of `IBOT`; `seed`, `name`, `dtype`.

    Raises:
        ValueError: for an encoder without tokens to mask, or other than two views.

    Source: Wu et al., 2023 (abstract); https://arxiv.org/abs/2308.11448; for its terms SimMIM, 2021
    (L1 loss), iBOT, 2021 (equation 2) and MoCo v3, 2021 (algorithm 1).

    Example:

    ```python
    model = MMC(backbones.VisionTransformer("tiny", (32, 32, 3), patch=4), prototypes=4096)
    model.compile(optimizers.AdamW(5e-4, weight_decay=0.04, clipnorm=3.0))
    model.fit(dataset)
    ```
    """

    loss_terms = ("pixels", "patches", "info_nce")

    def __init__(
        self,
        encoder: keras.Model,
        projector: Sequence[int] | keras.Layer = (4096, 4096, 256),
        predictor: Sequence[int] | keras.Layer = (4096, 256),
        patch_projector: Sequence[int] | keras.Layer = (2048, 2048, 256),
        prototypes: int = 8192,
        head_batch_norm: bool = True,
        temperature: float = 0.2,
        patch_temperature: float | Callable = 0.04,
        term_weights: Sequence[float] = (1.0, 1.0, 1.0),
        views: str | keras.Layer = "byol",
        **kwargs: Any,
    ):
        last, bias = ("plain", "none") if head_batch_norm else (False, "all")
        layout: Any = {"batch_norm": head_batch_norm, "last_batch_norm": last, "bias": bias}
        if not isinstance(projector, keras.Layer):
            options = {"seed": layer_seed(kwargs.get("seed"), 1), "dtype": kwargs.get("dtype")}
            projector = MLP(projector, **layout, **options)
        own = {"patch_temperature": patch_temperature, "term_weights": term_weights, "views": views}
        own |= {"head_batch_norm": head_batch_norm}
        super().__init__(encoder, projector, prototypes, patch_projector, **own, **kwargs)
        if (count := getattr(self.views, "count", LARGE)) != LARGE:
            raise ValueError(f"MMC compares exactly two views; the recipe gives {count}.")
        self.temperature = temperature
        # Here DINO has put the width of what the class token's head gives.
        width, self.prototypes = self.prototypes, self.patch_center.width
        self.predictor = self.build_head(predictor, width, 2, **layout)
        values = encoder.patch[0] * encoder.patch[1] * encoder.input_shape[-1]
        start = keras.initializers.GlorotUniform(layer_seed(self.seed, 4))
        options = {"kernel_initializer": start, "dtype": self.dtype_policy, "name": "decoder"}
        self.decoder = self.build_head(keras.layers.Dense(values, **options), encoder.width, 4)

    def prototype_probabilities(self, view: Any) -> Any:
        """The teacher's distributions, float32 `(B, K)`, for a patch of each image, by turns."""
        tokens = self.teacher_encoder(view)[:, self.encoder.prefix.count :]
        # K numbers for all patches of many images would not fit.
        places = ops.arange(ops.shape(tokens)[0])[:, None] % tokens.shape[1]
        return self.distributions(self.teacher_patch_projector(gather_tokens(tokens, places))[:, 0])

    def distributions(self, logits: Any) -> Any:
        """The teacher's distributions over prototypes, float32 `(…, K)`, of logits of patches."""
        temperature = self.now(self.patch_temperature)
        return losses.centered_softmax(logits, self.patch_center.value, temperature)

    def pixels(self, views: Any) -> Any:
        """The values of all patches, `(B, patches, values of a patch)`."""
        # Pipelines may lose the number of channels.
        shape = (-1, *views.shape[1:3], self.encoder.input_shape[-1])
        cut = patchify(ops.reshape(views, shape), self.encoder.patch)
        return ops.reshape(cut, (-1, cut.shape[1] * cut.shape[2], self.decoder.units))

    def compute_losses(self, views: dict, training: bool) -> dict[str, Any]:
        """Pixels and patches where the views are masked, and the class tokens of both."""
        skip, both = self.encoder.prefix.count, ops.concatenate(views["views"], axis=0)
        hidden, seen, ids, mask = self.tokens_of(views, training)
        # Each view by itself, as MoCo v3's batch norms have it.
        classes = [self.projector(x, training=training) for x in ops.split(hidden[:, 0], LARGE)]
        queries = [self.predictor(x, training=training) for x in classes]
        keys = [self.teacher_projector(x, training=training) for x in ops.split(seen[:, 0], LARGE)]
        students = gather_tokens(hidden[:, skip:], ids)
        logits, drawn = self.patch_projector(students, training=training), self.decoder(students)
        teachers = self.teacher_patch_projector(seen[:, skip:], training=training)
        targets = self.distributions(gather_tokens(teachers, ids))
        if training:
            self.patch_center.observe(teachers)
        weights, temperature = losses.masked_token_weights(mask), self.student_temperature
        terms = (
            losses.token_error(drawn, gather_tokens(self.pixels(both), ids), mask, "l1"),
            losses.patch_distillation(logits, targets, weights, temperature=temperature),
            losses.moco_v3(queries, keys, temperature=self.temperature),
        )
        return {n: w * t for n, w, t in zip(self.loss_terms, self.term_weights, terms, strict=True)}
