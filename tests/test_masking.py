# SPDX-License-Identifier: Apache-2.0
"""Masks: how much, which shapes, for whom."""

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


def one_by_one(height, width, most):
    """Rectangles tried in turn, as the papers' algorithm reads."""
    mask, count = np.zeros((height, width), bool), 0
    least, aspect = (min(height, width) // 3) ** 2, math.log(0.3)
    while count < most:
        added = 0
        for _ in range(10):
            area = max(random.uniform(least, most - count), 0.0)
            ratio = math.exp(random.uniform(aspect, -aspect))
            tall, wide = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
            if wide >= width or tall >= height:
                continue
            top, left = random.randint(0, height - tall), random.randint(0, width - wide)
            block = mask[top : top + tall, left : left + wide]
            new = block.size - block.sum()
            if 0 < new <= most - count:
                block[:] = True
                added = new
                break
        if not added:
            break
        count += added
    return mask


@pytest.mark.parametrize("grid", [(14, 14), (6, 10)], ids=str)
@pytest.mark.parametrize("share", [0.1, 0.5])
def test_blocks_are_those_of_the_papers(grid, share):
    random.seed(0)
    want = np.array([one_by_one(*grid, share * math.prod(grid)) for _ in range(1000)])
    got = np.asarray(masking.BlockMasking((share, share), 1.0).draw(2000, grid, SEED))
    one, other = want.mean(axis=(1, 2)), got.mean(axis=(1, 2))
    error = math.sqrt(one.var() / 1000 + other.var() / 2000)
    assert abs(one.mean() - other.mean()) < 4 * error + 1e-3
    # Neighbours are hidden together: the same share of borders between hidden and shown.
    borders = [np.mean(m[:, 1:] != m[:, :-1]) for m in (want, got)]
    assert borders[0] == pytest.approx(borders[1], rel=0.1)
    assert borders[1] < 1.5 * share * (1 - share)


def test_shares_are_drawn_for_each_sample_and_never_exceeded():
    layer = masking.BlockMasking((0.1, 0.5), 0.5)
    share = np.asarray(layer.draw(4000, (10, 10), SEED)).mean(axis=(1, 2))
    assert np.mean(share > 0) == pytest.approx(0.5, abs=0.03)
    assert share.max() <= 0.5 and layer.most((10, 10)) == 50
    hidden = share[share > 0]
    # An even draw between both ends, less what rectangles leave.
    assert np.quantile(hidden, [0.25, 0.5, 0.75]) == pytest.approx([0.2, 0.3, 0.4], abs=0.03)


@pytest.mark.parametrize("share", [0.29, 0.57, 0.58])
def test_the_most_that_is_hidden_is_counted_as_it_is_drawn(share):
    # Of a hundred tokens 28.99… in the digits of Python, and 29 in half of them.
    inverse = masking.InverseBlockMasking((share, share), 1.0)
    counts = np.asarray(inverse.draw(64, (10, 10), SEED)).sum(axis=(1, 2))
    assert set(counts) == {inverse.most((10, 10))} == {round(share * 100)}
    blocks = masking.BlockMasking((share, share), 1.0)
    counts = np.asarray(blocks.draw(512, (10, 10), SEED)).sum(axis=(1, 2))
    assert counts.max() == blocks.most((10, 10)) == round(share * 100)
    assert not np.any(masking.BlockMasking((0.3, 0.3), 0.0).draw(16, (8, 8), SEED))


def test_it_repeats_compiles_and_differs():
    layer = masking.BlockMasking(probability=1.0)
    plain = np.asarray(layer.draw(8, (8, 8), SEED))
    compiled = tf.function(lambda seed: layer.draw(8, (8, 8), seed), jit_compile=True)
    assert np.array_equal(compiled(SEED), plain)
    assert len({mask.tobytes() for mask in plain}) == 8
    assert not np.array_equal(layer.draw(8, (8, 8), distribution.fixed_seed(6)), plain)
    plan = layer(np.zeros((8, 8, 8, 3), "float32"), seed=SEED)
    assert np.array_equal(plan.mask, plain.reshape(8, 64)) and plan.keep is None
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(layer))
    assert np.array_equal(again.draw(8, (8, 8), SEED), plain)


def test_replicas_mask_the_rows_of_the_global_batch():
    layer, devices = masking.BlockMasking(probability=1.0), strategy(2)
    want = np.asarray(layer.draw(8, (6, 6), SEED))
    run = tf.function(lambda: devices.run(lambda: layer.draw(4, (6, 6), SEED)))
    got = np.concatenate([np.asarray(v) for v in devices.experimental_local_results(run())])
    assert np.array_equal(got, want)


@pytest.mark.parametrize(
    "wrong", [{"ratio": (0.5, 0.1)}, {"ratio": (0, 2)}, {"probability": 2}, {"aspect": 0}], ids=str
)
def test_wrong_settings(wrong):
    with pytest.raises(ValueError, match="BlockMasking needs"):
        masking.BlockMasking(**wrong)
