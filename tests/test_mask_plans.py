# SPDX-License-Identifier: Apache-2.0
"""Plans of masks: counts, draws, structure, and what may be asked of a plan."""

import functools
import itertools
import math
from collections import Counter
from typing import NamedTuple

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import ops
from scipy import stats
from strategies import run_on

from keras_ssl import masking, schedules
from keras_ssl.core import distribution

SEED = distribution.fixed_seed(5)
COLOURS = ("red", "blue", "green", "purple")


@keras.saving.register_keras_serializable("tests")
def first_feature(samples):
    x = samples[..., 0]
    return ops.reshape(x, (-1, math.prod(x.shape[1:])))


def ramp():
    return schedules.LinearWarmup(0.4, 0.8, 10)


class Case(NamedTuple):
    """A strategy, its grid, how many tokens are gathered, and whether the seed decides anything."""

    make: object
    grid: tuple
    visible: int
    random: bool = True


M = masking
# Most draw sixteen numbers a row: a compiled draw of another shape costs half a second.
CASES = {
    "random": Case(lambda: M.RandomMasking(0.75), (4, 4), 4),
    "groups": Case(lambda: M.GroupedMasking((2, 2), 0.6), (8, 8), 24),
    "tubes": Case(lambda: M.TubeMasking(0.75), (3, 4, 4), 12),
    "running cells": Case(lambda: M.RunningCellMasking(0.5), (3, 4, 4), 24),
    "spans": Case(lambda: M.SpanMasking(4, 0.5), (19,), 9),
    "guided": Case(lambda: M.GuidedMasking(first_feature, 0.5, "high"), (16,), 8, False),
    "drawn": Case(lambda: M.GuidedMasking(first_feature, 0.5, temperature=1.0), (16,), 8),
    "exact blocks": Case(lambda: M.BlockMasking((0.1, 0.4), attempts=12, exact=True), (7, 7), 30),
    "exact inverse": Case(lambda: M.InverseBlockMasking((0.1, 0.6), exact=True), (7, 7), 20),
    "schedule": Case(
        lambda: M.ScheduledMasking(M.RandomMasking(), ramp(), 0.5, 0.9, "ignore"), (4, 4), 8
    ),
    "mixing": Case(lambda: M.PatchMixing(2), (4, 4), 8),
    "random ratio": Case(
        lambda: M.ScheduledMasking(M.GroupedMasking((2, 2)), (0.6, 0.2), 0.3, 0.8), (8, 8), 44
    ),
    "blocks": Case(lambda: M.BlockMasking((0.1, 0.4), 1.0, attempts=12), (7, 7), 30),
    "inverse": Case(lambda: M.InverseBlockMasking((0.1, 0.6), 1.0), (7, 7), 20),
    "multi blocks": Case(lambda: M.MultiBlockMasking(2, least=4, attempts=2), (7, 7), 24),
    "multi tubes": Case(
        lambda: M.MultiTubeMasking(2, (0.3, 0.4), frames=(0.5, 1.0), attempts=2), (4, 4, 4), 32
    ),
    "runs": Case(lambda: M.ContiguousMasking((0.3, 0.5), 3), (20,), 10),
} | {color: Case(lambda color=color: M.ColoredMasking(color, 0.75), (4, 4), 4) for color in COLOURS}
WITHOUT_INDICES = ("blocks", "inverse")
SCHEDULED = ("schedule", "random ratio")
# Sets of tokens are asked for, and contexts are filled up.
SETS = ("multi blocks", "multi tubes", "runs")
EVERY = pytest.mark.parametrize("name", list(CASES))


def samples(name, rows):
    shape = (rows, *CASES[name].grid, 2)
    return np.random.default_rng(1).normal(size=shape).astype("float32")


def drawn(name, rows=8, seed=SEED, layer=None, inputs=None, step=7):
    layer = CASES[name].make() if layer is None else layer
    inputs = samples(name, rows) if inputs is None else inputs
    return layer.plan(rows, CASES[name].grid, seed, inputs=inputs, step=step)


@functools.cache
def plain(name):
    """The plan of the strategy as it is."""
    return drawn(name)


def arrays(plan):
    """The fields of a plan that are there."""
    return {k: np.asarray(v) for k, v in plan._asdict().items() if v is not None}


def same(one, other):
    one, other = arrays(one), arrays(other)
    return one.keys() == other.keys() and all(np.array_equal(one[k], other[k]) for k in one)


def close(frequencies, probabilities, rows):
    """Whether frequencies are within 4.5 standard errors of probabilities."""
    error = np.sqrt(probabilities * (1.0 - probabilities) / rows)
    return np.all(np.abs(frequencies - probabilities) <= 4.5 * error)


# --- what every plan is -------------------------------------------------------------------------


def check_plan(name, plan):
    case, found = CASES[name], arrays(plan)
    tokens, rows = math.prod(case.grid), len(found["mask"])
    assert found["mask"].shape == (rows, tokens) and found["mask"].dtype == "float32"
    assert set(np.unique(found["mask"])) <= {0.0, 1.0}
    if name in WITHOUT_INDICES:
        assert found.keys() == {"mask"}
        return
    for key in ("keep", "hidden", "restore", "decode"):
        assert found[key].dtype == "int32"
    assert found["keep"].shape == (rows, case.visible)
    order = np.concatenate([found["keep"], found["hidden"]], axis=1)
    assert np.array_equal(np.sort(order, axis=1), np.tile(np.arange(tokens), (rows, 1)))
    assert np.array_equal(np.argsort(order, axis=1), found["restore"])
    hidden_of_kept = np.take_along_axis(found["mask"], found["keep"], 1)
    assert np.all(np.take_along_axis(found["mask"], found["hidden"], 1) == 1.0)
    if name not in (*SCHEDULED, *SETS):
        assert np.all(hidden_of_kept == 0.0)
        assert np.array_equal(found["decode"], found["hidden"])
        assert found.keys() == {"mask", "keep", "hidden", "restore", "decode"}


