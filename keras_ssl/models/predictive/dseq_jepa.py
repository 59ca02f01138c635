# SPDX-License-Identifier: Apache-2.0
"""DSeq-JEPA."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import keras
from keras import ops

from keras_ssl.backbones import TokenTransformer
from keras_ssl.core import distribution, register
from keras_ssl.masking import MaskPlan, each_alone, region_plan, region_sequence, salient_regions
from keras_ssl.models.predictive.ijepa import IJEPA

# Tells the draws of regions of a step from its blocks.
REGIONS = 7004


@register(
    paper="DSeq-JEPA: Discriminative Sequential Joint-Embedding Predictive Architecture",
    year=2025,
    family="joint-embedding prediction",
    modality="image",
    needs=("teacher", "vision transformer"),
)
class DSeqJEPA(IJEPA):
    """I-JEPA that predicts region after region, from the most salient one outwards.

    What stands out is told by the teacher: how much the patches of an inner block agree with its
    class token. Connected regions above a threshold come in the order of their saliency, and
    everything else is the last; each is predicted from all before it. A step asks for regions or
    for I-JEPA's blocks, by chance.

    Args:
        encoder: a `backbones.VisionTransformer` with a class token and `pooling="mean"`.
        masking: I-JEPA's blocks, as `IJEPA`.
        predictor: `(width, depth, heads)` of a `tokens.TransformerDecoder`, or a layer.
        regions: number of regions, the last included.
        least: share of the patches that a region has at least; smaller ones belong to the last.
        sequence: probability of a step with regions, a float or a schedule of the optimizer's step;
            in the paper it rises from 0 to 1 in a straight line over the run. Between 0 and 1 both
            losses are computed, and one of them counts.
        block: of the teacher, whose patches are compared, from 1; None for the last but one.
        context: share of the patches that is gathered of what is seen of regions, at random where
            there are more.
        predicted: the same of the region that is predicted.
        momentum: share of the old teacher, a float or a schedule of the optimizer's step.
        **kwargs: other arguments of `IJEPA`, `seed`, `name`, `dtype`.

    Raises:
        ValueError: for an encoder without a class token, fewer than two regions, shares out of
            bounds, or as `IJEPA`.

    Source: DSeq-JEPA, 2025, section 3; the released code (SkyShunsuke/DSeq-JEPA), but as the paper
    describes it: the context of a region are all before it, the predictor sees the context and not
    what it is to predict, and mask tokens stand for the rest.

    Example:

    ```python
    encoder = backbones.VisionTransformer("tiny", (32, 32, 3), patch=4, pooling="mean")
    ramp = schedules.LinearWarmup(0.0, 1.0, steps=100_000)
    model = DSeqJEPA(encoder, predictor=(96, 4, 3), sequence=ramp)
    model.compile(optimizers.AdamW(8e-4, weight_decay=0.04))
    model.fit(dataset)
    ```
    """

    def __init__(
        self,
        encoder: TokenTransformer,
        masking: keras.Layer | None = None,
        predictor: Sequence[int] | keras.Layer = (192, 6, 12),
        regions: int = 5,
        least: float = 0.15,
        sequence: float | Callable = 0.5,
        block: int | None = None,
        context: float = 0.6,
        predicted: float = 0.75,
        momentum: float | Callable = 0.996,
        **kwargs: Any,
    ):
        super().__init__(encoder, masking, predictor, momentum, **kwargs)
        depth = len(encoder.blocks)
        self.block = max(depth - 1, 1) if block is None else int(block)
        shares = {"least": least, "context": context, "predicted": predicted}
        wrong = regions < 2 or not 1 <= self.block <= depth
        if wrong or not all(0.0 < share <= 1.0 for share in shares.values()):
            raise ValueError(
                f"DSeqJEPA needs at least 2 regions, a block of the encoder's {depth} and shares "
                f"in (0, 1]; received regions={regions}, block={block}, {shares}."
            )
        if not encoder.prefix.class_token:
            raise ValueError(
                "DSeqJEPA compares patches with the class token; give a "
                'backbones.VisionTransformer with class_token=True and pooling="mean".'
            )
        self.regions, self.least, self.sequence = int(regions), float(least), sequence
        self.context, self.predicted = float(context), float(predicted)

    def make_views(self, batch: Any) -> dict[str, Any]:
        """A view, its blocks, and the teacher's latents and regions of it."""
        views, seed = super().make_views(batch), distribution.fold_in(self.draw_seed(), REGIONS)
        network, last = self.target.transformer, len(self.encoder.blocks)
        wanted = sorted({self.block, last})
        states = network.hidden_states(views["inputs"], blocks=wanted)
        views["latents"] = self.target.features(network.norm(states[-1]))
        draw = distribution.uniform_batch(distribution.fold_in(seed, 0), (1,))[0]
        views["chosen"] = ops.cast(draw < self.now(self.sequence), "float32")
        views["regions"] = self.region_plan(states[0], distribution.fold_in(seed, 1))
        return views

    def saliency(self, tokens: Any) -> Any:
        """How much patches agree with the teacher's class token, `(B, L)`, of a block's tokens."""
        network, width = self.target.transformer, self.encoder.width
        patches = ops.cast(network.norm(tokens), "float32")[:, network.prefix.count :]
        question = ops.cast(network.prefix.tokens[0], "float32")[0, 0]
        return ops.sum(patches * question, axis=-1) * width**-0.5

    def region_plan(self, tokens: Any, seed: Any) -> MaskPlan:
        """A row for each region but the first: what is seen, and what is predicted of it."""
        grid = self.encoder.grid
        regions = salient_regions(self.saliency(tokens), grid, self.regions, self.least)
        seen, asked = region_sequence(regions)
        return region_plan(seen, asked, seed, self.context, self.predicted)

    def compute_losses(self, views: dict, training: bool) -> dict[str, Any]:
        """The error of predicted regions, or that of predicted blocks."""
        constant = None if callable(self.sequence) else self.sequence
        chosen, total = views["chosen"], 0.0
        if constant != 1.0:
            blocks = self.predicted_blocks(views, training)
            total += blocks if constant == 0.0 else (1.0 - chosen) * blocks
        if constant != 0.0:
            parts = self.predicted_regions(views, training)
            total += parts if constant == 1.0 else chosen * parts
        return {"prediction": total}

    def predicted_blocks(self, views: dict, training: bool) -> Any:
        """The error of I-JEPA's blocks."""

        def latents(inputs: Any, training: bool) -> Any:
            return views["latents"]

        parts = (self.encoder, self.predictor, latents)
        return self.terms(views["inputs"], views["plan"], *parts, training)["prediction"]

    def predicted_regions(self, views: dict, training: bool) -> Any:
        """The error of all regions of the batch, every patch weighing the same."""
        plan, times = views["regions"], self.regions - 1
        inputs, latents = (ops.repeat(views[n], times, axis=0) for n in ("inputs", "latents"))
        encoded = self.encode(inputs, plan, training)
        grid = self.encoder.grid_of(inputs)
        made = self.predictor(encoded, plan=each_alone(plan), grid=grid, training=training)
        return self.compared(made, latents, plan)
