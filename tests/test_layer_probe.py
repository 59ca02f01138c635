# SPDX-License-Identifier: Apache-2.0
"""Vectors of inner layers, and the choice among them."""

import keras
import numpy as np
import pytest
from keras import ops

from keras_ssl import backbones, evaluation, models, views

RNG = np.random.default_rng(0)


def transformer(**options):
    return backbones.VisionTransformer("tiny", (16, 16, 3), 8, depth=3, seed=0, **options)


@pytest.mark.parametrize("pooling", ["class", "mean"])
def test_blocks_are_normalised_and_pooled_as_by_hand(pooling):
    network, x = transformer(registers=2), RNG.random((5, 16, 16, 3), "float32")
    found = evaluation.layer_features(network, x, pooling=pooling)
    states = network.hidden_states(x)
    assert list(found) == [1, 2, 3]
    for number, state in enumerate(states, start=1):
        tokens = network.norm(state)
        wanted = tokens[:, 0] if pooling == "class" else ops.mean(tokens[:, 3:], axis=1)
        np.testing.assert_allclose(found[number], wanted, atol=2e-5)
    if pooling == "class":
        np.testing.assert_allclose(found[3], network(x), atol=2e-5)
    few = evaluation.layer_features(network, x, [1, 3], pooling=pooling)
    np.testing.assert_allclose(few[1], found[1], atol=1e-6)
    assert list(few) == [1, 3]


def test_last_blocks_stand_side_by_side_in_their_order():
    network, x = transformer(), RNG.random((4, 16, 16, 3), "float32")
    blocks = evaluation.layer_features(network, x)
    found = evaluation.last_blocks_features(network, x, 2, patches=True)
    mean = evaluation.layer_features(network, x, [3], pooling="mean")[3]
    np.testing.assert_allclose(found, np.hstack([blocks[2], blocks[3], mean]), atol=1e-6)


def test_maps_of_a_network_are_averaged_behind_its_preprocessing(tmp_path):
    inputs = keras.Input((16, 16, 3))
    x = keras.layers.Conv2D(4, 3, 2, "same", name="first")(inputs)
    x = keras.layers.Activation("relu", name="behind")(x)
    x = keras.layers.GlobalAveragePooling2D(name="pooled")(x)
    network = keras.Model(inputs, keras.layers.Dense(7, name="last")(x))
    view = views.Pipeline([views.HorizontalFlip(), views.Normalize((0.5,) * 3, (0.2,) * 3)])
    model = models.SimCLR(network, (8, 8), views=view, seed=0)
    images = RNG.integers(0, 256, (6, 16, 16, 3), "uint8")
    seen = model.views.preprocess(images)
    behind = keras.Model(network.inputs, network.get_layer("behind").output)(seen)
    for encoder in (model, model.standalone_encoder()):
        found = evaluation.layer_features(encoder, images)
        assert list(found) == ["behind", "pooled", "last"]
        np.testing.assert_allclose(found["behind"], ops.mean(behind, (1, 2)), atol=1e-5)
        np.testing.assert_allclose(found["pooled"], found["behind"], atol=1e-5)
        np.testing.assert_allclose(found["last"], network(seen), atol=1e-5)
    assert list(evaluation.layer_features(network, seen, ["last", "first"])) == ["first", "last"]
    kept = evaluation.layer_encoder(model, "behind")
    kept.save(tmp_path / "kept.keras")
    loaded = keras.saving.load_model(tmp_path / "kept.keras")
    np.testing.assert_allclose(loaded(images), found["behind"], atol=1e-5)
    assert kept.count_params() < network.count_params()


def test_the_best_layer_is_found_by_held_rows():
    y = np.arange(400) % 4
    x = (np.eye(4)[y] + 0.3 * RNG.normal(size=(400, 4))).astype("float32")
    inputs = keras.Input((4,))
    kept = keras.layers.Activation("linear", name="kept")(inputs)
    one = keras.layers.Dense(1, kernel_initializer="ones", name="one")(kept)
    network = keras.Model(inputs, one)
    found = evaluation.layer_probe(network, (x[:300], y[:300]), (x[300:], y[300:]))
    assert found.best == "kept"
    assert found.accuracy["kept"] > 0.9 > 0.5 > found.accuracy["one"]
    assert found.held_accuracy["kept"] > found.held_accuracy["one"]
    wanted = evaluation.linear_probe(x[:300], y[:300], x[300:], y[300:])
    assert found.accuracy["kept"] == pytest.approx(wanted, abs=0.011)
    assert np.asarray(found.show()).shape[2] == 3
    # Test rows choose nothing.
    other = evaluation.layer_probe(network, (x[:300], y[:300]), (x[300:], y[300:][::-1]))
    assert (other.best, other.held_accuracy) == (found.best, found.held_accuracy)


def test_mistakes_are_named():
    network, x = transformer(class_token=False), np.zeros((4, 16, 16, 3), "float32")
    with pytest.raises(ValueError, match="with a class token"):
        evaluation.layer_features(network, x, pooling="class")
    with pytest.raises(ValueError, match="1 to all blocks"):
        evaluation.last_blocks_features(network, x, 4)
    convnet = backbones.ConvNet((16, 16, 3), (8,), seed=0)
    with pytest.raises(ValueError, match="1 to all blocks"):
        evaluation.last_blocks_features(convnet, x, 1)
    with pytest.raises(ValueError, match="no layer 'none'"):
        evaluation.layer_features(convnet, x, ["none"])
    with pytest.raises(ValueError, match="none to choose"):
        evaluation.layer_probe(convnet, (x, [0, 1, 0, 1]), (x, [0, 1, 0, 1]), held=0.01)