@EVERY
def test_a_plan_parts_the_tokens_and_its_numbers_are_known(name):
    case, layer = CASES[name], CASES[name].make()
    check_plan(name, plain(name))
    assert type(layer.visible(case.grid)) is int and layer.visible(case.grid) == case.visible
    assert layer.replaces == (name in (*WITHOUT_INDICES, "random ratio"))


# The others are among these, or compiled by the tests of their own files.
@pytest.mark.parametrize(
    "name",
    [
        # These are random masks of whole groups.
        pytest.param(name, marks=[pytest.mark.slow] * (name in ("groups", "tubes", "purple")))
        for name in sorted({*CASES} - {"blue", "green", *WITHOUT_INDICES})
    ],
)
def test_it_compiles_to_the_same_once_and_knows_its_shapes(name):
    case, layer = CASES[name], CASES[name].make()
    traces = []

    @tf.function(
        jit_compile=True,
        autograph=False,
        input_signature=[
            tf.TensorSpec((2,), "int32"),
            tf.TensorSpec((None, *case.grid, 2)),
            tf.TensorSpec((), "int64"),
        ],
    )
    def compiled(seed, inputs, step):
        plan = layer.plan(tf.shape(inputs)[0], case.grid, seed, inputs=inputs, step=step)
        # Known before any data, although the number of rows is not.
        traces.append({k: v.shape[1] for k, v in plan._asdict().items() if v is not None})
        return plan

    inputs = samples(name, 8)
    for number in range(50):
        plan = compiled(distribution.fixed_seed(number), inputs, number)
        if number in (0, 49):
            seed = distribution.fixed_seed(number)
            assert same(plan, drawn(name, 8, seed, layer, inputs, number))
    assert len(traces) == 1 and all(type(count) is int for count in traces[0].values())


@EVERY
def test_samples_differ_and_a_seed_decides(name):
    plan = plain(name)
    masks = {row.tobytes() for row in np.asarray(plan.mask)}
    assert len(masks) >= (2 if name == "running cells" else 6)
    assert same(plan, drawn(name))
    other = drawn(name, seed=distribution.fixed_seed(6))
    assert np.array_equal(plan.mask, other.mask) == (not CASES[name].random)


@EVERY
@pytest.mark.parametrize("replicas", [2, 4])
def test_every_strategy_draws_for_all_replicas(name, replicas, monkeypatch):
    # As on replicas, without their cost: a compiled draw for each of them.
    layer, inputs = CASES[name].make(), samples(name, 8)
    want, parts = arrays(plain(name)), []
    monkeypatch.setattr(distribution, "replica_count", lambda: replicas)
    for replica, own in enumerate(np.split(inputs, replicas)):
        monkeypatch.setattr(distribution, "replica_id", lambda replica=replica: replica)
        parts.append(arrays(drawn(name, len(own), layer=layer, inputs=own)))
    for key, array in want.items():
        assert np.array_equal(np.concatenate([part[key] for part in parts]), array), key


@pytest.mark.parametrize("replicas", [2, pytest.param(4, marks=pytest.mark.slow)])
def test_replicas_mask_the_rows_of_the_global_batch(replicas):
    names = ("red", "random ratio")
    layers = {name: CASES[name].make() for name in names}

    def local(*inputs):
        return [
            drawn(name, tf.shape(own)[0], SEED, layers[name], own).mask
            for name, own in zip(names, inputs, strict=True)
        ]

    parts = run_on(replicas, local, *(samples(name, 8) for name in names))
    for index, name in enumerate(names):
        got = np.concatenate([part[index] for part in parts])
        assert np.array_equal(got, plain(name).mask), name


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_half_precision_changes_nothing(policy):
    want = {name: plain(name) for name in CASES}
    keras.config.set_dtype_policy(policy)
    for name, plan in want.items():
        layer = CASES[name].make()
        assert same(drawn(name, layer=layer), plan), name
        half = ops.cast(samples(name, 8), policy.removeprefix("mixed_"))
        if name not in ("guided", "drawn"):
            context = {"step": 7} if name in SCHEDULED else {}
            assert same(layer(half, seed=SEED, **context), plan), name


def test_scores_are_told_apart_in_half_precision():
    # All the same in half precision, where the first tokens would be shown always.
    keras.config.set_dtype_policy("mixed_bfloat16")
    order = np.random.default_rng(0).permutation(200)[None]
    scores = (0.5 + 2.0**-23 * np.argsort(order, axis=1)).astype("float32")
    assert np.array_equal(masking.plan_of(scores, 50).keep, order[:, :50])


class Holder(keras.Model):
    """A model with strategies."""

    def __init__(self, strategies, **kwargs):
        super().__init__(**kwargs)
        self.strategies = strategies
        self.built = True

    def get_config(self):
        parts = [keras.saving.serialize_keras_object(layer) for layer in self.strategies]
        return {**super().get_config(), "strategies": parts}

    @classmethod
    def from_config(cls, config):
        config = dict(config)
        parts = [keras.saving.deserialize_keras_object(part) for part in config.pop("strategies")]
        return cls(parts, **config)


@EVERY
def test_a_config_gives_the_same_strategy(name):
    layer = CASES[name].make()
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(layer))
    assert type(again) is type(layer) and again.get_config() == layer.get_config()
    assert same(drawn(name, layer=again), plain(name))


def test_strategies_are_saved_with_a_model_guides_with_their_weights(tmp_path):
    guide = keras.Sequential(
        [keras.Input((16, 2)), keras.layers.Dense(1), keras.layers.Flatten()], name="guide"
    )
    learned = M.GuidedMasking(guide, 0.5, temperature=0.5)
    model = Holder([case.make() for case in CASES.values()] + [learned])
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(
        tmp_path / "model.keras", custom_objects={"Holder": Holder}, compile=False
    )
    for name, layer in zip(CASES, again.strategies, strict=False):
        assert same(drawn(name, layer=layer), plain(name))
    want = drawn("guided", layer=learned)
    assert same(drawn("guided", layer=again.strategies[-1]), want)
    guide.set_weights([-weight for weight in guide.get_weights()])
    assert not same(drawn("guided", layer=learned), want)


