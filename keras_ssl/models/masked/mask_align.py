# SPDX-License-Identifier: Apache-2.0
"""MaskAlign."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from keras_ssl import losses
from keras_ssl.backbones import TokenTransformer
from keras_ssl.core import Teacher, register
from keras_ssl.core.seeds import layer_seed
from keras_ssl.layers import DynamicAlignment
from keras_ssl.masking import GuidedMasking, MaskPlan
from keras_ssl.models.masked.engine import MaskedModeling
from keras_ssl.targets import TeacherFeatureTarget, token_transformer
from keras_ssl.tokens import front_and_patches, tokens_at


@register(
    paper="Stare at What You See: Masked Image Modeling without Reconstruction",
    year=2022,
    family="masked modelling",
    modality="image",
    needs=("vision transformer", "frozen teacher"),
)
class MaskAlign(MaskedModeling):
    """Aligns tokens that were seen with a frozen teacher's, which saw the whole image.

    Nothing is reconstructed and there is no decoder. Each of the teacher's last levels, whitened,
    is matched by a learned mixture of all blocks of the student, mapped to the teacher's width.
    Visible patches are drawn in proportion to the attention of the teacher's class token.

    Args:
        encoder: a `backbones.VisionTransformer`, in the paper with `positions="sincos"`,
            `kernel_initializer="glorot_uniform"` and `drop_path=0.1`.
        teacher: trained `backbones.TokenTransformer` of the same grid, which is copied; or a
            `keras.Sequential` that ends in one, where it wants other statistics or sizes.
        masking: share of hidden patches, drawn by the teacher's attention, or any strategy of
            `masking`.
        levels: number of the teacher's last blocks that are aligned.
        fusion: `"linear"` (as many blocks as the teacher has), `"mean"` or `"none"`, see
            `layers.DynamicAlignment`.
        head: `"linear"`, `"norm_linear"` or `"mlp"`, from mixtures to the teacher's width.
        loss: of a token, see `losses.feature_alignment`.
        views: name of views or a layer; None for none.
        **kwargs: `seed`, `name`, `dtype`.

    The encoder's last norm has no part in the loss and stays as it is.

    Raises:
        ValueError: for a teacher of another grid, or another depth where each level has its own
            block; for one without a class token where it draws the visible patches.

    Source: Xue et al., 2022, sections 3.2 and 3.3; https://arxiv.org/abs/2211.08887; the released
    command (OpenDriveLab/maskalign), whose settings these are.

    Example:

    ```python
    options = {"positions": "sincos", "kernel_initializer": "glorot_uniform", "drop_path": 0.1}
    encoder = backbones.VisionTransformer("tiny", (32, 32, 3), patch=4, **options)
    model = MaskAlign(encoder, teacher=trained.encoder)
    model.compile(optimizers.AdamW(1.5e-3, beta_2=0.95, weight_decay=0.05, exclude=["fusion"]))
    model.fit(dataset)
    ```
    """

    loss_terms = ("alignment",)
    makes = ("decoder", "target", "decode")

    def __init__(
        self,
        encoder: TokenTransformer,
        teacher: TokenTransformer | keras.Sequential | Teacher,
        masking: float | keras.Layer = 0.7,
        levels: int = 5,
        fusion: str = "linear",
        head: str = "linear",
        loss: str = "smooth_l1",
        views: str | keras.Layer | None = "mae",
        **kwargs: Any,
    ):
        if isinstance(masking, float):
            masking = GuidedMasking(None, masking, "high", temperature=1.0)
        super().__init__(encoder, masking, None, None, loss, views=views, **kwargs)
        self.levels, self.fusion, self.head = levels, fusion, head
        blocks = self._blocks(teacher)
        self.target = TeacherFeatureTarget(
            teacher, blocks, "concatenate", skip=0, last_norm=False, name="target"
        )
        self.target.check(encoder.batch_shape, encoder.grid)
        self.teacher = self.target.teacher
        student, taught = encoder.prefix, self.target.transformer.prefix
        # Registers of two networks have nothing in common.
        self.class_tokens = int(student.class_token and taught.class_token)
        # A schedule has a strategy inside.
        inner = getattr(self.masking, "masking", self.masking)
        self.guided = isinstance(inner, GuidedMasking) and inner.guide is None
        if self.guided and not taught.class_token:
            raise ValueError(
                f"the teacher {self.teacher.network.name!r} has no class token whose attention "
                "could draw the visible patches. Give a strategy: "
                "masking=masking.RandomMasking(0.7)."
            )
        width, seed = self.target.transformer.width, layer_seed(self.seed, 2)
        self.alignment = DynamicAlignment(
            width, levels, fusion, head, seed, dtype=self.dtype_policy, name="alignment"
        )
        self.alignment.build([(None, None, encoder.width)] * len(encoder.blocks))

    def _blocks(self, teacher: Any) -> range:
        """Blocks of the teacher that are needed: its last levels, and what the last block gets."""
        transformer = token_transformer(teacher)
        if transformer is None:
            raise ValueError(
                "MaskAlign needs a teacher made of blocks, a backbones.TokenTransformer or a "
                f"keras.Sequential that ends in one; received {type(teacher).__name__}."
            )
        depth, own = len(transformer.blocks), len(self.encoder.blocks)
        if self.fusion != "mean" and depth != own:
            raise ValueError(
                f"fusion={self.fusion!r} gives each level of the teacher its own block, so both "
                f"have as many: the teacher {transformer.name!r} has {depth}, the student {own}. "
                "fusion='mean' takes any depth."
            )
        if not 1 <= self.levels <= depth:
            raise ValueError(
                f"levels={self.levels!r} is no number of the teacher's {depth} last blocks."
            )
        return range(max(depth - max(self.levels, 2), 0) + 1, depth + 1)

    def idle_variables(self) -> list:
        """Those of the encoder's last norm, which no level has."""
        return self.encoder.norm.trainable_variables

    def make_views(self, batch: Any) -> dict[str, Any]:
        """A view of every image, what is hidden of it, and what the teacher says of the rest."""
        inputs = self.one_view(batch)
        outputs, context = self.target.outputs(inputs), {}
        if self.guided:
            context = {"scores": self.importance(inputs, outputs)}
        plan = self.draw_plan(inputs, self.encoder, **context)
        return {"inputs": inputs, "plan": plan, "levels": self.taught(outputs, plan)}

    def importance(self, inputs: Any, outputs: list) -> Any:
        """Logarithm of how much the teacher's class token attends to patches, `(B, L)`."""
        before = outputs[-2] if len(outputs) > 1 else None
        # Finite where there is no attention at all.
        return ops.log(ops.maximum(self.target.attention(inputs, before), 1e-30))

    def taught(self, outputs: list, plan: MaskPlan) -> list:
        """Whitened levels of the teacher at visible tokens, float32 `(B, e + k, D)`."""
        front, levels = self.target.front, outputs[-self.levels :]
        levels = [front_and_patches(x, front, self.class_tokens, plan.keep) for x in levels]
        return [self.target.features(x) for x in levels]

    def compute_losses(self, views: dict, training: bool) -> dict[str, Any]:
        """How far mixtures of the student's blocks are from the teacher's levels."""
        inputs, plan = views["inputs"], views["plan"]
        states = self.encoder.hidden_states(inputs, plan, self.mask_token, training=training)
        front, both = self.encoder.prefix.count, self.class_tokens
        states = [front_and_patches(x, front, both) for x in states]
        aligned = self.alignment(states, training=training)
        # A strategy may gather tokens that it hides all the same.
        shown = 1.0 - (plan.mask if plan.keep is None else tokens_at(plan.mask, plan.keep))
        weight = ops.pad(shown, ((0, 0), (both, 0)), constant_values=1.0)
        return {
            "alignment": losses.feature_alignment(aligned, views["levels"], weight, kind=self.loss)
        }
