# SPDX-License-Identifier: Apache-2.0
"""Prototypes of an autoencoder: distances, the terms that tie them to samples, pictures."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from strategies import scope

from keras_ssl import callbacks, evaluation, layers
from tests.test_callbacks import tags


def codes(rows=8, shape=(5,), seed=0):
    return np.random.default_rng(seed).normal(size=(rows, *shape)).astype("float32")


def test_distances_are_those_of_numpy_for_codes_of_any_shape():
    layer = layers.PrototypeDistance(3, seed=0)
    z = codes(shape=(2, 2, 3))
    found = np.asarray(layer(z))
    p = np.asarray(layer.prototypes)
    assert p.shape == (3, 2, 2, 3) and p.min() >= 0 and p.max() <= 1
    wanted = ((z[:, None] - p[None]) ** 2).sum(axis=(2, 3, 4))
    np.testing.assert_allclose(found, wanted, rtol=1e-5)


def test_the_distance_of_equal_vectors_is_never_negative():
    layer = layers.PrototypeDistance(64, seed=0)
    layer.build((None, 30))
    far = 1000.0 + codes(64, (30,))
    layer.prototypes.assign(far)
    distances = np.asarray(layer(far))
    assert distances.min() == 0.0
    # Without the clip some would be: rounding goes both ways.
    squares = (far**2).sum(1)
    assert (squares[:, None] + squares - 2 * far @ far.T).min() < 0


def test_terms_join_the_loss_in_training_only_and_by_their_weights():
    z = codes()
    layer = layers.PrototypeDistance(3, near_samples=2.0, near_prototypes=0.5, seed=0)
    distances = np.asarray(layer(z, training=True))
    wanted = [2.0 * distances.min(axis=0).mean(), 0.5 * distances.min(axis=1).mean()]
    np.testing.assert_allclose([float(term) for term in layer.losses], wanted, rtol=1e-6)
    layer(z)
    assert layer.losses == []
    off = layers.PrototypeDistance(3, 0.0, 0.0)
    off(z, training=True)
    assert off.losses == []


def test_two_devices_train_as_one_with_plain_keras():
    results = []
    for replicas in (1, 2):
        keras.utils.set_random_seed(0)
        with scope(replicas):
            # The first crosses no devices, and both others do, after terms of others were added.
            weights = ((0.0, 0.5), (2.0, 0.5), (2.0, 0.5))
            parts = [layers.PrototypeDistance(3, *w, seed=n) for n, w in enumerate(weights)]
            small = [keras.layers.Rescaling(0.1) for _ in parts]
            model = keras.Sequential([keras.Input((5,)), *sum(zip(parts, small, strict=True), ())])
            model.compile(keras.optimizers.SGD(1e-3), "mse")
        data = tf.data.Dataset.from_tensors((codes(), codes(shape=(3,), seed=1)))
        start = [np.asarray(part.prototypes) for part in parts]
        losses = [model.fit(data, verbose=0).history["loss"][0] for _ in range(2)]
        assert losses[1] < losses[0]
        assert all(np.abs(p.prototypes - s).max() > 1e-4 for p, s in zip(parts, start, strict=True))
        results.append((losses, [np.asarray(w) for w in model.weights]))
    np.testing.assert_allclose(results[0][0], results[1][0], rtol=1e-5)
    for one, two in zip(results[0][1], results[1][1], strict=True):
        np.testing.assert_allclose(one, two, atol=1e-6)


def digits():
    from sklearn.datasets import load_digits

    data = load_digits()
    return (data.images[..., None] / 16).astype("float32"), data.target


def summed_square(x, y):
    return keras.ops.sum(keras.ops.square(x - y), axis=(1, 2, 3))


def classifier(images, count=15):
    """Autoencoder and classifier by prototypes; the model, its prototypes and its decoder."""
    start = keras.initializers.GlorotUniform
    encoder = keras.Sequential(
        [
            keras.Input(images.shape[1:]),
            keras.layers.Flatten(),
            keras.layers.Dense(32, "relu", kernel_initializer=start(seed=0)),
            keras.layers.Dense(10, kernel_initializer=start(seed=1)),
        ]
    )
    decoder = keras.Sequential(
        [
            keras.Input((10,)),
            keras.layers.Dense(32, "relu", kernel_initializer=start(seed=2)),
            keras.layers.Dense(64, "sigmoid", kernel_initializer=start(seed=3)),
            keras.layers.Reshape((8, 8, 1)),
        ]
    )
    distances = layers.PrototypeDistance(count, seed=0)
    inputs = keras.Input(images.shape[1:])
    code = encoder(inputs)
    last = keras.layers.Dense(10, use_bias=False, kernel_initializer=start(seed=4))
    outputs = {"logits": last(distances(code)), "reconstruction": decoder(code)}
    model = keras.Model(inputs, outputs)
    crossentropy = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(
        keras.optimizers.Adam(5e-3),
        {"logits": crossentropy, "reconstruction": summed_square},
        loss_weights={"logits": 20.0, "reconstruction": 1.0},
        metrics={"logits": "accuracy"},
    )
    return model, distances, decoder


def test_prototypes_classify_digits_and_look_like_them(tmp_path):
    x, y = digits()
    model, distances, decoder = classifier(x)
    pictures = callbacks.PrototypePictures(distances, decoder, tmp_path, every=10)
    model.fit(
        x[:1400],
        {"logits": y[:1400], "reconstruction": x[:1400]},
        batch_size=100,
        epochs=20,
        verbose=0,
        callbacks=[pictures],
    )
    assert tags(tmp_path)[1] == {"prototypes"}
    found = model.predict(x[1400:], verbose=0)["logits"].argmax(-1)
    assert np.mean(found == y[1400:]) > 0.85
    # A decoded prototype is nearer to some digit than digits are to their mean.
    shown = np.asarray(decoder(distances.prototypes))
    nearest = ((shown[:, None] - x[None, :1400]) ** 2).sum(axis=(2, 3, 4)).min(axis=1)
    spread = ((x - x.mean(0)) ** 2).sum(axis=(1, 2, 3)).mean()
    assert np.mean(nearest) < 0.6 * spread
    picture = evaluation.prototype_picture(distances, decoder)
    assert picture.dtype == "uint8" and picture.shape == (3 * 98, 5 * 98, 3)

    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras", compile=False)
    first, again = (m.predict(x[:4], verbose=0)["logits"] for m in (model, loaded))
    np.testing.assert_array_equal(first, again)


def test_mistakes_are_named(tmp_path):
    with pytest.raises(ValueError, match="count of at least 1"):
        layers.PrototypeDistance(0)
    with pytest.raises(ValueError, match="weights of at least 0"):
        layers.PrototypeDistance(2, near_samples=-1.0)
    with pytest.raises(ValueError, match="fixed shape"):
        layers.PrototypeDistance(2).build((None, None, 3))
    layer = layers.PrototypeDistance(2)
    with pytest.raises(ValueError, match="no prototypes"):
        evaluation.prototype_picture(layer, tf.identity)
    layer.build((None, 4))
    with pytest.raises(ValueError, match="must give images"):
        evaluation.prototype_picture(layer, tf.identity)
    with pytest.raises(ValueError, match="every"):
        callbacks.PrototypePictures(layer, tf.identity, tmp_path, every=0)