# --- how many -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("tokens", "ratio", "rounding", "visible"),
    [
        (196, 0.75, "floor_visible", 49),
        (196, 0.9, "floor_visible", 19),
        (196, 0.985, "floor_visible", 2),
        # 10 on paper.
        (100, 0.9, "floor_visible", 9),
        (100, 0.9, "round_visible", 10),
        (49, 0.6, "round_visible", 20),
        (49, 0.6, "floor_visible", 19),
        (49, 0.6, "ceil_hidden", 19),
        (36, 0.6, "ceil_hidden", 14),
        (36, 0.6, "floor_hidden", 15),
        (196, 0.9, "floor_hidden", 20),
    ],
)
def test_named_roundings(tokens, ratio, rounding, visible):
    assert masking.visible_count(tokens, ratio, rounding) == visible
    assert M.RandomMasking(ratio, rounding).visible((tokens,)) == visible


def test_counts_of_published_settings():
    assert M.TubeMasking(0.9).visible((8, 14, 14)) == 8 * (196 - 176) == 160
    assert M.RunningCellMasking(0.5).visible((8, 14, 14)) == 784
    # 32 pixels of 192: 6 x 6 groups, 22 of them hidden, of 8 x 8 patches of 4.
    assert M.GroupedMasking((8, 8), 0.6).visible((48, 48)) == 14 * 64
    assert M.RandomMasking(0.75).visible((8, 14, 14), ratio=0.9) == 156


GRID = (4, 4)
WRONG = {
    "ratio 0": (lambda: M.RandomMasking(0.0), "between 0 and 1"),
    "ratio 1": (lambda: M.ColoredMasking(ratio=1.0), "ColoredMasking hides a share"),
    "nothing visible": (lambda: M.RandomMasking(0.95).visible(GRID), "no visible token of 16"),
    "nothing hidden": (
        lambda: M.RandomMasking(0.02, "round_visible").visible(GRID),
        "no hidden token of 16",
    ),
    "one token": (lambda: masking.visible_count(1, 0.5), "at least 2"),
    "rounding": (lambda: M.RandomMasking(0.5, "up"), "rounding must be one of"),
    "no group visible": (
        lambda: M.GroupedMasking((2, 2), 0.8).visible(GRID),
        "no visible token of 4",
    ),
    "groups that do not tile": (lambda: M.GroupedMasking((3, 3)).visible(GRID), "do not tile"),
    "groups of two axes": (lambda: M.GroupedMasking((2, 2)).visible((4,)), "do not tile"),
    "empty group": (lambda: M.GroupedMasking((0, 2)), "at least 1"),
    "color": (lambda: M.ColoredMasking("pink"), "color must be one of"),
    "sigmas": (lambda: M.ColoredMasking(sigmas=(2.0, 1.0)), "two rising widths"),
    "tubes of planes": (lambda: M.TubeMasking().visible(GRID), "frames, rows, columns"),
    "all of a cell": (lambda: M.RunningCellMasking(0.2), "no hidden token of 4"),
    "cells that do not tile": (lambda: M.RunningCellMasking().visible((2, 3, 4)), "do not tile"),
    "empty cell": (lambda: M.RunningCellMasking(cell=(2, 0)), "at least 1"),
    "long spans": (lambda: M.SpanMasking(16).visible((16,)), "spans of 16"),
    "spans of planes": (lambda: M.SpanMasking(2).visible(GRID), "spans of 2"),
    "empty spans": (lambda: M.SpanMasking(0), "at least 1"),
    "end": (lambda: M.GuidedMasking(first_feature, show="most"), "'low', 'high'"),
    "cold": (lambda: M.GuidedMasking(first_feature, temperature=0.0), "temperature above 0"),
    "no guide": (lambda: M.GuidedMasking("attention"), "a layer or a function"),
    "no samples": (lambda: M.GuidedMasking(first_feature).plan(2, GRID, SEED), "needs the samples"),
    "other samples": (
        lambda: M.GuidedMasking(first_feature).plan(2, GRID, SEED, inputs=np.zeros((2, 3, 1))),
        r"a score for each of 16 tokens",
    ),
    "falling ratios": (
        lambda: M.ScheduledMasking(M.RandomMasking(), ramp(), 0.9, 0.5),
        "0 < least < most < 1",
    ),
    "rest": (lambda: M.ScheduledMasking(M.RandomMasking(), ramp(), rest="drop"), "'replace'"),
    "deviation": (lambda: M.ScheduledMasking(M.RandomMasking(), (0.5, 0.0)), "deviation above 0"),
    "no order": (lambda: M.ScheduledMasking(M.BlockMasking(), ramp()), "BlockMasking"),
    "nothing to schedule": (
        lambda: M.ScheduledMasking(M.RandomMasking(), ramp(), 0.6, 0.7).visible((4,)),
        "nothing to schedule",
    ),
    "blocks of all": (lambda: M.BlockMasking((0, 1), exact=True).visible(GRID), "no visible token"),
    "blocks of none": (
        lambda: M.InverseBlockMasking((0, 0.05), exact=True).plan(2, GRID, SEED),
        "no hidden token",
    ),
    "blocks of videos": (lambda: M.BlockMasking().draw(2, (2, 4, 4), SEED), r"\(rows, columns\)"),
    "part of nothing": (
        lambda: masking.decode_part(drawn("random"), 0.08),
        "leaves at least one",
    ),
    "part of no indices": (
        lambda: masking.decode_part(drawn("blocks"), 0.5),
        "decodes all",
    ),
    "other of no indices": (
        lambda: masking.decode_of(drawn("random"), drawn("blocks")),
        "with indices",
    ),
    "no order of real tokens": (
        lambda: masking.only_real(drawn("blocks"), np.ones((8, 49)), 0.5),
        "with indices",
    ),
    "no strategy": (lambda: M.Masking().plan(2, GRID, SEED), "must define scores or plan"),
}


