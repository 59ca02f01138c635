# SPDX-License-Identifier: Apache-2.0
"""Heads, batch-norm surgery and the encoder wrapper."""

import logging

import keras
import numpy as np
import pytest

from keras_ssl import layers
from tests.strategies import run_on

HEADS = {
    # name: (arguments, bias of each linear layer, (scale, offset) of each batch norm)
    "simclr_v1": (
        dict(widths=(32, 16), bias="none", last_batch_norm="scale"),
        [False, False],
        [(True, True), (True, False)],
    ),
    "simclr_v2": (
        dict(widths=(32, 32, 16), bias="none", last_batch_norm="scale"),
        [False, False, False],
        [(True, True), (True, True), (True, False)],
    ),
    "byol": (dict(widths=(32, 16), bias="hidden"), [True, False], [(True, True)]),
    "simsiam_projector": (
        dict(widths=(32, 32, 32), bias="none", last_batch_norm="plain"),
        [False, False, False],
        [(True, True), (True, True), (False, False)],
    ),
    "simsiam_predictor": (dict(widths=(8, 32), bias="last"), [False, True], [(True, True)]),
    "barlow_twins": (
        dict(widths=(32, 32, 32), bias="none"),
        [False, False, False],
        [(True, True), (True, True)],
    ),
    "no_batch_norm": (
        dict(widths=(32, 16), batch_norm=False, bias="all"),
        [True, True],
        [],
    ),
}


def vectors(rows=6, width=12, seed=0):
    return np.random.default_rng(seed).normal(size=(rows, width)).astype("float32")


def small_model(name="inner"):
    inputs = keras.Input((8, 8, 3))
    x = keras.layers.Conv2D(4, 3, name=f"{name}_conv")(inputs)
    x = keras.layers.BatchNormalization(name=f"{name}_norm")(x)
    return keras.Model(inputs, keras.layers.GlobalAveragePooling2D()(x), name=name)


def nested_model():
    inputs = keras.Input((8, 8, 3))
    x = small_model()(inputs)
    x = keras.layers.BatchNormalization(name="outer_norm")(x)
    x = layers.MLP((8, 4), synchronized=False, name="head")(x)
    model = keras.Model(inputs, x, name="nested")
    rng = np.random.default_rng(1)
    model.set_weights([rng.uniform(0.5, 1.5, w.shape) for w in model.get_weights()])
    return model


@pytest.mark.parametrize("name", HEADS)
def test_head_has_the_biases_and_scales_of_its_paper(name):
    options, biases, norms = HEADS[name]
    head = layers.MLP(**options, seed=0)
    output = head(vectors())
    linear = [layer for layer in head.blocks if isinstance(layer, keras.layers.Dense)]
    found = [b for b in head.blocks if isinstance(b, keras.layers.BatchNormalization)]
    assert output.shape == (6, options["widths"][-1])
    assert [layer.units for layer in linear] == list(options["widths"])
    assert [layer.use_bias for layer in linear] == biases
    assert [(layer.scale, layer.center) for layer in found] == norms
    assert all(layer.momentum == 0.9 and layer.epsilon == 1e-5 for layer in found)


def test_head_computes_linear_norm_relu_linear():
    head = layers.MLP((5, 3), bias="last", seed=0)
    x = vectors()
    got = keras.ops.convert_to_numpy(head(x, training=True))
    first, last = head.blocks[0], head.blocks[-1]
    hidden = x @ keras.ops.convert_to_numpy(first.kernel)
    hidden = (hidden - hidden.mean(0)) / np.sqrt(hidden.var(0) + 1e-5)
    want = np.maximum(hidden, 0) @ keras.ops.convert_to_numpy(last.kernel)
    np.testing.assert_allclose(got, want, atol=1e-5)


