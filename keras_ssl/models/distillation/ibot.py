# SPDX-License-Identifier: Apache-2.0
"""iBOT."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import keras
from keras import ops

from keras_ssl import losses
from keras_ssl.core import Teacher, distribution, register
from keras_ssl.core.seeds import layer_seed
from keras_ssl.layers import PrototypeHead
from keras_ssl.masking import BlockMasking
from keras_ssl.models.distillation.dino import DINO
from keras_ssl.tokens import MaskToken, gather_tokens

# The first two views are the teacher's, and the ones that are masked.
LARGE = 2
# Tells the masks of a step from its views.
MASKS = 7001


@register(
    paper="iBOT: Image BERT Pre-Training with Online Tokenizer",
    year=2021,
    family="self-distillation",
    modality="image",
    needs=("prototypes", "teacher", "multi-crop", "vision transformer"),
)
class IBOT(DINO):
    """DINO on the class token, and the same on masked patches, which the teacher sees.

    Patches of the two large crops are hidden from the student. Its tokens at their places predict
    what the teacher's say there, by the same head; the small crops join in the class token's loss
    alone.

    Args:
        encoder: a `backbones.VisionTransformer` with a class token.
        projector: widths of the head's MLP, the last is the bottleneck, or a layer that gives
            logits; it serves class token and patches.
        prototypes: number of prototypes, K.
        patch_projector: head of the patches alone, by widths or a layer; None shares the other.
        masking: which patches are hidden; None for the paper's: none in half of the images, else
            blocks that cover 10 to 50 %.
        momentum: share of the old teacher, a float or a schedule of the optimizer's step.
        teacher_temperature: of class tokens, a float or a schedule of the optimizer's step.
        patch_temperature: of patches; the paper rises from 0.04 to 0.07.
        patch_center_momentum: share of the old centre of patches at each step.
        term_weights: of the class token's and of the patches' loss.
        **kwargs: other arguments of `DINO`, `seed`, `name`, `dtype`.

    Raises:
        ValueError: for an encoder without tokens to mask, or fewer than two views.

    Source: Zhou et al., 2021, equations 2 and 3; https://arxiv.org/abs/2111.07832.

    Example:

    ```python
    encoder = backbones.VisionTransformer("tiny", (32, 32, 3), patch=4, drop_path=0.1)
    model = IBOT(encoder, prototypes=4096, freeze_steps=200)
    model.compile(optimizers.AdamW(5e-4, weight_decay=0.04, clipnorm=3.0))
    model.fit(dataset)
    ```
    """

    loss_terms = ("class_token", "patches")

    def __init__(
        self,
        encoder: keras.Model,
        projector: Sequence[int] | keras.Layer = (2048, 2048, 256),
        prototypes: int = 8192,
        patch_projector: Sequence[int] | keras.Layer | None = None,
        masking: keras.Layer | None = None,
        momentum: float | Callable = 0.996,
        teacher_temperature: float | Callable = 0.04,
        patch_temperature: float | Callable = 0.04,
        patch_center_momentum: float = 0.9,
        term_weights: Sequence[float] = (1.0, 1.0),
        **kwargs: Any,
    ):
        if not getattr(getattr(encoder, "prefix", None), "class_token", False):
            raise ValueError(
                f"{type(self).__name__} masks patches and reads a class token; the encoder "
                f"{encoder.name!r} has none. Give a backbones.VisionTransformer with "
                "class_token=True."
            )
        if patch_projector is not None and not isinstance(patch_projector, keras.Layer):
            seed = layer_seed(kwargs.get("seed"), 3)
            options = {"dtype": kwargs.get("dtype"), "name": "patch_projector", "seed": seed}
            patch_projector = PrototypeHead(patch_projector, prototypes, **options)
        super().__init__(
            encoder,
            projector,
            prototypes,
            momentum=momentum,
            teacher_temperature=teacher_temperature,
            **kwargs,
        )
        self.patch_temperature, self.term_weights = patch_temperature, tuple(term_weights)
        self.patch_center_momentum = patch_center_momentum
        self.masking = BlockMasking() if masking is None else masking
        self.mask_token = MaskToken(dtype=self.dtype_policy, name="mask_token")
        self.masked_tokens = encoder.token_model(self.mask_token)
        inputs = keras.Input((None, None, encoder.input_shape[-1]))
        # The class token whatever the encoder pools; crops of any size.
        self.view_encoder = keras.Model(inputs, self.student_network()(inputs)[:, 0])
        self.patch_projector = self.teacher_patch_projector = None
        if patch_projector is not None:
            self.patch_projector = self.build_head(patch_projector, encoder.width, 3)
            self.teacher_patch_projector = Teacher(self.patch_projector, momentum, self.batch_norm)
        head = self.patch_projector or self.projector
        self.patch_center = self.build_center(head, patch_center_momentum)

    def student_network(self) -> keras.Model:
        """The encoder with all of its tokens."""
        if getattr(self, "plain_tokens", None) is None:
            self.plain_tokens = self.encoder.token_model()
        return self.plain_tokens

    def teachers(self):
        """Teacher encoder and heads follow the student's."""
        pairs = super().teachers()
        if self.patch_projector is not None:
            pairs.append((self.teacher_patch_projector, self.patch_projector))
        return pairs

    def frozen_variables(self):
        """The prototypes of both heads, in the first `freeze_steps` steps."""
        frozen = super().frozen_variables()
        last = getattr(self.patch_projector, "last", None)
        if last is not None and self.freeze_steps:
            frozen.append((last.trainable_variables, self.optimizer.iterations < self.freeze_steps))
        return frozen

    def make_views(self, batch: Any) -> dict[str, Any]:
        """Crops, and for the two large ones which patches are masked."""
        views = super().make_views(batch)
        seed = distribution.fold_in(self.draw_seed(), MASKS)
        rows, sides = ops.shape(views[0])[0], views[0].shape[1:3]
        grid = tuple(side // step for side, step in zip(sides, self.encoder.patch, strict=True))
        folded = [distribution.fold_in(seed, index) for index in range(LARGE)]
        return {"views": views, "masks": [self.masking.draw(rows, grid, one) for one in folded]}

    def target_projections(self, views: Sequence, training: bool = False) -> list:
        """The teacher's logits `(B, K)` of the class tokens of views of one size."""
        tokens = self.teacher_encoder(ops.concatenate(views, axis=0), training=training)
        return ops.split(
            self.teacher_projector(tokens[:, 0], training=training), len(views), axis=0
        )

    def tokens_of(self, views: dict, training: bool) -> tuple[Any, Any, Any, Any]:
        """What both networks make of the large crops, and which patches are compared.

        Returns:
            The student's tokens with patches masked and the teacher's without, `(B, tokens, D)`;
            of as many patches of every image as can be masked the numbers, `(B, most)`, and
            whether they are masked, float32. Heads need no others, and K is large.
        """
        together = ops.concatenate(views["views"][:LARGE], axis=0)
        mask = ops.cast(ops.concatenate(views["masks"], axis=0), "float32")
        hidden = self.masked_tokens([together, mask], training=training)
        seen = self.teacher_encoder(together, training=training)
        most = max(self.masking.most(views["masks"][0].shape[1:]), 1)
        mask = ops.reshape(mask, (-1, hidden.shape[1] - self.encoder.prefix.count))
        mask, ids = ops.top_k(mask, most)
        return hidden, seen, ids, mask

    def compute_losses(self, views: dict, training: bool) -> dict[str, Any]:
        """Class tokens of all crops, and masked patches of the large ones."""
        crops, skip = views["views"], self.encoder.prefix.count
        hidden, seen, ids, mask = self.tokens_of(views, training)

        features = [*ops.split(hidden[:, 0], LARGE, axis=0)]
        features += self.encode_views(crops[LARGE:], training)
        students = self.projector(ops.concatenate(features, axis=0), training=training)
        teachers = self.teacher_projector(seen[:, 0], training=training)

        head = self.patch_projector or self.projector
        teacher_head = self.teacher_patch_projector or self.teacher_projector
        student_patches = head(gather_tokens(hidden[:, skip:], ids), training=training)
        teacher_patches = teacher_head(seen[:, skip:], training=training)
        terms = losses.ibot(
            ops.split(students, len(crops), axis=0),
            ops.split(teachers, LARGE, axis=0),
            ops.split(student_patches, LARGE, axis=0),
            ops.split(gather_tokens(teacher_patches, ids), LARGE, axis=0),
            ops.split(mask, LARGE, axis=0),
            centers=(self.center.value, self.patch_center.value),
            student_temperature=self.student_temperature,
            teacher_temperatures=(
                self.now(self.teacher_temperature),
                self.now(self.patch_temperature),
            ),
            weights=self.term_weights,
        )
        if training:
            self.center.observe(teachers)
            self.patch_center.observe(teacher_patches)
        return terms

    def after_update(self) -> None:
        """Both centres and the teacher move."""
        self.patch_center.move(self.stepped)
        super().after_update()