@pytest.mark.parametrize("name", list(WRONG))
def test_what_cannot_be_is_said(name):
    make, words = WRONG[name]
    with pytest.raises(ValueError if name != "no strategy" else NotImplementedError, match=words):
        make()


# --- orders and scores --------------------------------------------------------------------------


def test_lowest_scores_are_shown_and_ties_in_the_order_of_the_tokens():
    scores = np.array([[0.5, 0.1, 0.5, 0.1, 0.9, 0.1], [3, 2, 1, 0, -1, -2]], "float32")
    want = [[1, 3, 5], [5, 4, 3]], [[0, 2, 4], [2, 1, 0]]
    for function in (masking.plan_of, tf.function(masking.plan_of, jit_compile=True)):
        plan = function(scores, 3)
        assert np.asarray(plan.keep).tolist() == want[0]
        assert np.asarray(plan.hidden).tolist() == want[1]
    many = np.repeat(np.arange(7, dtype="float32"), 50)[None]
    keep = tf.function(masking.plan_of, jit_compile=True)(many, 340).keep
    assert np.array_equal(np.asarray(keep)[0], np.arange(340))


# --- how often a token is hidden ----------------------------------------------------------------

MANY = 4000
# What every token must be hidden with.
EVEN = {
    "random": 12 / 16,
    "groups": 10 / 16,
    "tubes": 12 / 16,
    "running cells": 0.5,
    "exact inverse": 29 / 49,
}


@pytest.mark.parametrize("name", list(EVEN))
def test_every_token_is_hidden_as_often(name):
    often = np.asarray(drawn(name, MANY).mask).mean(axis=0)
    assert close(often, np.full_like(often, EVEN[name]), MANY)


@functools.cache
def colour_masks(color):
    layer = M.ColoredMasking(color) if color in COLOURS else M.RandomMasking()
    return np.asarray(layer.plan(1500, (14, 14), SEED).mask).reshape(1500, 14, 14)


@pytest.mark.parametrize("color", COLOURS)
def test_colours_hide_every_place_about_as_often(color):
    often = colour_masks(color).mean(axis=0)
    assert often.mean() == pytest.approx(0.75)
    assert np.abs(often - 0.75).max() < (0.06 if color == "red" else 0.04)
    corners, middle = often[::13, ::13], often[5:9, 5:9]
    lean = middle.mean() - corners.mean()
    assert (0.02 if color == "red" else -0.015) < lean < (0.07 if color == "red" else 0.015)


def test_every_order_of_tokens_is_as_likely():
    plan = M.RandomMasking(0.5).plan(4800, (4,), SEED)
    orders = np.concatenate([plan.keep, plan.hidden], axis=1)
    counts = Counter(map(tuple, orders.tolist()))
    assert counts.keys() == set(itertools.permutations(range(4)))
    assert stats.chisquare(list(counts.values())).pvalue > 1e-3


def test_groups_are_hidden_whole():
    masks = np.asarray(drawn("groups").mask).reshape(8, 4, 2, 4, 2)
    assert np.all(np.ptp(masks, axis=(2, 4)) == 0)
    video = M.GroupedMasking((2, 1, 2), 0.5).plan(8, (4, 2, 8), SEED)
    masks = np.asarray(video.mask).reshape(8, 2, 2, 2, 4, 2)
    assert np.all(np.ptp(masks, axis=(2, 5)) == 0) and np.any(np.ptp(masks, axis=3))


def test_groups_in_a_given_order():
    layer = M.GroupedMasking((1, 2), 0.5)
    plan = layer.plan_of_units(np.array([[3, 0, 1, 2]]), (2, 4))
    assert np.asarray(plan.keep).tolist() == [[6, 7, 0, 1]]


def test_exact_blocks_are_blocks_and_single_tokens():
    exact = M.BlockMasking((0.1, 0.4), 0.0, exact=True)
    masks = np.asarray(exact.plan(200, (14, 14), SEED).mask).reshape(200, 14, 14)
    assert np.all(masks.sum(axis=(1, 2)) == int(0.4 * 196))
    inside = np.asarray(exact.draw(200, (14, 14), SEED))
    # Whatever share and probability: rectangles hide nearly all, and all of them is hidden.
    assert np.all(masks[inside] == 1.0) and inside.sum() > 0.95 * masks.sum()
    singles = (masks > 0.5) & ~inside
    assert np.all(singles.sum(axis=(1, 2)) == 78 - inside.sum(axis=(1, 2))) and singles.any()
    borders = np.mean(masks[:, :, 1:] != masks[:, :, :-1])
    assert borders < 0.5 * 2 * 0.4 * 0.6
    inverse = M.InverseBlockMasking((0.0, 0.6), 0.0, exact=True)
    masks = np.asarray(inverse.plan(8, (7, 7), SEED).mask).reshape(8, 7, 7)
    assert np.array_equal(masks > 0.5, inverse.draw(8, (7, 7), SEED))


# --- colours --------------------------------------------------------------------------------------


def power(masks):
    """Power of masks beside that of white ones, at low, middle and high frequencies."""
    side = masks.shape[1]
    found = np.abs(np.fft.fft2(masks - masks.mean())) ** 2
    found = found.mean(axis=0) / (side**2 * masks.var())
    steps = np.fft.fftfreq(side)
    radius = np.hypot(steps[:, None], steps[None])
    bands = [(0.01, 0.1), (0.13, 0.22), (0.38, 0.75)]
    return [found[(radius > low) & (radius < high)].mean() for low, high in bands]


