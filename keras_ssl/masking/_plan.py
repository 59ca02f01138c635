# SPDX-License-Identifier: Apache-2.0
"""Which tokens a model sees, as indices of fixed number or as weights."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import keras
from keras import ops

from keras_ssl.core import distribution

# What published codes do to L·(1 - ratio) or L·ratio. Python's floats decide as theirs: 100 tokens
# at 0.9 keep 9, for 1 - 0.9 is less than 0.1.
ROUNDINGS = {
    "floor_visible": lambda tokens, ratio: int(tokens * (1 - ratio)),
    "round_visible": lambda tokens, ratio: round(tokens * (1 - ratio)),
    "floor_hidden": lambda tokens, ratio: tokens - int(tokens * ratio),
    "ceil_hidden": lambda tokens, ratio: tokens - math.ceil(tokens * ratio),
}


class MaskPlan(NamedTuple):
    """What of every sample's L tokens is seen, hidden and asked for.

    A method that replaces tokens needs `mask` only. One that gathers needs indices, whose numbers
    are the same in every batch: k visible ones, the others hidden, q of them decoded.

    Attributes:
        mask: float32 `(B, L)`, 1 where a token is not seen.
        keep: int32 `(B, k)`, the tokens that are gathered, or `None`.
        hidden: int32 `(B, L - k)`, all others, or `None`.
        restore: int32 `(B, L)`, the place of every token in keep followed by hidden, or `None`.
        decode: int32 `(B, q)`, the tokens that are predicted, or `None`; `(B, m, q)` where they are
            m sets, each of which is predicted by itself, see `each_alone`. Then `weight` and
            `asked` have this shape too. Where `keep` is `(B, m, k)` each set has tokens of its own,
            and is encoded by itself; `mask` is `(B, m, L)` and `replaced` `(B, m, k)` then.
        weight: float32 `(B, q)`, how much each counts in the loss; `None` for 1.
        shown: boolean `(B, k)`, which of the gathered tokens may be attended to; `None` for all.
            Without indices `(B, L)`: all tokens stay, and the hidden ones are attended to by none.
        asked: boolean `(B, q)`, the same for the mask tokens of the decoder; `None` for all. Where
            false the token is a seen one or padding: fewer than q are hidden of that sample.
        replaced: boolean `(B, k)`, which gathered tokens the encoder gets as mask tokens; `None`
            for none.
    """

    mask: Any
    keep: Any = None
    hidden: Any = None
    restore: Any = None
    decode: Any = None
    weight: Any = None
    shown: Any = None
    asked: Any = None
    replaced: Any = None

    @property
    def sets(self) -> int:
        """m, the number of sets of tokens that are asked for; 0 where they are none."""
        return 0 if self.decode is None or len(self.decode.shape) == 2 else self.decode.shape[1]

    @property
    def apart(self) -> bool:
        """Whether each set has gathered tokens of its own."""
        return self.keep is not None and len(self.keep.shape) == 3


def visible_count(tokens: int, ratio: float, rounding: str = "floor_visible") -> int:
    """How many tokens stay visible, an integer that is known before any data.

    Args:
        tokens: L, the tokens of a sample.
        ratio: share that is hidden.
        rounding: `"floor_visible"` (MAE: int(L·(1 - ratio)) visible), `"round_visible"` (SparK),
            `"floor_hidden"` (VideoMAE: int(L·ratio) hidden) or `"ceil_hidden"` (SimMIM).

    Returns:
        Number of visible tokens, from 1 to L - 1.

    Raises:
        ValueError: for an unknown rounding, for fewer than 2 tokens, or where none would be visible
            or none hidden.

    Example:
        >>> visible_count(196, 0.75), visible_count(196, 0.985), visible_count(49, 0.6)
        (49, 2, 19)
    """
    if rounding not in ROUNDINGS:
        raise ValueError(f"rounding must be one of {list(ROUNDINGS)}; received {rounding!r}.")
    if tokens < 2:
        raise ValueError(f"hiding some tokens and showing others takes at least 2, not {tokens}.")
    visible = ROUNDINGS[rounding](tokens, ratio)
    if not 0 < visible < tokens:
        kind, other = ("visible", "smaller") if visible <= 0 else ("hidden", "larger")
        raise ValueError(
            f"a mask ratio of {ratio} leaves no {kind} token of {tokens} ({rounding}). Choose a "
            f"{other} ratio, or smaller patches."
        )
    return visible


def plan_of(scores: Any, visible: int) -> MaskPlan:
    """Shows the tokens of lowest score.

    Args:
        scores: float32 `(B, L)`, in float32 whatever the model's precision: half precision has
            ties in almost every row. Equal ones come in the order of the tokens.
        visible: k, number of tokens shown.

    Returns:
        `MaskPlan` whose kept tokens come in the order of their scores and which decodes all
        hidden ones.

    Source: MAE, He et al. 2021, section 3 ("simple implementation").

    Example:
        >>> plan_of(np.array([[0.3, 0.1, 0.2, 0.9]], "float32"), 2).keep
        [[1, 2]]
    """
    order = ops.cast(ops.argsort(ops.cast(scores, "float32"), axis=1), "int32")
    return plan_in_order(order, visible)


def plan_in_order(order: Any, visible: int) -> MaskPlan:
    """Shows the first tokens of a permutation.

    Args:
        order: int32 `(B, L)`, a permutation of the tokens of every sample.
        visible: k, number of tokens shown.

    Returns:
        `MaskPlan` that decodes all others.

    Example:
        >>> plan_in_order(np.array([[2, 0, 3, 1]], "int32"), 1).mask
        [[1.0, 1.0, 0.0, 1.0]]
    """
    restore = ops.cast(ops.argsort(order, axis=1), "int32")
    mask = ops.cast(restore >= visible, "float32")
    keep, hidden = order[:, :visible], order[:, visible:]
    return MaskPlan(mask, keep, hidden, restore, hidden)


class Masking(keras.layers.Layer):
    """What every masking strategy is: a share to hide, and an order in which tokens are hidden.

    A strategy defines `scores`, for plans with indices, or `plan` itself.

    Attributes:
        replaces: whether an encoder needs a mask token for its plans.

    Args:
        ratio: share of hidden tokens.
        rounding: how it becomes a number of tokens, see `visible_count`.
        **kwargs: `name` and `dtype` of `keras.layers.Layer`.

    Call: `masking(tokens, seed=...)` with tokens `(B, g1, …, gd, D)` and an int32 `(2,)` seed gives
    a `MaskPlan`; `plan` needs no tokens.

    Raises:
        ValueError: for a ratio outside (0, 1) or an unknown rounding.

    Example:

    ```python
    class FirstTokens(masking.Masking):
        def scores(self, rows, grid, seed):
            places = ops.arange(math.prod(grid), dtype="float32")
            return ops.tile(places[None], (rows, 1))
    ```
    """

    replaces = False

    def __init__(self, ratio: float = 0.75, rounding: str = "floor_visible", **kwargs: Any):
        super().__init__(**{"dtype": "float32", **kwargs})
        if not 0.0 < ratio < 1.0:
            raise ValueError(
                f"{type(self).__name__} hides a share of the tokens between 0 and 1; received "
                f"ratio={ratio!r}."
            )
        if rounding not in ROUNDINGS:
            raise ValueError(f"rounding must be one of {list(ROUNDINGS)}; received {rounding!r}.")
        self.ratio, self.rounding = float(ratio), rounding
        self.built = True

    def visible(self, grid: Sequence[int], ratio: float | None = None) -> int:
        """Number of tokens of a grid that are shown, of every sample.

        Args:
            grid: tokens on every axis.
            ratio: another share of hidden tokens than the strategy's own.

        Returns:
            An integer that is known before any data.

        Raises:
            ValueError: where none would be shown or none hidden.
        """
        return visible_count(math.prod(grid), self.ratio if ratio is None else ratio, self.rounding)

    def together(self, grid: Sequence[int]) -> int:
        """Number of tokens that are hidden together; that of the visible ones is a multiple."""
        return 1

    def scores(self, rows: Any, grid: Sequence[int], seed: Any) -> Any:
        """float32 `(B, L)`; the tokens of lowest score are shown."""
        raise NotImplementedError(f"{type(self).__name__} must define scores or plan.")

    def plan(self, rows: Any, grid: Sequence[int], seed: Any, **context: Any) -> MaskPlan:
        """Which tokens are shown.

        Args:
            rows: number of rows of this replica; what is drawn is drawn for those of all.
            grid: tokens on every axis.
            seed: int32 `(2,)`, alike on all replicas.
            **context: what a model knows besides: `inputs` (the samples), `step`.

        Returns:
            `MaskPlan`.
        """
        return plan_of(self.scores(rows, grid, seed), self.visible(grid))

    def call(self, inputs: Any, seed: Any) -> MaskPlan:
        """The plan of tokens on their grid."""
        return self.plan(ops.shape(inputs)[0], inputs.shape[1:-1], seed)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {**super().get_config(), "ratio": self.ratio, "rounding": self.rounding}


def uniform(seed: Any, rows: Any, *shape: int) -> Any:
    """Uniform numbers of every row, float32 `(rows, *shape)`."""
    return _known(distribution.uniform_rows(seed, rows, shape), shape)


def normal(seed: Any, rows: Any, *shape: int) -> Any:
    """Standard normal numbers of every row, float32 `(rows, *shape)`."""
    return _known(distribution.normal_rows(seed, rows, shape), shape)


def _known(x: Any, shape: Sequence[int]) -> Any:
    """With its shape known but for the rows, which a draw of an open number of rows forgets."""
    return ops.reshape(x, (-1, *shape))
