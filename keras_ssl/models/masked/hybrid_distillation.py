# SPDX-License-Identifier: Apache-2.0
"""Hybrid Distillation."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from keras_ssl import losses
from keras_ssl.backbones import TokenTransformer
from keras_ssl.core import Teacher, register
from keras_ssl.core.seeds import layer_seed
from keras_ssl.losses.token_relations import checked_relations
from keras_ssl.masking import least_redundant, visible_count
from keras_ssl.models.masked.engine import MaskedModeling
from keras_ssl.targets import TeacherFeatureTarget
from keras_ssl.tokens import front_and_patches, tokens_at


@register(
    paper="Hybrid Distillation: Connecting Masked Autoencoders with Contrastive Learners",
    year=2023,
    family="masked modelling",
    modality="image",
    needs=("vision transformer", "frozen teacher"),
)
class HybridDistillation(MaskedModeling):
    """Learns features of one frozen teacher and how tokens relate to each other from another.

    A contrastive or supervised teacher says what the last tokens should be, so that they tell
    things apart; a masked model says in intermediate blocks which tokens belong together, so that
    attention stays diverse. On their way through the student more and more tokens that are like
    the others are dropped, and nothing is asked of them.

    Args:
        encoder: a `backbones.VisionTransformer`, the student.
        teacher: trained network with the student's grid of tokens, whose features are learned; see
            `targets.TeacherFeatureTarget`.
        relation_teacher: trained `backbones.TokenTransformer` of the same grid, such as an MAE's
            encoder, whose relations are learned; or a `keras.Sequential` that ends in one.
        relation_blocks: blocks of the student, counted from 1; None for the last but one.
        relation_teacher_blocks: those of its teacher that they learn from; None for the same.
        relations: pairs of queries, keys and values, see `losses.token_relation_kl`.
        relation_heads: parts into which features are cut for it; None for the teacher's heads.
        alpha: weight of the relations; without it this is plain distillation of features.
        beta: weight of the features.
        drop_before: blocks, counted from 1, before which tokens are dropped; None for three, after
            each quarter of the depth.
        drop: share of the patches still there that is dropped each time.
        head: layer from the student's last tokens to features; None for a linear map.
        loss: of features, see `losses.token_error`.
        views: name of views or a layer; None for none.
        **kwargs: `seed`, `name`, `dtype`.

    Raises:
        ValueError: for a teacher of another grid, blocks that one of the networks does not have,
            or heads that do not divide its width.

    Source: Shi et al., 2023, abstract and published reviews, which state both teachers, where each
    teaches, and alpha = beta = 1; https://arxiv.org/abs/2306.15876. No code is published. Inferred:
    relations of queries with keys and of values with values and their divergence (TinyMIM, Ren et
    al. 2023), the block, whitened features and their smooth L1 loss, what makes a token redundant,
    and places and share of dropping (those of DynamicViT, Rao et al. 2021).

    Example:

    ```python
    encoder = backbones.VisionTransformer("tiny", (32, 32, 3), patch=4)
    model = HybridDistillation(encoder, dino.encoder, relation_teacher=mae.encoder)
    model.compile(optimizers.AdamW(1.5e-3, beta_2=0.95, weight_decay=0.05))
    model.fit(dataset)
    ```
    """

    loss_terms = ("features", "relations")
    makes = ("masking", "decoder", "target", "decode")

    def __init__(
        self,
        encoder: TokenTransformer,
        teacher: keras.Layer,
        relation_teacher: TokenTransformer | keras.Sequential | Teacher,
        relation_blocks: Sequence[int] | None = None,
        relation_teacher_blocks: Sequence[int] | None = None,
        relations: Sequence[str] = ("qk", "vv"),
        relation_heads: int | None = None,
        alpha: float = 1.0,
        beta: float = 1.0,
        drop_before: Sequence[int] | None = None,
        drop: float = 0.3,
        head: keras.Layer | None = None,
        loss: str = "smooth_l1",
        views: str | keras.Layer | None = "mae",
        **kwargs: Any,
    ):
        super().__init__(encoder, None, None, None, loss, views=views, **kwargs)
        self.alpha, self.beta, self.drop = float(alpha), float(beta), float(drop)
        self.relations = checked_relations(relations)
        depth = len(encoder.blocks)
        quarters = sorted({n * depth // 4 + 1 for n in (1, 2, 3) if n * depth >= 4})
        self.drop_before = tuple(quarters if drop_before is None else drop_before)
        self.relation_blocks = tuple(relation_blocks or [max(depth - 1, 1)])
        self.relation_teacher_blocks = tuple(relation_teacher_blocks or self.relation_blocks)
        self.target = {
            "features": TeacherFeatureTarget(teacher, skip=0, name="features"),
            "relations": TeacherFeatureTarget(relation_teacher, skip=0, name="relations"),
        }
        for target in self.target.values():
            target.check(encoder.batch_shape, encoder.grid)
        self.teacher = self.target["features"].teacher
        self.relation_teacher = self.target["relations"].teacher
        self.relation_heads = self._checked_heads(relation_heads)
        self._check_drops()
        self.head = self._linear() if head is None else head
        if not self.head.built:
            self.head.build((None, None, encoder.width))

    def _linear(self) -> keras.Layer:
        width = self.target["features"].compute_output_shape(self.encoder.batch_shape)[-1]
        start = keras.initializers.GlorotUniform(layer_seed(self.seed, 2))
        return keras.layers.Dense(width, kernel_initializer=start, dtype=self.dtype_policy)

    def _checked_heads(self, heads: int | None) -> int:
        """Parts into which features are cut, where blocks and widths of both networks allow it."""
        teacher = self.target["relations"].transformer
        if teacher is None:
            raise ValueError(
                "relation_teacher must be a backbones.TokenTransformer, or a keras.Sequential that "
                f"ends in one; received {self.relation_teacher.network.name!r}."
            )
        networks = (
            ("student", self.encoder, self.relation_blocks),
            ("relation teacher", teacher, self.relation_teacher_blocks),
        )
        for name, network, blocks in networks:
            if not set(blocks) <= set(range(1, len(network.blocks) + 1)):
                raise ValueError(
                    f"the {name} {network.name!r} has {len(network.blocks)} blocks, and relations "
                    f"are wanted of {blocks}. Say relation_blocks=, and relation_teacher_blocks= "
                    "for a teacher of another depth."
                )
        pairs = self.relation_blocks, self.relation_teacher_blocks
        if len(pairs[0]) != len(pairs[1]) or sorted(set(pairs[0])) != list(pairs[0]):
            raise ValueError(
                "relation_blocks rise, and each learns from one of relation_teacher_blocks; "
                f"received {pairs[0]} and {pairs[1]}."
            )
        parts: int = heads or teacher.blocks[0].heads
        for name, network, _ in networks:
            if network.width % parts:
                raise ValueError(
                    f"relation_heads={parts} does not divide the {name}'s width {network.width}. "
                    "Give a number that divides both."
                )
        return parts

    def _check_drops(self) -> None:
        """Raises where dropping leaves nothing, or a block is not there."""
        depth, tokens = len(self.encoder.blocks), math.prod(self.encoder.grid)
        for number in self.drop_before:
            if not 1 <= number <= depth:
                raise ValueError(f"drop_before={number} is no block of the student's {depth}.")
            tokens = visible_count(tokens, self.drop)

    def make_views(self, batch: Any) -> dict[str, Any]:
        """A view of every image, and what both teachers make of it."""
        inputs, (features, relations) = self.one_view(batch), self.target.values()
        blocks = self.relation_teacher_blocks if self.alpha else ()
        return {
            "inputs": inputs,
            "features": features(inputs),
            "relations": relations.projections(inputs, blocks),
        }

    def student(self, inputs: Any, training: bool = False) -> tuple[Any, Any, list]:
        """The student's way from samples `(B, …)` to few tokens.

        Returns:
            Its last tokens `(B, e + k, D)`; numbers of the patches that are left, `(B, k)`; and of
            every block with relations queries, keys and values, and which patches they are of.
        """
        encoder, relations = self.encoder, []
        x, options = encoder.first_tokens(inputs)
        places = ops.arange(x.shape[1] - encoder.prefix.count, dtype="int32")
        ids = ops.zeros_like(x[:, :1, 0], dtype="int32") + places[None]
        for number, block in enumerate(encoder.blocks, start=1):
            if number in self.drop_before:
                patches = x[:, encoder.prefix.count :]
                stay = least_redundant(patches, visible_count(patches.shape[1], self.drop))
                x, options = encoder.keep_tokens(x, options, stay)
                ids = tokens_at(ids, stay)
            if self.alpha and number in self.relation_blocks:
                relations.append((block.projections(x, options["angles"]), ids))
            x = block(x, **options, training=training)
        return encoder.norm(x), ids, relations

    def compute_losses(self, views: dict, training: bool) -> dict[str, Any]:
        """How far the last tokens are from features, and relations from relations."""
        x, ids, relations = self.student(views["inputs"], training)
        front, features = self.encoder.prefix.count, self.target["features"]
        both = self._class_tokens(features)
        mine = self.head(front_and_patches(x, front, both), training=training)
        wanted = front_and_patches(views["features"], features.front, both, ids)
        terms = {"features": self.beta * losses.token_error(mine, wanted, kind=self.loss)}
        teacher = self.target["relations"]
        both = self._class_tokens(teacher)
        students = [[front_and_patches(x, front, both) for x in parts] for parts, _ in relations]
        teachers = [
            [front_and_patches(x, teacher.front, both, ids) for x in parts]
            for parts, (_, ids) in zip(views["relations"], relations, strict=True)
        ]
        divergence = 0.0
        if self.alpha:
            options = {"heads": self.relation_heads, "relations": self.relations}
            divergence = losses.token_relation_kl(students, teachers, **options)
        return {**terms, "relations": ops.convert_to_tensor(self.alpha * divergence, "float32")}

    def _class_tokens(self, target: TeacherFeatureTarget) -> int:
        """1 where student and teacher both have a class token to compare."""
        taught = target.transformer is not None and target.transformer.prefix.class_token
        return int(taught and self.encoder.prefix.class_token)