def test_colours_are_those_of_their_names():
    found = (power(colour_masks(color)) for color in COLOURS)
    low, middle, high = zip(*found, strict=True)
    red, blue, green, purple = range(4)
    assert low[red] > 5 * middle[red] > 25 * high[red]
    assert low[blue] < middle[blue] < 0.7 and high[blue] > 1.1
    assert low[green] < 0.7 * middle[green] and middle[green] > 2 and high[green] < 0.6
    # Both ends and less of the middle.
    assert middle[purple] < 0.8 * low[purple] and middle[purple] < 0.7 * high[purple]
    assert low[purple] > 1.5 * low[blue] and high[purple] > 1.1
    assert power(colour_masks("white")) == pytest.approx([1.0, 1.0, 1.0], abs=0.05)


@pytest.mark.parametrize("color", COLOURS)
def test_the_strongest_places_of_noise_are_shown(color):
    noise = masking.colored_noise(distribution.normal_rows(SEED, 8, (8, 8)), color)
    noise = np.asarray(noise)[:, :4, :4].reshape(8, 16)
    assert np.array_equal(drawn(color).keep, np.argsort(-noise, axis=1)[:, :4])


@pytest.mark.parametrize("grid", [(40,), (4, 6, 6)], ids=str)
def test_colours_know_any_rank(grid):
    def borders(color):
        masks = np.asarray(M.ColoredMasking(color).plan(100, grid, SEED).mask)
        masks = masks.reshape(100, *grid)
        return np.mean(masks[:, 1:] != masks[:, :-1])

    white = 2 * 0.25 * 0.75
    assert borders("red") < 0.6 * white < white < borders("blue")


def test_noise_goes_around_the_area():
    point = np.zeros((1, 9, 12), "float32")
    point[0, 0, 0] = 1.0
    colours = {c: np.asarray(masking.colored_noise(point, c))[0] for c in COLOURS}
    red, green = colours["red"], colours["green"]
    assert red.sum() == pytest.approx(1.0, abs=1e-5) and red.argmax() == 0
    np.testing.assert_allclose(red[1:], red[1:][::-1], atol=1e-7)
    np.testing.assert_allclose(red[:, 1:], red[:, 1:][:, ::-1], atol=1e-7)
    np.testing.assert_allclose(green + colours["purple"], point[0], atol=1e-6)
    np.testing.assert_allclose(red + green + colours["blue"], point[0], atol=1e-6)
    narrow = np.asarray(masking.colored_noise(point, "red", (0.5, 1.0), truncate=2.0))[0]
    assert np.all(narrow[3:7] == 0.0) and narrow[2, 0] > 0.0


# --- spans ----------------------------------------------------------------------------------------


def runs(mask):
    """Lengths of what is hidden in one piece."""
    return [len(piece) for piece in "".join("x" if m else " " for m in mask).split()]


def spans(starts, length, hidden):
    """Spans one after the other, as the definition reads."""
    mask = np.zeros(len(starts) + length - 1, bool)
    for start in starts:
        for place in range(start, start + length):
            hidden -= not mask[place]
            mask[place] = True
            if not hidden:
                return mask


@pytest.mark.parametrize(("length", "tokens", "ratio"), [(4, 19, 0.5), (10, 25, 0.65)])
def test_spans_are_those_of_the_definition(length, tokens, ratio):
    layer, random = M.SpanMasking(length, ratio), np.random.default_rng(0)
    hidden = tokens - layer.visible((tokens,))
    got = np.asarray(layer.plan(MANY, (tokens,), SEED).mask) > 0.5
    assert np.all(got.sum(axis=1) == hidden)
    # Whole spans but for the rest of the last one.
    assert all(sum(run < length for run in runs(mask)) <= 1 for mask in got)
    orders = (random.permutation(tokens - length + 1) for _ in range(2000))
    want = np.array([spans(order, length, hidden) for order in orders])
    error = 4.5 * np.sqrt(0.25 / 2000 + 0.25 / MANY)
    assert np.abs(got.mean(axis=0) - want.mean(axis=0)).max() < error
    one, other = ([len(runs(mask)) for mask in masks] for masks in (got, want))
    assert np.mean(one) == pytest.approx(np.mean(other), abs=5 * np.std(other) / 30)


def test_the_last_span_of_long_sequences_begins_where_it_should():
    # float32 has no digits left here for places behind the numbers of the spans.
    masks = np.asarray(M.SpanMasking(10, 0.5).plan(8, (20000,), SEED).mask)
    orders = np.argsort(distribution.uniform_rows(SEED, 8, (19991,)), axis=1, kind="stable")
    assert np.array_equal(masks > 0.5, [spans(order, 10, 10000) for order in orders])


# --- videos ---------------------------------------------------------------------------------------


def test_tubes_are_the_same_in_every_frame():
    plan = M.TubeMasking(0.9).plan(8, (6, 4, 4), SEED)
    masks = np.asarray(plan.mask).reshape(8, 6, 16)
    assert np.all(masks == masks[:, :1]) and np.all(masks.sum(axis=2) == int(0.9 * 16))
    # A part of what is hidden is whole tubes too, not the first frames.
    part = np.asarray(masking.decode_part(plan, 0.5).decode)
    assert part.shape == (8, 6 * 7)
    for row in part:
        assert set(Counter((row % 16).tolist()).values()) == {6}


