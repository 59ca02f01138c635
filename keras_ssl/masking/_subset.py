# SPDX-License-Identifier: Apache-2.0
"""Plans that ask for a part of what is hidden, or know that some tokens are padding."""

from __future__ import annotations

from typing import Any

from keras import ops

from keras_ssl.masking._plan import ROUNDINGS, MaskPlan, visible_count
from keras_ssl.tokens import tokens_at


def decode_part(plan: MaskPlan, share: float) -> MaskPlan:
    """Asks for the first ones of the hidden tokens.

    Args:
        plan: with indices; where hidden tokens come in random order the part is random.
        share: of the hidden tokens, rounded down; of those of every sample, but at least one, where
            their numbers differ.

    Returns:
        The plan with fewer tokens in `decode`.

    Raises:
        ValueError: for a share outside (0, 1], or one that leaves no token.

    Example:
        >>> plan = RandomMasking(0.75).plan(8, (16,), distribution.fixed_seed(0))
        >>> decode_part(plan, 0.5).decode.shape
        (8, 6)
    """
    count = 0 if plan.decode is None else int(plan.decode.shape[1] * share)
    if not 0.0 < share <= 1.0 or not count:
        raise ValueError(
            f"decode={share!r} is no share of the hidden tokens that leaves at least one; a "
            "masking without indices decodes all."
        )
    decode, weight, asked = (
        None if x is None else x[:, :count] for x in (plan.decode, plan.weight, plan.asked)
    )
    if asked is not None:
        numbers = ops.sum(ops.cast(plan.asked, "float32"), axis=1, keepdims=True)
        limit = ops.maximum(ops.floor(numbers * share + 1e-4), 1.0)
        early = ops.arange(count, dtype="float32")[None] < limit
        asked = ops.logical_and(asked, early)
        weight = ops.cast(asked, "float32") * (1.0 if weight is None else weight)
    return plan._replace(decode=decode, weight=weight, asked=asked)


def decode_of(plan: MaskPlan, other: MaskPlan) -> MaskPlan:
    """Asks for the tokens that another plan shows; those that were seen anyhow do not count.

    Args:
        plan: of the encoder, with indices.
        other: of the decoder, with indices.

    Returns:
        The plan with the other's visible tokens in `decode`.

    Raises:
        ValueError: for a plan without indices.

    Source: VideoMAE V2, Wang et al. 2023, section 3.2 (dual masking).

    Example:
        >>> seed, grid = distribution.fixed_seed(0), (8, 14, 14)
        >>> plan = TubeMasking(0.9).plan(4, grid, seed)
        >>> decode_of(plan, RunningCellMasking(0.5).plan(4, grid, seed)).decode.shape
        (4, 784)
    """
    if plan.keep is None or other.keep is None:
        raise ValueError("decode_of needs plans with indices; a masking without them decodes all.")
    ids = other.keep
    weight, asked = tokens_at(plan.mask, ids), None
    if plan.shown is not None and plan.asked is not None:
        # What is neither seen nor asked for is padding, and stands behind everything else.
        flags = (ops.sum(ops.cast(x, "int32"), axis=1) for x in (plan.shown, plan.asked))
        asked = tokens_at(plan.restore, ids) < ops.expand_dims(sum(flags), 1)
        weight = weight * ops.cast(asked, "float32")
    return plan._replace(decode=ids, weight=weight, asked=asked)


def each_alone(plan: MaskPlan) -> MaskPlan:
    """A row for each set of tokens that is asked for, in place of one for each sample.

    Args:
        plan: whose `decode` is `(B, m, q)`; another is given back as it is. Whatever else is of m
            sets is cut likewise, and what all sets share is repeated.

    Returns:
        The plan of B · m rows, those of a sample one after the other; `ops.repeat(x, m, axis=0)`
        makes as many of anything else.

    Example:
        >>> plan = MultiBlockMasking(4).plan(8, (14, 14), distribution.fixed_seed(0))
        >>> each_alone(plan).decode.shape
        (32, 40)
    """
    if not plan.sets:
        return plan

    def rows(x: Any) -> Any:
        if x is None:
            return None
        if len(x.shape) == 3:
            return ops.reshape(x, (-1, x.shape[-1]))
        return ops.repeat(x, plan.sets, axis=0)

    return MaskPlan(*(rows(x) for x in plan))