def test_head_uses_its_own_statistics_in_training_only():
    head = layers.MLP((5, 3), seed=0)
    x = vectors() + 3.0
    training = keras.ops.convert_to_numpy(head(x, training=True))
    moved = keras.ops.convert_to_numpy(head.blocks[1].moving_mean)
    inference = keras.ops.convert_to_numpy(head(x, training=False))
    assert np.abs(moved).max() > 0.01
    assert np.abs(training - inference).max() > 0.01


def test_head_seed_fixes_weights_and_tells_layers_apart():
    heads = [layers.MLP((12, 12), seed=seed) for seed in (3, 3, 4)]
    for head in heads:
        head.build((None, 12))
    first, second, other = (head.get_weights() for head in heads)
    for one, two in zip(first, second, strict=True):
        np.testing.assert_array_equal(one, two)
    assert np.abs(first[0] - other[0]).max() > 0
    kernels = [block.kernel for block in heads[0].blocks if isinstance(block, keras.layers.Dense)]
    assert np.abs(kernels[0].numpy() - kernels[1].numpy()).max() > 0


def test_head_survives_saving(tmp_path):
    inputs = keras.Input((12,))
    head = layers.MLP((8, 4), bias="none", last_batch_norm="plain", activation="gelu", seed=5)
    model = keras.Model(inputs, head(inputs))
    model.save(tmp_path / "head.keras")
    loaded = keras.models.load_model(tmp_path / "head.keras")
    assert loaded.layers[-1].get_config() == head.get_config()
    np.testing.assert_allclose(loaded(vectors()), model(vectors()), atol=1e-6)


def test_head_computes_in_bfloat16_with_float32_weights():
    head = layers.MLP((8, 4), dtype="mixed_bfloat16", seed=0)
    output = head(vectors(), training=True)
    assert keras.backend.standardize_dtype(output.dtype) == "bfloat16"
    assert {v.dtype for v in head.trainable_variables} == {"float32"}


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"widths": ()}, "positive integers"),
        ({"widths": (8, 0)}, "positive integers"),
        ({"widths": (8, 4.5)}, "positive integers"),
        ({"widths": (8,), "bias": "some"}, "bias must be one of"),
        ({"widths": (8,), "last_batch_norm": "full"}, "last_batch_norm must be one of"),
        ({"widths": (8,), "last_batch_norm": True}, "last_batch_norm must be one of"),
    ],
)
def test_head_rejects_wrong_arguments(options, match):
    with pytest.raises(ValueError, match=match):
        layers.MLP(**options)


def test_head_rejects_feature_maps():
    with pytest.raises(ValueError, match="as_encoder"):
        layers.MLP((8,)).build((None, 4, 4, 8))


def test_synchronized_copy_equals_the_original():
    model = nested_model()
    names = layers.unsynchronized_batch_norms(model)
    assert names == ["inner/inner_norm", "outer_norm", "head/batch_norm_1"]
    copy = layers.synchronize_batch_norm(model)
    assert layers.unsynchronized_batch_norms(copy) == []
    assert layers.unsynchronized_batch_norms(model) == names
    images = np.random.default_rng(0).uniform(size=(5, 8, 8, 3)).astype("float32")
    np.testing.assert_array_equal(model(images), copy(images))
    np.testing.assert_allclose(model(images, training=True), copy(images, training=True), atol=1e-4)
    assert copy.get_layer("inner") is not model.get_layer("inner")


def test_synchronized_copy_stays_synchronized_after_saving(tmp_path):
    copy = layers.synchronize_batch_norm(nested_model())
    copy.save(tmp_path / "copy.keras")
    loaded = keras.models.load_model(tmp_path / "copy.keras")
    assert layers.unsynchronized_batch_norms(loaded) == []


def test_synchronized_copy_keeps_frozen_variables_frozen():
    model = nested_model()
    model.get_layer("inner").trainable = False
    copy = layers.synchronize_batch_norm(model)
    assert len(copy.trainable_variables) == len(model.trainable_variables)