@pytest.mark.parametrize(("ratio", "cell"), [(0.5, (2, 2)), (0.75, (2, 2)), (0.4, (2, 3))], ids=str)
def test_running_cells_cover_evenly(ratio, cell):
    grid, size = (2 * math.prod(cell), 4, 6), math.prod(cell)
    plan = M.RunningCellMasking(ratio, cell).plan(64, grid, SEED)
    masks = np.asarray(plan.mask).reshape(64, grid[0], 4 // cell[0], cell[0], 6 // cell[1], cell[1])
    assert np.all(masks.sum(axis=(3, 5)) == int(size * ratio))
    # Over as many frames as a cell has tokens every place is hidden as often.
    assert np.all(masks[:, :size].sum(axis=1) == int(size * ratio))
    assert np.array_equal(masks[:, :size], masks[:, size:]) and np.any(masks[:, 0] != masks[:, 1])
    found = {mask.tobytes() for mask in np.asarray(plan.mask, "int8")}
    maps = masking.running_cells(grid, ratio, cell)
    assert found == {one.tobytes() for one in maps.reshape(size, -1)} and len(found) == size


# --- guides ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("show", ["low", "high"])
def test_a_guide_decides_strictly(show):
    inputs = samples("guided", 5)
    layer = M.GuidedMasking(first_feature, 0.75, show)
    plan = layer.plan(5, (16,), SEED, inputs=inputs)
    scores = inputs[..., 0] if show == "low" else -inputs[..., 0]
    assert np.array_equal(plan.keep, np.argsort(scores, axis=1)[:, :4])


@pytest.mark.parametrize("show", ["low", "high"])
def test_draws_follow_given_probabilities(show):
    weights = np.array([0.4, 0.3, 0.15, 0.1, 0.05])
    sign = 1.0 if show == "high" else -1.0
    scores = sign * 2.0 * np.log(weights).astype("float32")
    inputs = np.tile(scores[None, :, None], (20000, 1, 1))
    layer = M.GuidedMasking(first_feature, 0.6, show, temperature=2.0)
    keep = np.asarray(layer.plan(20000, (5,), SEED, inputs=inputs).keep)
    assert keep.shape == (20000, 2)
    pairs = np.zeros((5, 5))
    np.add.at(pairs, (keep[:, 0], keep[:, 1]), 1.0 / 20000)
    # The first in proportion, the second in proportion among those that are left.
    want = weights[:, None] * weights / (1.0 - weights[:, None])
    np.fill_diagonal(want, 0.0)
    assert want.sum() == pytest.approx(1.0) and close(pairs, want, 20000)


def test_what_is_impossible_is_drawn_last():
    layer = M.GuidedMasking(first_feature, 0.5, "high", temperature=1.0)
    inputs = np.zeros((8, 16, 1), "float32")
    inputs[:, 1:9] = -np.inf
    plan = layer.plan(8, (16,), SEED, inputs=inputs)
    assert np.array_equal(np.sort(plan.keep, axis=1), np.tile([0, *range(9, 16)], (8, 1)))


def test_likeness_to_the_predecessor():
    x = samples("guided", 3)
    unit = x / np.linalg.norm(x, axis=-1, keepdims=True)
    scores = np.asarray(masking.predecessor_similarity(x))
    np.testing.assert_allclose(scores[:, 1:], (unit[:, 1:] * unit[:, :-1]).sum(-1), atol=1e-5)
    assert np.all(scores[:, 0] == 0.0) and scores.dtype == "float32"
    np.testing.assert_allclose(masking.predecessor_similarity(7.0 * x), scores, atol=1e-6)
    always = np.asarray(masking.predecessor_similarity(x, first=-2.0))
    assert np.all(always.argmin(axis=1) == 0)
    real = np.arange(16) < np.array([[16], [5], [1]])
    padded = np.asarray(masking.predecessor_similarity({"vectors": x, "real": real}))
    assert np.array_equal(padded[real], scores[real]) and np.all(np.isinf(padded[~real]))
    layer = M.GuidedMasking(masking.predecessor_similarity, 0.75)
    plan = layer.plan(3, (16,), SEED, inputs={"vectors": x, "real": real})
    assert np.all(np.take_along_axis(real, np.asarray(plan.keep), 1)[:2])
    config = keras.saving.serialize_keras_object(layer)
    again = keras.saving.deserialize_keras_object(config)
    assert again.guide is masking.predecessor_similarity


# --- ratios that change ---------------------------------------------------------------------------


def check_ratio(plan, shown, kept, fewest, replaces):
    """A plan that gathers `kept` tokens and shows so many of each sample."""
    found, (rows, tokens) = arrays(plan), plan.mask.shape
    order = np.concatenate([found["keep"], found["hidden"]], axis=1)
    rank = np.arange(tokens)
    mask = np.zeros((rows, tokens))
    np.put_along_axis(mask, order, (rank >= shown[:, None]) * 1.0, 1)
    assert np.array_equal(found["mask"], mask)
    assert found["keep"].shape == (rows, kept)
    assert found["decode"].shape == found["asked"].shape == (rows, tokens - fewest)
    assert np.array_equal(found["weight"], found["asked"].astype("float32"))
    # No token stands twice, and what is asked for is what is not seen.
    assert all(len(set(row)) == len(row) for row in found["decode"].tolist())
    assert np.array_equal(np.take_along_axis(mask, found["decode"], 1) > 0.5, found["asked"])
    assert np.array_equal(found["asked"].sum(axis=1), tokens - shown)
    flags = found["replaced"] if replaces else ~found["shown"]
    assert ("shown" in found) != replaces and ("replaced" in found) == replaces
    assert np.array_equal(np.take_along_axis(mask, found["keep"], 1) > 0.5, flags)


@pytest.mark.parametrize("rest", ["replace", "ignore"])
def test_a_ratio_follows_its_schedule(rest):
    layer = M.ScheduledMasking(M.RandomMasking(), ramp(), 0.5, 0.75, rest)
    assert layer.replaces == (rest == "replace") and layer.visible((16,)) == 8
    for step, shown in ((0, 8), (3, 7), (5, 6), (8, 4), (100, 4)):
        # 0.4 + 0.04 a step, within 0.5 and 0.75.
        plan = layer.plan(8, (16,), SEED, step=ops.convert_to_tensor(step))
        check_ratio(plan, np.full(8, shown), 8, 4, rest == "replace")
    assert same(layer.plan(8, (16,), SEED), layer.plan(8, (16,), SEED, step=0))
    # 0.4 of 10 is 4, and in float32 a little less.
    ten = M.ScheduledMasking(M.RandomMasking(), lambda step: 0.6, 0.3, 0.8, rest)
    check_ratio(ten.plan(8, (10,), SEED), np.full(8, 4), 7, 1, rest == "replace")


def test_a_ratio_is_drawn_for_each_sample():
    layer = M.ScheduledMasking(M.RandomMasking(), (0.55, 0.25), 0.5, 0.9)
    ratios = np.asarray(layer.ratios(MANY, SEED, None))
    cut = stats.truncnorm((0.5 - 0.55) / 0.25, (0.9 - 0.55) / 0.25, 0.55, 0.25)
    assert stats.kstest(ratios, cut.cdf).pvalue > 1e-3
    assert ratios.min() >= 0.5 and ratios.max() <= 0.9
    plan = layer.plan(MANY, (16,), SEED)
    shown = 16 - np.asarray(plan.mask).sum(axis=1).astype(int)
    check_ratio(plan, shown, 8, 1, True)
    # k are shown where the ratio lies between 1 - (k + 1) / 16 and 1 - k / 16.
    want = np.diff(cut.cdf(1.0 - np.arange(9, 0, -1) / 16.0))[::-1]
    assert close(np.bincount(shown, minlength=9)[1:] / MANY, want, MANY)


def test_what_is_hidden_together_stays_together():
    tubes = M.ScheduledMasking(M.TubeMasking(), (0.7, 0.3), 0.5, 0.9)
    masks = np.asarray(tubes.plan(8, (4, 4, 4), SEED).mask).reshape(8, 4, 16)
    assert np.all(masks == masks[:, :1]) and len(set(masks[:, 0].sum(axis=1))) > 2
    groups = M.ScheduledMasking(M.GroupedMasking((2, 2)), (0.7, 0.3), 0.5, 0.8)
    masks = np.asarray(groups.plan(8, (8, 8), SEED).mask).reshape(8, 4, 2, 4, 2)
    assert np.all(np.ptp(masks, axis=(2, 4)) == 0)
    assert len(set(masks[:, :, 0, :, 0].sum(axis=(1, 2)))) > 2


def test_a_guide_in_a_schedule_is_not_built_anew():
    inner = M.GuidedMasking(lambda x: first_feature(x), 0.5, "high")
    layer = M.ScheduledMasking(inner, lambda step: 0.75, 0.5, 0.9)
    inputs = samples("guided", 5)
    plan = layer.plan(5, (16,), SEED, inputs=inputs)
    best = np.argsort(-inputs[..., 0], axis=1)[:, :4]
    assert np.all(np.take_along_axis(np.asarray(plan.mask), best, 1) == 0.0)
    assert np.all(np.asarray(plan.mask).sum(axis=1) == 12)


# --- parts of plans -------------------------------------------------------------------------------


def test_a_part_of_the_hidden_tokens_is_asked_for():
    plan = drawn("random")
    part = masking.decode_part(plan, 0.3)
    assert np.array_equal(part.decode, np.asarray(plan.hidden)[:, :3])
    assert part._replace(decode=plan.decode) == plan
    assert masking.decode_part(plan, 1.0).decode.shape == plan.decode.shape
    often = np.bincount(
        np.asarray(masking.decode_part(drawn("random", MANY), 0.5).decode).ravel(), minlength=16
    )
    assert close(often / MANY, np.full(16, 6 / 16), MANY)


def test_a_part_of_what_differs_in_number_is_a_part_of_each():
    plan = M.ScheduledMasking(M.RandomMasking(), (0.6, 0.2), 0.3, 0.9).plan(8, (16,), SEED)
    asked = np.asarray(plan.asked).sum(axis=1)
    part = arrays(masking.decode_part(plan, 0.5))
    assert part["decode"].shape == part["weight"].shape == part["asked"].shape == (8, 7)
    assert np.array_equal(part["asked"].sum(axis=1), asked // 2)
    assert np.array_equal(part["weight"], part["asked"].astype("float32"))
    seen = np.take_along_axis(np.asarray(plan.mask), part["decode"], 1) < 0.5
    assert not np.any(seen & part["asked"])


def test_another_plan_says_what_is_asked_for():
    grid = (4, 4, 4)
    plan = M.TubeMasking(0.75).plan(8, grid, SEED)
    other = M.RunningCellMasking(0.5).plan(8, grid, SEED)
    both = arrays(masking.decode_of(plan, other))
    assert np.array_equal(both["decode"], other.keep) and "asked" not in both
    mask = np.asarray(plan.mask)
    assert np.array_equal(both["weight"], np.take_along_axis(mask, both["decode"], 1))
    assert 0 < both["weight"].sum() < both["weight"].size
    for key in ("mask", "keep", "hidden", "restore"):
        assert np.array_equal(both[key], getattr(plan, key))


LENGTHS = (16, 11, 10, 3, 1)


def padded(noise, ratio, rounding="floor_visible"):
    """A plan of samples of several lengths in one batch."""
    real = np.arange(16)[None] < np.array(LENGTHS)[:, None]
    return masking.only_real(masking.plan_of(noise, 8), real, ratio, rounding)


@pytest.mark.parametrize("rounding", ["floor_visible", "round_visible", "ceil_hidden"])
@pytest.mark.parametrize("ratio", [0.5, 0.7, 0.9])
def test_padding_changes_nothing_for_real_tokens(ratio, rounding):
    noise = np.random.default_rng(0).random((5, 16)).astype("float32")
    plan = padded(noise, ratio, rounding)
    found, kept = arrays(plan), masking.visible_count(16, ratio, rounding)
    assert found["keep"].shape == (5, kept) and found["decode"].shape == (5, 16 - kept)
    order = np.concatenate([found["keep"], found["hidden"]], axis=1)
    assert np.array_equal(np.sort(order, axis=1), np.tile(np.arange(16), (5, 1)))
    assert np.array_equal(np.argsort(order, axis=1), found["restore"])
    assert np.array_equal(found["weight"], found["asked"].astype("float32"))
    assert all(len(set(row)) == len(row) for row in found["decode"].tolist())
    for row, length in enumerate(LENGTHS):
        try:
            count = masking.visible_count(length, ratio, rounding)
        except ValueError:
            # Too short to show and to hide: one is shown.
            count = 1
        alone = masking.plan_of(noise[row : row + 1, :length], count)
        assert np.array_equal(found["keep"][row][found["shown"][row]], alone.keep[0])
        assert np.array_equal(found["decode"][row][found["asked"][row]], alone.hidden[0])
        assert np.array_equal(found["mask"][row, :length], alone.mask[0])
        assert np.all(found["mask"][row, length:] == 1.0)


def test_without_padding_the_plan_stays_whatever_the_digits():
    # 10 of 100 visible on paper, 9 as Python counts; a second count must not disagree.
    for tokens, ratio in ((100, 0.9), (30, 0.9), (49, 0.6), (10, 0.7)):
        visible = masking.visible_count(tokens, ratio)
        plan = masking.plan_of(np.random.default_rng(0).random((3, tokens)), visible)
        same_one = masking.only_real(plan, np.ones((3, tokens)), ratio)
        for key in ("mask", "keep", "hidden", "restore", "decode"):
            assert np.array_equal(getattr(same_one, key), getattr(plan, key))
        assert np.all(same_one.shown) and np.all(same_one.asked) and np.all(same_one.weight)


def test_padding_is_neither_asked_for_in_part_nor_by_another_plan():
    noise = np.random.default_rng(0).random((5, 16)).astype("float32")
    lengths = np.array(LENGTHS)
    plan = padded(noise, 0.5)
    hidden = np.asarray(plan.asked).sum(axis=1)
    part = arrays(masking.decode_part(plan, 0.5))
    want = np.where(hidden > 0, np.maximum(hidden // 2, 1), 0)
    assert np.array_equal(part["asked"].sum(axis=1), want)
    assert np.array_equal(part["weight"], part["asked"].astype("float32"))
    assert np.all((part["decode"] < lengths[:, None])[part["asked"]])
    other = masking.plan_of(np.tile(np.arange(16.0, dtype="float32"), (5, 1)), 12)
    both = arrays(masking.decode_of(plan, other))
    real = both["decode"] < lengths[:, None]
    assert np.array_equal(both["asked"], real) and not real.all()
    seen = np.take_along_axis(np.asarray(plan.mask), both["decode"], 1) < 0.5
    assert np.array_equal(both["weight"] > 0.5, real & ~seen)


def test_parts_compile_to_the_same():
    noise = np.random.default_rng(0).random((5, 16)).astype("float32")

    def parts(noise):
        plan = padded(noise, 0.5)
        other = masking.plan_of(-noise, 12)
        return plan, masking.decode_part(plan, 0.5), masking.decode_of(plan, other)

    compiled = tf.function(parts, jit_compile=True, autograph=False)(noise)
    assert all(same(one, other) for one, other in zip(compiled, parts(noise), strict=True))


# --- to look at -----------------------------------------------------------------------------------

GREEN, GREY, ORANGE = (0, 121, 107), (218, 218, 218), (255, 179, 0)


def colours(picture, places):
    return [picture.getpixel(place) for place in places]


def test_a_picture_shows_what_is_seen():
    picture = masking.show(M.RandomMasking(0.75), (2, 8), rows=8, seed=5)
    # Cells of 8 pixels but for the last line, 6 pixels between planes.
    assert picture.mode == "RGB" and picture.size == (6 + 8 * 69, 6 + 21)
    mask = np.asarray(M.RandomMasking(0.75).plan(8, (2, 8), SEED).mask).reshape(8, 2, 8)
    for sample, row, column in np.ndindex(8, 2, 8):
        place = (6 + sample * 69 + column * 8 + 3, 6 + row * 8 + 3)
        want = GREY if mask[sample, row, column] else GREEN
        assert picture.getpixel(place) == want
    assert colours(picture, [(0, 0), (13, 9), (9, 13)]) == [(255, 255, 255)] * 3


def test_pictures_of_every_rank_and_kind():
    strip = masking.show(M.SpanMasking(4, 0.5), (19,), rows=8, cell=4)
    assert strip.size == (6 + 81, 6 + 8 * 9)
    video = masking.show(M.TubeMasking(), (3, 4, 4), rows=8)
    assert video.size == (6 + 3 * 37, 6 + 8 * 37)
    frames = np.asarray(video)[:, 6:].reshape(-1, 3, 37, 3)
    assert np.array_equal(frames[:, 0], frames[:, 1])
    assert {GREEN, GREY} <= set(map(tuple, frames.reshape(-1, 3).tolist()))
    layer = M.ScheduledMasking(M.RandomMasking(), ramp(), 0.5, 0.9)
    counts = []
    for step in (0, 10):
        found = np.asarray(masking.show(layer, (16,), rows=8, cell=2, step=step))[6:, 6::2]
        counts.append(Counter(map(tuple, found.reshape(-1, 3).tolist())))
    assert [c[GREEN] for c in counts] == [8 * 8, 8 * 3]
    assert [c[ORANGE] for c in counts] == [0, 8 * 5]
    guided = CASES["guided"].make()
    picture = masking.show(guided, (16,), rows=9, inputs=samples("guided", 5))
    assert picture.size == (6 + 133, 6 + 5 * 13)
    assert masking.show(CASES["blocks"].make(), (7, 7), 8).size == (6 + 8 * 61, 6 + 61)
    for wrong in ({"grid": (2, 2, 2, 2)}, {"grid": (4, 4), "rows": 0}, {"grid": (4,), "cell": 1}):
        with pytest.raises(ValueError, match="show draws"):
            masking.show(M.RandomMasking(), **wrong)