def asked_of(x: Any, plan: MaskPlan) -> Any:
    """What tokens have that are asked for.

    Args:
        x: `(B, L, P)` or `(B, L)` of all tokens.
        plan: with indices.

    Returns:
        `(B, q, P)` or `(B, q)`; of m sets `(B · m, q, P)` or `(B · m, q)`, in the rows of
        `each_alone`.
    """
    ids, shape = plan.decode, plan.decode.shape
    if len(shape) == 2:
        return tokens_at(x, ids)
    found = tokens_at(x, ops.reshape(ids, (-1, shape[1] * shape[2])))
    return ops.reshape(found, (-1, shape[2], *found.shape[2:]))


def only_real(plan: MaskPlan, real: Any, ratio: float, rounding: str = "floor_visible") -> MaskPlan:
    """The plan of padded samples: a share of every sample's own tokens is hidden.

    Nobody attends to padding, and none is predicted. As many tokens are gathered as the longest
    possible sample shows; what is more than a shorter one's share is not attended to either.

    Args:
        plan: with indices, which decide the order in which tokens are hidden.
        real: `(B, L)`, true where a token is no padding.
        ratio: share of hidden tokens of every sample; at least one stays visible.
        rounding: how it becomes a number of tokens of a sample's own length, see `visible_count`.

    Returns:
        `MaskPlan` that says which gathered and which decoded tokens count; hidden ones first among
        the latter.

    Raises:
        ValueError: for a plan without indices, an unknown rounding, or a ratio that leaves nothing
            of a whole sample visible or hidden.

    Source: LV-MAE, Naiman et al. 2025, section 3 (videos of different lengths); counts that are the
    same in every batch are ours.

    Example:
        >>> plan = RandomMasking(0.5).plan(2, (4,), distribution.fixed_seed(0))
        >>> plan = only_real(plan, np.array([[1, 1, 1, 1], [1, 1, 0, 0]]), 0.5)
        >>> plan.shown
        [[True, True], [True, False]]
    """
    if plan.keep is None:
        raise ValueError("only_real needs a plan with indices, whose order decides.")
    order = ops.concatenate([plan.keep, plan.hidden], axis=1)
    tokens = order.shape[1]
    visible = visible_count(tokens, ratio, rounding)
    real = ops.cast(ops.cast(real, "bool"), "int32")
    rank = ops.arange(tokens, dtype="int32")[None]
    # Padding behind everything else, otherwise the order stays.
    order = tokens_at(
        order, ops.cast(ops.argsort(rank + tokens * (1 - tokens_at(real, order))), "int32")
    )
    lengths = ops.sum(real, axis=1, keepdims=True)
    # Of every length as Python counts it: float32 would now and then show one token more.
    counts = [max(ROUNDINGS[rounding](length, ratio), 1) for length in range(tokens + 1)]
    shown = ops.take(ops.convert_to_tensor(counts, dtype="int32"), lengths, axis=0)
    restore = ops.cast(ops.argsort(order, axis=1), "int32")
    decode, place = behind(order, shown, tokens - visible)
    asked = place < lengths
    return MaskPlan(
        mask=ops.cast(restore >= shown, "float32"),
        keep=order[:, :visible],
        hidden=order[:, visible:],
        restore=restore,
        decode=decode,
        weight=ops.cast(asked, "float32"),
        shown=(rank < shown)[:, :visible],
        asked=asked,
    )


def behind(order: Any, shown: Any, count: int) -> tuple[Any, Any]:
    """The tokens that follow the shown ones in an order; where it ends, it starts again.

    Args:
        order: int32 `(B, L)`, a permutation of the tokens of every sample.
        shown: int32 `(B, 1)`, how many of them are shown.
        count: number of tokens to take.

    Returns:
        The tokens and their places in the order, int32 `(B, count)`; places from L on are no more
        hidden ones.
    """
    tokens = order.shape[1]
    place = shown + ops.arange(count, dtype="int32")[None]
    return tokens_at(order, ops.mod(place, tokens)), place