def test_synchronized_copy_of_a_sequential_model():
    model = keras.Sequential(
        [keras.Input((4,)), keras.layers.Dense(3), keras.layers.BatchNormalization(name="norm")]
    )
    copy = layers.synchronize_batch_norm(model)
    assert layers.unsynchronized_batch_norms(model) == ["norm"]
    assert layers.unsynchronized_batch_norms(copy) == []
    np.testing.assert_array_equal(model(vectors(width=4)), copy(vectors(width=4)))


def test_synchronizing_needs_a_built_model():
    with pytest.raises(ValueError, match="not built"):
        layers.synchronize_batch_norm(keras.Sequential([keras.layers.Dense(3)]))


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="replicas are TensorFlow's")
def test_synchronized_copy_sees_the_batch_of_all_replicas():
    model = nested_model()
    images = np.random.default_rng(0).uniform(size=(6, 8, 8, 3)).astype("float32")
    images[:3] += 2.0
    want = np.asarray(layers.synchronize_batch_norm(model)(images, training=True))

    def output(copy):
        return np.concatenate(run_on(2, lambda rows: copy(rows, training=True), images))

    np.testing.assert_allclose(output(layers.synchronize_batch_norm(model)), want, atol=1e-4)
    assert np.abs(output(model) - want).max() > 0.01


class Subclassed(keras.Model):
    """A model without symbolic tensors, as users write them."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.conv = keras.layers.Conv2D(4, 3)
        self.norm = keras.layers.BatchNormalization(name="norm")

    def call(self, inputs, training=False):
        return self.norm(self.conv(inputs), training=training)


def test_subclassed_model_becomes_an_encoder_and_is_synchronized():
    model = Subclassed()
    with pytest.raises(ValueError, match="input_shape="):
        layers.as_encoder(model)
    images = np.ones((2, 8, 8, 3), "float32")
    model(images)
    assert layers.as_encoder(model).output_shape == (None, 4)
    assert layers.as_encoder(Subclassed(), (8, 8, 3)).output_shape == (None, 4)
    assert layers.unsynchronized_batch_norms(model) == ["norm"]
    copy = layers.synchronize_batch_norm(model)
    assert layers.unsynchronized_batch_norms(copy) == []
    np.testing.assert_array_equal(model(images), copy(images))


def test_vector_encoder_is_returned_as_it_is(caplog):
    model = small_model()
    with caplog.at_level(logging.INFO, logger="keras_ssl"):
        assert layers.as_encoder(model) is model
    assert not caplog.records


@pytest.mark.parametrize("shape", [(10, 3), (8, 8, 3), (4, 4, 4, 3)])
def test_feature_map_is_averaged_with_one_log_line(shape, caplog):
    inputs = keras.Input(shape)
    model = keras.Model(inputs, keras.layers.Dense(5)(inputs), name="map")
    with caplog.at_level(logging.INFO, logger="keras_ssl"):
        encoder = layers.as_encoder(model)
    assert len(caplog.records) == 1 and "'map'" in caplog.text
    x = np.random.default_rng(0).normal(size=(2, *shape)).astype("float32")
    want = np.asarray(model(x)).reshape(2, -1, 5).mean(1)
    np.testing.assert_allclose(encoder(x), want, atol=1e-5)
    assert encoder.weights[0] is model.weights[0]


def test_wrong_encoders_are_refused():
    inputs = keras.Input((8, 8, 3))
    with pytest.raises(TypeError, match="Keras model"):
        layers.as_encoder(keras.layers.Dense(3))
    with pytest.raises(ValueError, match="has 2"):
        layers.as_encoder(keras.Model(inputs, [inputs, inputs]))
    scalar = keras.Model(inputs, keras.ops.mean(inputs, axis=(1, 2, 3)))
    with pytest.raises(ValueError, match="vector for each sample"):
        layers.as_encoder(scalar)
    free = keras.Input((None, None, 3))
    flat = keras.Model(free, keras.layers.Flatten()(free))
    with pytest.raises(ValueError, match="fixed output width"):
        layers.as_encoder(flat)
