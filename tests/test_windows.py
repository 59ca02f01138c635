# SPDX-License-Identifier: Apache-2.0
"""A decoder that attends within windows of the grid."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from model_test import encoder_for, samples, small_transformer
from test_masked import half

from keras_ssl import backbones, masking, models, tokens
from keras_ssl.core import distribution

SEED = distribution.fixed_seed(3)
GRID, WINDOW, SHIFT = (6, 5), (4, 3), (2, 1)


def decoder_of(depth=2, width=8, **options):
    decoder = tokens.TransformerDecoder(3, width, depth, 2, seed=0, **options)
    decoder.build((None, None, 8))
    return decoder


def encoded(rows, count):
    return np.random.default_rng(0).normal(size=(rows, count, 8)).astype("float32")


def plans():
    """Plans whose places are seen, asked for, or neither."""
    plain = masking.RandomMasking(0.6).plan(4, (12,), SEED)
    scheduled = masking.ScheduledMasking(
        masking.RandomMasking(), half, least=0.25, most=0.75, rest="ignore"
    )
    real = np.arange(12)[None] < np.array([[12], [9], [7], [5]])
    padded = masking.only_real(plain, real, 0.6)
    return {
        "all": plain,
        "a part": masking.decode_part(plain, 0.5),
        "another ratio": scheduled.plan(4, (12,), SEED, step=0),
        "padded": padded,
        "a part of padded": masking.decode_part(padded, 0.5),
        "nothing gathered": masking.MaskPlan(plain.mask),
    }


@pytest.mark.parametrize("name", list(plans()))
def test_one_window_over_the_whole_grid_is_no_window(name):
    plan = plans()[name]
    x = encoded(4, 12 if plan.keep is None else plan.keep.shape[1])
    found = [
        np.asarray(decoder_of(window=window)(x, plan=plan, grid=(3, 4)))
        for window in (None, (3, 4), (9, 4))
    ]
    asked = np.ones(found[0].shape[:2], bool) if plan.asked is None else np.asarray(plan.asked)
    assert asked.sum() > 4
    for local in found[1:]:
        np.testing.assert_allclose(local[asked], found[0][asked], atol=2e-6)


def test_seen_tokens_come_in_front():
    plan = plans()["a part"]
    x = encoded(4, plan.keep.shape[1])
    found = [
        np.asarray(decoder_of(window=window)(x, plan=plan, grid=(3, 4), seen=True))
        for window in (None, (3, 4))
    ]
    np.testing.assert_allclose(*found, atol=2e-6)


def same_window(shift):
    """Which tokens of `GRID` are in one window, `(L, L)`, by the borders alone."""
    places = np.stack(np.meshgrid(*map(np.arange, GRID), indexing="ij"), -1).reshape(-1, 2)
    numbers = (places - shift) // np.array(WINDOW)
    return (numbers[:, None] == numbers[None]).all(-1)


def reach(decoder):
    """Which tokens every token's prediction depends on, `(L, L)`."""
    count = GRID[0] * GRID[1]
    x = encoded(1, count) + np.zeros((count + 1, 1, 1), "float32")
    x[np.arange(count), np.arange(count)] += encoded(2, count)[1]
    plan = masking.MaskPlan(np.zeros((count + 1, count), "float32"))
    made = np.asarray(decoder(x, plan=plan, grid=GRID))
    return (np.abs(made[:-1] - made[-1]).max(-1) > 1e-6).T


def test_nothing_crosses_a_window_but_by_a_shifted_block():
    still, moved = same_window((0, 0)), same_window(SHIFT)
    assert still.sum(1).min() == 4 and moved.sum(1).min() == 2
    options = {"window": WINDOW, "shift": SHIFT}
    np.testing.assert_array_equal(reach(decoder_of(1, **options)), still)
    twice = (moved.astype(int) @ still) > 0
    assert still.sum() < twice.sum() < twice.size
    np.testing.assert_array_equal(reach(decoder_of(2, **options)), twice)
    # Half a window is what it moves by unless it is told.
    np.testing.assert_array_equal(reach(decoder_of(2, window=WINDOW)), twice)
    unmoved = decoder_of(2, window=WINDOW, shift=(0, 0))
    np.testing.assert_array_equal(reach(unmoved), still)
    assert reach(decoder_of(2, window=WINDOW, global_blocks=1)).all()


