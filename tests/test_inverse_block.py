# SPDX-License-Identifier: Apache-2.0
"""All hidden but a block: how much, of which shape, and where."""

import math
import random

import keras
import numpy as np
import pytest
import tensorflow as tf
from strategies import strategy

from keras_ssl import masking
from keras_ssl.core import distribution

SEED = distribution.fixed_seed(5)
GRIDS = [(8, 8), (6, 10), (16, 3)]


def one_by_one(height, width, hidden):
    """A block of what is left visible, drawn and rolled as the definition reads."""
    visible = height * width - hidden
    least, most = math.log(visible / width**2), math.log(height**2 / visible)
    slim = math.log(0.3)
    aspect = math.exp(
        random.uniform(min(max(slim, least), most), min(max(-slim, least), most)),
    )
    tall = min(math.ceil(math.sqrt(visible * aspect)), height)
    wide = min(math.ceil(math.sqrt(visible / aspect)), width)
    mask = np.ones((height, width), bool)
    places = [(row, column) for row in range(tall) for column in range(wide)]
    for row, column in places[:visible]:
        mask[row, column] = False
    return np.roll(mask, (random.randrange(height), random.randrange(width)), (0, 1))


def blocks(height, width, visible):
    """Every mask that shows one block of so many tokens, its last row cut, rolled anyhow."""
    found = set()
    for wide in range(1, width + 1):
        if math.ceil(visible / wide) > height:
            continue
        mask = np.ones((height, width), bool)
        for place in range(visible):
            mask[place // wide, place % wide] = False
        found |= {
            np.roll(mask, (down, along), (0, 1)).tobytes()
            for down in range(height)
            for along in range(width)
        }
    return found


@pytest.mark.parametrize("grid", GRIDS, ids=str)
@pytest.mark.parametrize("share", [0.1, 0.4, 0.65])
def test_one_block_of_exactly_the_share_is_shown(grid, share):
    got = np.asarray(masking.InverseBlockMasking((share, share), 1.0).draw(300, grid, SEED))
    hidden = int(share * math.prod(grid))
    assert np.array_equal(got.sum(axis=(1, 2)), np.full(300, hidden))
    possible = blocks(*grid, math.prod(grid) - hidden)
    assert all(mask.tobytes() in possible for mask in got)


@pytest.mark.parametrize("grid", GRIDS, ids=str)
def test_shapes_are_those_of_the_definition(grid):
    random.seed(0)
    hidden = int(0.5 * math.prod(grid))
    want = np.array([one_by_one(*grid, hidden) for _ in range(1500)])
    got = np.asarray(masking.InverseBlockMasking((0.5, 0.5), 1.0).draw(3000, grid, SEED))
    # Rows and columns that show anything: the sides of the block.
    for axis in (1, 2):
        one, other = (np.mean(~m.all(axis=axis), axis=1) for m in (want, got))
        error = math.sqrt(one.var() / 1500 + other.var() / 3000)
        assert abs(one.mean() - other.mean()) < 4 * error + 1e-3
        assert one.std() == pytest.approx(other.std(), rel=0.1, abs=1e-3)


def test_every_place_is_hidden_as_often_because_of_the_roll():
    rolled = masking.InverseBlockMasking((0.5, 0.5), 1.0).draw(8000, (8, 8), SEED)
    often = np.asarray(rolled).mean(axis=0)
    assert np.abs(often - 0.5).max() < 4.5 * math.sqrt(0.25 / 8000)
    kept = masking.InverseBlockMasking((0.5, 0.5), 1.0, roll=False).draw(2000, (8, 8), SEED)
    often = np.asarray(kept).mean(axis=0)
    assert often[0, 0] > 0.6 and often[4, 4] < 0.2


def test_without_roll_a_block_crosses_no_border():
    got = masking.InverseBlockMasking((0.7, 0.7), 1.0, roll=False).draw(200, (8, 8), SEED)
    for mask in np.asarray(got):
        rows, columns = np.where(~mask)
        box = (np.ptp(rows) + 1) * (np.ptp(columns) + 1)
        assert 20 <= box < 20 + np.ptp(columns) + 1


def test_shares_are_drawn_for_each_sample():
    layer = masking.InverseBlockMasking((0.1, 0.65), 0.5)
    share = np.asarray(layer.draw(4000, (10, 10), SEED)).mean(axis=(1, 2))
    assert np.mean(share > 0) == pytest.approx(0.5, abs=0.03)
    assert layer.most((10, 10)) == 65 and share.max() <= 0.65
    quantiles = np.quantile(share[share > 0], [0.0, 0.5, 1.0])
    assert quantiles == pytest.approx([0.1, 0.375, 0.65], abs=0.02)
    assert not np.any(masking.InverseBlockMasking((0.3, 0.3), 0.0).draw(16, (8, 8), SEED))


@pytest.mark.parametrize("share", [0.0, 0.01, 1.0])
def test_extreme_shares(share):
    got = np.asarray(masking.InverseBlockMasking((share, share), 1.0).draw(4, (5, 5), SEED))
    assert got.sum() == 4 * int(25 * share)


def test_it_repeats_compiles_and_differs():
    layer = masking.InverseBlockMasking(probability=1.0)
    plain = np.asarray(layer.draw(8, (8, 8), SEED))
    compiled = tf.function(lambda seed: layer.draw(8, (8, 8), seed), jit_compile=True)
    assert np.array_equal(compiled(SEED), plain)
    assert len({mask.tobytes() for mask in plain}) == 8
    assert not np.array_equal(layer.draw(8, (8, 8), distribution.fixed_seed(6)), plain)
    plan = layer(np.zeros((8, 8, 8, 3), "float32"), seed=SEED)
    assert np.array_equal(plan.mask, plain.reshape(8, 64)) and plan.keep is None


def test_it_survives_its_config():
    layer = masking.InverseBlockMasking((0.2, 0.3), 1.0, 0.5, roll=False, name="hide")
    assert set(layer.get_config()) >= {"ratio", "probability", "aspect", "roll"}
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(layer))
    assert again.get_config() == layer.get_config()
    assert np.array_equal(again.draw(8, (8, 8), SEED), layer.draw(8, (8, 8), SEED))


def test_replicas_mask_the_rows_of_the_global_batch():
    layer, devices = masking.InverseBlockMasking(probability=1.0), strategy(2)
    want = np.asarray(layer.draw(8, (6, 6), SEED))
    run = tf.function(lambda: devices.run(lambda: layer.draw(4, (6, 6), SEED)))
    got = np.concatenate([np.asarray(v) for v in devices.experimental_local_results(run())])
    assert np.array_equal(got, want)


@pytest.mark.parametrize(
    "wrong", [{"ratio": (0.5, 0.1)}, {"ratio": (0, 2)}, {"probability": 2}, {"aspect": 0}], ids=str
)
def test_wrong_settings_are_named_with_the_class(wrong):
    with pytest.raises(ValueError, match="^InverseBlockMasking needs"):
        masking.InverseBlockMasking(**wrong)
