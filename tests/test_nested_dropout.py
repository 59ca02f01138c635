# SPDX-License-Identifier: Apache-2.0
"""Nested dropout: what is drawn, what is kept, and the order that it teaches."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from strategies import run_on, scope

from keras_ssl import layers


def kept(outputs):
    """How many of the features, all ones, every row kept."""
    rows = np.asarray(outputs)
    counts = rows.sum(axis=-1).astype(int)
    assert np.array_equal(rows, np.arange(rows.shape[-1]) < counts[..., None])
    return counts


def test_what_is_kept_follows_the_distribution():
    dropout = layers.NestedDropout(mean=3.0, deviation=4.0, per="sample", seed=0)
    counts = kept(dropout(tf.ones((20000, 8)), training=True))
    share = np.bincount(counts, minlength=9)[1:] / len(counts)
    k = np.arange(1, 9)
    wanted = np.exp(-(((k - 3.0) / 4.0) ** 2))
    np.testing.assert_allclose(share, wanted / wanted.sum(), atol=0.012)


def test_one_number_a_batch_or_a_sample_and_new_ones_each_time():
    for per, several in (("batch", False), ("sample", True)):
        dropout = layers.NestedDropout(deviation=10.0, per=per, seed=0)
        drawn = [kept(dropout(tf.ones((64, 5, 12)), training=True)) for _ in range(4)]
        assert (len({tuple(rows[:, 0]) for rows in drawn}) > 1) and drawn[0].shape == (64, 5)
        # The positions of a sample share its number.
        assert all(np.array_equal(rows, np.repeat(rows[:, :1], 5, axis=1)) for rows in drawn)
        assert (len(set(drawn[0][:, 0])) > 1) == several


@pytest.mark.parametrize("per", ["batch", "sample"])
def test_devices_keep_what_one_would(per):
    def draw(replicas):
        with scope(replicas):
            dropout = layers.NestedDropout(deviation=10.0, per=per, seed=3)
            dropout.build((None, 9))
        found = run_on(replicas, lambda x: dropout(x, training=True), np.ones((8, 9)))
        return np.concatenate([kept(x) for x in found])

    np.testing.assert_array_equal(draw(1), draw(2))


def test_afterwards_all_features_or_the_first_stay_and_nothing_is_rescaled(tmp_path):
    x = np.random.default_rng(0).normal(size=(3, 6)).astype("float32")
    dropout = layers.NestedDropout(deviation=2.0, seed=0)
    np.testing.assert_array_equal(dropout(x), x)
    dropout.keep = 2
    model = keras.Sequential([keras.Input((6,)), dropout])
    model.save(tmp_path / "model.keras")
    for layer in (dropout, keras.saving.load_model(tmp_path / "model.keras").layers[0]):
        np.testing.assert_array_equal(layer(x), x * (np.arange(6) < 2))
        cut = np.asarray(layer(x, training=True))
        assert np.array_equal(cut[cut != 0], x[cut != 0]) and cut.dtype == "float32"


def test_a_distribution_far_from_all_features_is_finite():
    found = layers.NestedDropout(mean=1000.0, deviation=1.0).probabilities(5)
    np.testing.assert_allclose(found, [0, 0, 0, 0, 1], atol=1e-12)


def principal_cosines(per):
    """|cosine| of each column of a trained linear decoder with each principal direction."""
    rng = np.random.default_rng(0)
    axes = np.linalg.qr(rng.normal(size=(6, 6)))[0]
    x = (rng.normal(size=(512, 6)) * [3.0, 2.2, 1.6, 1.1, 0.3, 0.2]) @ axes.T
    x = (x - x.mean(0)).astype("float32")
    start = keras.initializers.GlorotUniform
    model = keras.Sequential(
        [
            keras.Input((6,)),
            keras.layers.Dense(4, use_bias=False, kernel_initializer=start(seed=0)),
            layers.NestedDropout(deviation=4.0, per=per, seed=0)
            if per
            else keras.layers.Identity(),
            keras.layers.Dense(6, use_bias=False, kernel_initializer=start(seed=1)),
        ]
    )
    rate = keras.optimizers.schedules.CosineDecay(0.03, 1500)
    model.compile(keras.optimizers.Adam(rate), "mse", steps_per_execution=100)
    data = tf.data.Dataset.from_tensors((x, x)).cache().repeat()
    model.fit(data, epochs=1, steps_per_epoch=1500, verbose=0)
    decoder = np.asarray(model.layers[-1].kernel)
    principal = np.linalg.svd(x, full_matrices=False)[2]
    return np.abs(decoder / np.linalg.norm(decoder, axis=1, keepdims=True) @ principal.T)


@pytest.mark.parametrize("per", ["batch", "sample"])
def test_a_linear_autoencoder_finds_principal_directions_in_order(per):
    cosines = principal_cosines(per)
    assert np.all(np.diag(cosines) > 0.97), np.round(cosines, 2)


def test_without_it_the_order_is_any():
    assert np.min(np.diag(principal_cosines(None))) < 0.9


@pytest.mark.parametrize(
    "options", [{"deviation": 0.0}, {"per": "image"}, {"keep": 0}], ids=lambda o: next(iter(o))
)
def test_mistakes_are_named(options):
    with pytest.raises(ValueError, match="NestedDropout needs"):
        layers.NestedDropout(**options)
    with pytest.raises(ValueError, match="known number"):
        layers.NestedDropout().build((None, None))