def test_nobody_attends_to_empty_places():
    """The window of places 3 and 4 of five is as if these two were all."""
    order = np.array([[3, 4, 0, 1, 2]], "int32")
    # As tensors what is hidden and what is asked for are one object, and nothing is left out.
    x, every = encoded(1, 2), masking.plan_in_order(tf.constant(order), 1)
    alone = masking.decode_part(every, 0.25)
    assert np.asarray(alone.decode).tolist() == [[4]]
    wanted = decoder_of(1)(x[:, :1], plan=alone, grid=(5,))
    other = masking.plan_in_order(order[:, [0, 2, 1, 3, 4]], 2)
    for plan in (every, alone, masking.decode_part(other, 0.4)):
        made = decoder_of(1, window=(3,))(x[:, : plan.keep.shape[1]], plan=plan, grid=(5,))
        np.testing.assert_allclose(made[:, :1], wanted, atol=2e-6)


def test_tokens_in_front_belong_to_no_window():
    plan = plans()["all"]
    x, decoder = encoded(4, 1 + plan.keep.shape[1]), decoder_of(window=(2, 2))
    other = x.copy()
    other[:, 0] += 1.0
    made = [decoder(one, plan=plan, grid=(3, 4)) for one in (x, other)]
    assert np.array_equal(*made)


@pytest.mark.parametrize("name", [pytest.param("all", marks=pytest.mark.slow), "a part of padded"])
def test_windows_compile(name):
    plan = plans()[name]
    decoder, x = decoder_of(window=(2, 3), global_blocks=1, depth=3), encoded(4, 6)
    x = tf.constant(x[:, : plan.keep.shape[1]])

    def step(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            made = decoder(x, plan=plan, grid=(3, 4))
            loss = keras.ops.mean(keras.ops.square(made))
        return made, tape.gradient(loss, [x, *decoder.trainable_variables])

    plain, compiled = step(x), tf.function(step, jit_compile=True, autograph=False)(x)
    for a, b in zip(tf.nest.flatten(plain), tf.nest.flatten(compiled), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)
    assert np.abs(plain[1][0]).max() > 0


def test_windows_that_do_not_fit_are_refused():
    decoder = tokens.TransformerDecoder(None, 12, 2, 2, window=(4,))
    with pytest.raises(ValueError, match="parts grids of 1 axes.*Give a window with 2 sizes"):
        models.MAE(small_transformer(), 0.5, decoder, views=None)
    with pytest.raises(ValueError, match="from 0 to below the window's size"):
        tokens.TransformerDecoder(3, window=(4, 4), shift=(4, 0))
    with pytest.raises(ValueError, match="for each of its 2 axes"):
        tokens.TransformerDecoder(3, window=(4, 4), shift=(2,))
    with pytest.raises(ValueError, match="give window="):
        tokens.TransformerDecoder(3, global_blocks=1)
    with pytest.raises(ValueError, match="to depth=2 global blocks"):
        tokens.TransformerDecoder(3, depth=2, window=(4, 4), global_blocks=3)


def test_audio_mae_has_the_decoder_of_its_authors():
    encoder = backbones.VisionTransformer("tiny", (256, 128, 1), 16, width=12, depth=1, heads=2)
    decoder = models.AudioMAE(encoder).decoder
    assert (decoder.width, decoder.depth, decoder.heads) == (512, 16, 16)
    assert (decoder.window, decoder.shift, decoder.global_blocks) == ((4, 4), (2, 0), 0)
    config = decoder.get_config()
    assert tokens.TransformerDecoder.from_config(config).get_config() == config


def test_audio_mae_may_attend_to_all():
    x, encoder = samples(models.AudioMAE, 4), encoder_for(models.AudioMAE)
    options = {"masking": 0.5, "decoder": (12, 2, 2), "seed": 0}
    made = []
    for cls, window in (
        (models.MAE, {}),
        (models.AudioMAE, {"window": None}),
        (models.AudioMAE, {"window": (4, 4)}),
        (models.AudioMAE, {"window": (2, 2)}),
    ):
        model = cls(encoder, **options, **window, views=None)
        views = {"inputs": x, "plan": model.plan_for(x, encoder, SEED)}
        made.append(float(model.compute_losses(views, False)["reconstruction"]))
    assert made[0] == made[1] == pytest.approx(made[2], rel=1e-6)
    assert abs(made[3] - made[0]) > 1e-5
