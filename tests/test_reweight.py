# SPDX-License-Identifier: Apache-2.0
"""The fixed reweighting head: its weights, what trains beneath it, what is used afterwards."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from model_test import (
    assert_goes_on_alike,
    build,
    images,
    run_model_test,
    smooth_encoder,
    train,
    weights,
)

from keras_ssl import losses, models
from keras_ssl.layers import ReweightHead


def vectors(rows=5, width=7, seed=0):
    return np.random.default_rng(seed).normal(size=(rows, width)).astype("float32")


@pytest.mark.parametrize("kappa", [0.5, 1.01, 1.1, 3.0])
def test_feature_i_is_divided_i_times(kappa):
    x = vectors()
    wanted = np.array(x, "float64")
    for feature in range(1, x.shape[1]):
        wanted[:, feature:] /= kappa
    np.testing.assert_allclose(ReweightHead(kappa)(x), wanted, rtol=1e-6)


@pytest.mark.parametrize("kappa", [None, 1, 1.0])
def test_kappa_one_is_no_head(kappa):
    x = vectors()
    head = ReweightHead(kappa)
    assert np.array_equal(head(x), x)
    bare = build(models.SimCLR, {"projector": keras.layers.Identity()})
    same = build(models.SimCLR, {"projector": ReweightHead(kappa)})
    assert_goes_on_alike(train(bare, 2), train(same, 2))


def test_it_has_nothing_to_train_and_changes_what_trains():
    head = ReweightHead(1.5)
    head.build((None, 7))
    assert head.variables == []
    model = build(models.SimCLR, {"projector": ReweightHead(1.5)})
    plain = build(models.SimCLR, {"projector": ReweightHead()})
    train(model, 1), train(plain, 1)
    pairs = zip(weights(model).values(), weights(plain).values(), strict=True)
    assert any(not np.array_equal(a, b) for a, b in pairs)


def test_the_gradient_of_a_feature_carries_its_weight():
    head, x = ReweightHead(2.0), tf.constant(vectors())
    with tf.GradientTape() as tape:
        tape.watch(x)
        total = tf.reduce_sum(head(x))
    np.testing.assert_allclose(tape.gradient(total, x)[0], 2.0 ** -np.arange(7.0), rtol=1e-6)


def test_after_a_normalisation_only_ratios_matter():
    x = vectors()
    head = ReweightHead(1.3)
    # Dropping the first feature shifts every power by one.
    shifted = losses.normalize(head(x[:, 1:]))
    np.testing.assert_allclose(shifted, losses.normalize(ReweightHead(1.3)(x)[:, 1:]), atol=1e-6)


def test_what_is_used_afterwards_is_un_weighted():
    model = build(models.SimCLR, {"projector": ReweightHead(4.0)})
    train(model, 1)
    batch = images(4)
    view = model.views.preprocess(batch)
    features = np.asarray(model.encoder(view))
    np.testing.assert_allclose(model.predict(batch, verbose=0), features, atol=1e-6)
    projected = np.asarray(model.project(view))
    np.testing.assert_allclose(projected, features * 4.0 ** -np.arange(16.0), rtol=1e-5)


@pytest.mark.parametrize("cls", [models.BarlowTwins, models.VICReg, models.MoCoV2])
def test_any_method_takes_it_as_its_projector(cls):
    options = {"queue_size": 40} if cls is models.MoCoV2 else {}
    log = train(build(cls, {"projector": ReweightHead(1.05), **options}), 1)[0]
    assert np.isfinite(log["loss"])


def test_a_model_with_it_saves_and_continues():
    run_model_test(models.SimCLR, {"projector": ReweightHead(1.05)})


def test_mistakes_are_named():
    for kappa in (0, -1.1, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="kappa > 0"):
            ReweightHead(kappa)
    with pytest.raises(ValueError, match="float32 cannot hold"):
        models.SimCLR(smooth_encoder(), projector=ReweightHead(1e-3))
