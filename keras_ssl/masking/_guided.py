# SPDX-License-Identifier: Apache-2.0
"""Masks that follow a score of the tokens."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
from keras import ops

from keras_ssl.masking._plan import Masking, MaskPlan, plan_of, uniform

SHOWN = ("low", "high")


@keras.saving.register_keras_serializable(package="keras_ssl")
class GuidedMasking(Masking):
    """Shows the tokens that a guide scores highest or lowest, strictly or more often.

    Args:
        guide: layer or function from samples `(B, …)`, as the model gets them, to scores
            `(B, L)`, best in float32: equal ones are shown in the order of the tokens. No gradient
            flows into it; variables of its own should be frozen. `None` where the model knows the
            scores, as one does whose teacher attends to tokens.
        ratio: share of hidden tokens.
        show: `"low"` or `"high"` scores.
        temperature: `None` shows the k highest (lowest). With a number the visible tokens are drawn
            without replacement, each with probability proportional to exp(score / temperature)
            among those that are left, or exp(-score / temperature) for `"low"`; give the logarithm
            of an attention, `"high"` and temperature 1, to draw in proportion to it.
        rounding: how the ratio becomes a number of tokens, see `visible_count`.
        **kwargs: `name` and `dtype` of `keras.layers.Layer`.

    Call: `plan(rows, grid, seed, inputs=samples)`, or with `scores=` in place of a guide's.

    Raises:
        ValueError: for a ratio outside (0, 1), an unknown rounding or end, a temperature that is
            not positive, or scores that do not fit the grid.

    Source: top-k: AttMask, Kakogeorgiou et al. 2022; draws: MaskAlign, Xue et al. 2023, as Gumbel
    top-k (Kool et al. 2019).

    Example:
        >>> masking = GuidedMasking(lambda tokens: keras.ops.var(tokens, axis=-1), show="high")
        >>> masking.plan(8, (16,), distribution.fixed_seed(0), inputs=tokens).keep.shape
        (8, 4)
    """

    def __init__(
        self,
        guide: Callable | keras.Layer | None,
        ratio: float = 0.75,
        show: str = "low",
        temperature: float | None = None,
        rounding: str = "floor_visible",
        **kwargs: Any,
    ):
        super().__init__(ratio, rounding, **kwargs)
        if show not in SHOWN or (temperature is not None and temperature <= 0):
            raise ValueError(
                f"GuidedMasking shows {SHOWN} scores at a temperature above 0 or None; received "
                f"show={show!r}, temperature={temperature!r}."
            )
        if guide is not None and not callable(guide):
            raise ValueError(f"guide is a layer or a function of samples; received {guide!r}.")
        self.guide, self.show, self.temperature = guide, show, temperature

    def plan(self, rows: Any, grid: Sequence[int], seed: Any, **context: Any) -> MaskPlan:
        """Which tokens are shown, by `inputs`, the samples, or `scores`; see `Masking.plan`."""
        needed = "scores" if self.guide is None else "inputs"
        found = context.get(needed)
        if found is None:
            what = "the scores of the tokens" if self.guide is None else "the samples"
            raise ValueError(f"GuidedMasking needs {what}: plan(rows, grid, seed, {needed}=...).")
        scores = found if self.guide is None else self.guide(found)
        scores = ops.cast(ops.stop_gradient(scores), "float32")
        tokens = math.prod(grid)
        if len(scores.shape) != 2 or scores.shape[1] != tokens:
            raise ValueError(
                f"the guide must give a score for each of {tokens} tokens, (batch, {tokens}); it "
                f"gives {tuple(scores.shape)}."
            )
        scores = -scores if self.show == "high" else scores
        if self.temperature is not None:
            noise = ops.clip(uniform(seed, rows, tokens), 1e-7, 1.0 - 1e-7)
            # Gumbel noise, its sign turned as that of the scores.
            scores = scores / self.temperature + ops.log(-ops.log(noise))
        return plan_of(scores, self.visible(grid))

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        guide = self.guide
        own = {
            "guide": None if guide is None else keras.saving.serialize_keras_object(guide),
            "show": self.show,
            "temperature": self.temperature,
        }
        return {**super().get_config(), **own}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> GuidedMasking:
        """Builds the layer from `get_config`."""
        config = dict(config)
        guide = config.pop("guide")
        return cls(
            None if guide is None else keras.saving.deserialize_keras_object(guide), **config
        )


@keras.saving.register_keras_serializable(package="keras_ssl")
def predecessor_similarity(samples: Any, first: float = 0.0) -> Any:
    """How alike every vector of a sequence is to the one before it, a guide for `GuidedMasking`.

    Showing low scores shows where something changes.

    Args:
        samples: `(B, L, D)` float; or `{"vectors": (B, L, D), "real": (B, L)}`, real true where a
            vector is no padding.
        first: score of the first vector, which has no predecessor. The released code's 0 shows it
            unless as many as are shown differ by more than a right angle from their predecessors;
            a number below -1 shows it always.

    Returns:
        float32 `(B, L)`, the cosines; infinite for padding, which low scores therefore leave out.

    Source: LV-MAE, Naiman et al. 2025, importance masking; released code (amazon-science/lv-mae).

    Example:
        >>> masking = GuidedMasking(predecessor_similarity, 0.5, show="low")
        >>> masking.plan(8, (16,), distribution.fixed_seed(0), inputs=vectors).keep.shape
        (8, 8)
    """
    padded = isinstance(samples, Mapping)
    vectors = ops.cast(samples["vectors"] if padded else samples, "float32")
    unit = ops.normalize(vectors, axis=-1)
    cosines = ops.sum(unit[:, 1:] * unit[:, :-1], axis=-1)
    scores = ops.pad(cosines, ((0, 0), (1, 0)), constant_values=first)
    real = samples.get("real") if padded else None
    return scores if real is None else ops.where(ops.cast(real, "bool"), scores, math.inf)
