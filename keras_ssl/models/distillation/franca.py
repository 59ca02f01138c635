# SPDX-License-Identifier: Apache-2.0
"""Franca, and DINOv2's objective."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import keras
from keras import ops

from keras_ssl import losses
from keras_ssl.core import register
from keras_ssl.core.seeds import layer_seed
from keras_ssl.layers import NestedPrototypeHead
from keras_ssl.masking import InverseBlockMasking
from keras_ssl.models.distillation.ibot import IBOT, LARGE
from keras_ssl.models.joint_embedding.engine import JointEmbedding
from keras_ssl.tokens import gather_tokens

# What DINO and iBOT have and a teacher balanced by Sinkhorn-Knopp, at one temperature, has not.
ABSENT = ("center_momentum", "patch_center_momentum", "patch_temperature", "head_batch_norm")


@register(
    paper="Franca: Nested Matryoshka Clustering for Scalable Visual Representation Learning",
    year=2025,
    family="self-distillation",
    modality="image",
    needs=("prototypes", "teacher", "multi-crop", "vision transformer"),
)
class Franca(IBOT):
    """Class tokens and masked patches predict a teacher's nested clusterings, coarse to fine.

    Heads see the first features alone, more of them, and all; each level has prototypes of its
    own. The teacher's assignments of a level are balanced by Sinkhorn-Knopp over the batch of all
    devices: class tokens of both large crops, and masked patches. All but one block of a large
    crop's patches may be hidden. KoLeo spreads the class tokens of each large crop. With
    `levels=(D,)`, `normalize=True` and `masking.BlockMasking()` it is DINOv2's objective.

    Args:
        encoder: a `backbones.VisionTransformer` with a class token, D features wide.
        projector: widths of every level's MLP, the last is the bottleneck, or a
            `layers.NestedPrototypeHead`.
        prototypes: number of the widest level's; another has its share by width.
        patch_projector: the same for the patches. None: a head like the class token's where that
            is given by widths, else the very same.
        levels: rising widths, the last is D; None for D/16, D/8, D/4, D/2 and D.
        projected: whether a level sees a linear map of all features, as released, instead of the
            paper's slice of the first ones.
        normalize: whether bottlenecks are scaled to unit length, as DINOv2's are and the released
            ones are not.
        masking: which patches are hidden; None for the paper's: none in half of the images, else
            10 to 65 %, all but a block.
        momentum: share of the old teacher, a float or a schedule of the optimizer's step.
        teacher_temperature: of class tokens and patches, a float or a schedule; the paper rises
            from 0.04 in 37500 steps.
        term_weights: of the class token's, the patches' and the KoLeo loss.
        sinkhorn_iterations: turns of the balancing.
        freeze_steps: optimizer steps in which the prototypes stand still.
        views: view recipe, a name or a layer; the first two views are the teacher's.
        **kwargs: `student_temperature`, `batch_norm`, `seed`, `name`, `dtype`, as `DINO` has them.

    Raises:
        ValueError: for an encoder without tokens to mask, heads or levels that do not fit it, a
            level of fewer than two prototypes, or an argument of `DINO` without meaning here.

    Source: Venkataramanan et al., 2025, section 3; weights and pairs: DINOv2, Oquab et al., 2023.

    Example:

    ```python
    encoder = backbones.VisionTransformer("tiny", (32, 32, 3), patch=4, drop_path=0.1)
    model = Franca(encoder, prototypes=4096, freeze_steps=200)
    model.compile(optimizers.AdamW(5e-4, weight_decay=0.04, clipnorm=3.0))
    model.fit(dataset)
    ```
    """

    loss_terms = ("class_token", "patches", "koleo")

    def __init__(
        self,
        encoder: keras.Model,
        projector: Sequence[int] | keras.Layer = (2048, 2048, 384),
        prototypes: int = 131072,
        patch_projector: Sequence[int] | keras.Layer | None = None,
        levels: Sequence[int] | None = None,
        projected: bool = False,
        normalize: bool = False,
        masking: keras.Layer | None = None,
        momentum: float | Callable = 0.994,
        teacher_temperature: float | Callable = 0.07,
        term_weights: Sequence[float] = (1.0, 1.0, 0.1),
        sinkhorn_iterations: int = 3,
        freeze_steps: int = 1250,
        views: str | keras.Layer = "franca",
        **kwargs: Any,
    ):
        for name in ABSENT:
            if name in kwargs:
                raise ValueError(
                    f"{type(self).__name__} has no {name}: Sinkhorn-Knopp takes the place of "
                    "centres, and all levels share teacher_temperature. Leave it out."
                )
        options = {"levels": levels, "prototypes": prototypes, "projected": projected}
        options |= {"normalize": normalize}
        options |= {"seed": kwargs.get("seed"), "dtype": kwargs.get("dtype")}
        if patch_projector is None and not isinstance(projector, keras.Layer):
            patch_projector = projector
        projector = _nested(projector, encoder, 1, "projector", options)
        if patch_projector is not None:
            patch_projector = _nested(patch_projector, encoder, 3, "patch_projector", options)
        super().__init__(
            encoder,
            projector,
            prototypes,
            patch_projector=patch_projector,
            masking=InverseBlockMasking() if masking is None else masking,
            momentum=momentum,
            teacher_temperature=teacher_temperature,
            term_weights=term_weights,
            freeze_steps=freeze_steps,
            views=views,
            **kwargs,
        )
        self.prototypes, self.levels = self.projector.prototypes, self.projector.levels
        self.projected, self.normalize = self.projector.projected, self.projector.normalize
        self.sinkhorn_iterations = int(sinkhorn_iterations)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {n: value for n, value in super().get_config().items() if n not in ABSENT}

    def build_center(self, head: keras.Layer, momentum: float) -> None:
        """None: Sinkhorn-Knopp keeps one prototype from taking all."""

    def after_update(self) -> None:
        """The teacher moves."""
        JointEmbedding.after_update(self)

    def frozen_variables(self):
        """The prototypes of all levels, in the first `freeze_steps` steps."""
        if not self.freeze_steps:
            return []
        heads = [self.projector, self.patch_projector or self.projector]
        last = {id(level.last): level.last for head in heads for level in head.heads}
        variables = [v for layer in last.values() for v in layer.trainable_variables]
        return [(variables, self.optimizer.iterations < self.freeze_steps)]

    def project_views(self, views: Sequence, training: bool = False) -> list:
        """Of every level a list of the views' logits, `(B, K of the level)`."""
        return _by_level(self.projector, self.encode_views(views, training), training)

    def target_projections(self, views: Sequence, training: bool = False) -> list:
        """Of every level a list of the teacher's logits of views of one size."""
        tokens = self.teacher_encoder(ops.concatenate(views, axis=0), training=training)
        features = ops.split(tokens[:, 0], len(views), axis=0)
        return _by_level(self.teacher_projector, features, training)

    def balanced(self, logits: Any, weights: Any = None) -> Any:
        """A teacher's distributions, float32 `(N, K)`; rows of weight 0 take no part."""
        epsilon, turns = self.now(self.teacher_temperature), self.sinkhorn_iterations
        return losses.sinkhorn_knopp(logits, epsilon=epsilon, iterations=turns, weights=weights)

    def prototype_probabilities(self, view: Any) -> Any:
        """The teacher's distributions, float32 `(B, K)`, of the widest level for one view."""
        return self.balanced(self.target_projections([view])[-1][0])

    def compute_losses(self, views: dict, training: bool) -> dict[str, Any]:
        """Class tokens of all crops, masked patches of the large ones, and their spread."""
        crops, skip = views["views"], self.encoder.prefix.count
        temperature = self.student_temperature
        hidden, seen, ids, masked = self.tokens_of(views, training)

        large = ops.split(hidden[:, 0], LARGE, axis=0)
        features = [*large, *self.encode_views(crops[LARGE:], training)]
        targets = [self.balanced(x) for x in self.teacher_projector(seen[:, 0], training=training)]
        # The mean over pairs: as the sum of DINOv2's terms of small crops and of large ones, of
        # which the latter, a mean over both, is doubled.
        class_token = losses.nested_distillation(
            _by_level(self.projector, features, training),
            [ops.split(level, LARGE, axis=0) for level in targets],
            temperature=temperature,
        )

        # Patches that are not masked weigh nothing.
        present = ops.reshape(masked, (-1,))
        weights = ops.reshape(losses.masked_token_weights(masked), (-1,))
        head = self.patch_projector or self.projector
        teacher_head = self.teacher_patch_projector or self.teacher_projector
        tokens = [
            ops.reshape(gather_tokens(x[:, skip:], ids), (-1, self.width)) for x in (hidden, seen)
        ]
        students = head(tokens[0], training=training)
        teachers = teacher_head(tokens[1], training=training)
        patches = sum(
            losses.patch_distillation(
                student, self.balanced(teacher, present), weights, temperature=temperature
            )
            for student, teacher in zip(students, teachers, strict=True)
        )
        spread = sum(losses.koleo(feature) for feature in large) if self.term_weights[2] else 0.0
        terms = zip(self.loss_terms, self.term_weights, (class_token, patches, spread), strict=True)
        return {name: weight * ops.cast(term, "float32") for name, weight, term in terms}


def _by_level(head: keras.Layer, features: Sequence, training: bool) -> list:
    """Of every level a list of logits, one for each of the `(B, D)` features."""
    logits = head(ops.concatenate(features, axis=0), training=training)
    return [ops.split(level, len(features), axis=0) for level in logits]


def _nested(head: Any, encoder: keras.Model, place: int, name: str, options: dict) -> keras.Layer:
    """A head for all levels, from widths where it is none yet."""
    if not isinstance(head, keras.Layer):
        width = encoder.output_shape[-1]
        # A narrow encoder has fewer of the paper's five.
        usual = sorted({width // part for part in (16, 8, 4, 2, 1)} - {0})
        seed = layer_seed(options["seed"], place)
        options = {**options, "levels": options["levels"] or usual, "seed": seed, "name": name}
        head = NestedPrototypeHead(widths=head, **options)
    if not isinstance(head, NestedPrototypeHead) or min(h.prototypes for h in head.heads) < 2:
        raise ValueError(
            "Franca compares clusterings at several widths: give widths of an MLP or a "
            "layers.NestedPrototypeHead, with prototypes enough for 2 at the narrowest level; "
            f"received {head!r}."
        )
    return head
