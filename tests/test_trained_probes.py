# SPDX-License-Identifier: Apache-2.0
"""Probes trained by gradient descent: sweeps, queries and prototypes on frozen features."""

import keras
import numpy as np
import pytest
from sklearn.datasets import load_digits

from keras_ssl import evaluation
from keras_ssl.evaluation._probe_heads import ProbeHeads, summed_crossentropy


@pytest.fixture(scope="module")
def digits():
    data = load_digits()
    # Rows are tokens, which say where they are.
    places = np.broadcast_to(np.eye(8, dtype="float32"), (len(data.images), 8, 8))
    x = np.concatenate([(data.images / 16).astype("float32"), places], axis=2)
    return x[:1200], data.target[:1200], x[1200:], data.target[1200:]


def rows(digits):
    """The same images as vectors."""
    return [p[:, :, :8].reshape(len(p), -1) if p.ndim == 3 else p for p in digits]


@pytest.mark.slow
def test_the_sweep_is_within_half_a_point_of_logistic_regression(digits):
    data = rows(digits)
    # The decay that makes the objective that of logistic regression with C = 0.05.
    decay = 1 / (0.05 * 1200)
    options = {"weight_decays": (decay, 3.0), "learning_rates": (0.001, 0.3, 1.0)}
    found = evaluation.swept_linear_probe(*data, **options, epochs=25, batch_size=64)
    wanted = evaluation.linear_probe(*data, C=0.05)
    assert found.accuracy == pytest.approx(wanted, abs=0.005)
    assert len(found.held_accuracy) == 6 and found.weight_decay == decay
    best = max(found.held_accuracy.values())
    assert found.held_accuracy[found.learning_rate, found.weight_decay] == best
    # Rates differ: the smallest has hardly begun.
    assert best > found.held_accuracy[0.001, decay] + 0.01
    logits = found.classifier.predict(data[2], verbose=0)
    assert np.mean(logits.argmax(1) == data[3]) == pytest.approx(found.accuracy)


def test_heads_trained_together_are_those_trained_alone():
    x = np.random.default_rng(0).normal(size=(64, 5)).astype("float32")
    y = np.random.default_rng(1).integers(0, 3, 64)
    settings = [(0.1, 0.0), (0.5, 0.01), (2.0, 0.1)]

    def plain(rate, decay):
        """One head by plain momentum on its own weights."""
        start = {"kernel_initializer": "zeros"}
        dense = keras.layers.Dense(3, kernel_regularizer=keras.regularizers.L2(decay / 2), **start)
        model = keras.Sequential([keras.Input((5,)), dense])
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        model.compile(keras.optimizers.SGD(rate, momentum=0.9, nesterov=True), loss)
        model.fit(x, y, batch_size=16, epochs=2, shuffle=False, verbose=0)
        return dense.get_weights()

    heads = ProbeHeads(3, *zip(*settings, strict=True))
    inputs = keras.Input((5,))
    model = keras.Model(inputs, heads(inputs))
    model.compile(keras.optimizers.SGD(1.0, momentum=0.9, nesterov=True), summed_crossentropy)
    model.fit(x, y, batch_size=16, epochs=2, shuffle=False, verbose=0)
    kernels, biases = (np.asarray(w) for w in heads.weights_of())
    for index, setting in enumerate(settings):
        kernel, bias = plain(*setting)
        np.testing.assert_allclose(kernels[index], kernel, atol=1e-5)
        np.testing.assert_allclose(biases[index], bias, atol=1e-5)


def test_the_test_rows_choose_nothing_and_the_seed_decides(digits):
    data = [part[:200] for part in rows(digits)]
    options = {"epochs": 1, "learning_rates": (0.01, 0.1), "weight_decays": (0.0,)}
    first = evaluation.swept_linear_probe(*data, **options)
    shuffled = [*data[:3], np.random.default_rng(0).permutation(data[3])]
    other = evaluation.swept_linear_probe(*shuffled, **options)
    assert other.held_accuracy == first.held_accuracy
    assert other.accuracy < first.accuracy
    for one, two in zip(
        first.classifier.get_weights(), other.classifier.get_weights(), strict=True
    ):
        np.testing.assert_array_equal(one, two)
    seeded = evaluation.swept_linear_probe(*data, **options, seed=1).classifier
    assert not np.array_equal(seeded.get_weights()[-2], first.classifier.get_weights()[-2])


def test_dimensions_that_never_vary_and_unlabelled_rows_do_no_harm(digits):
    data = [part[:200] for part in rows(digits)]
    options = {"epochs": 2, "learning_rates": (0.1,), "weight_decays": (0.0,), "refit": False}
    wide = [np.pad(data[0], ((0, 0), (0, 3))), data[1], np.pad(data[2], ((0, 0), (0, 3))), data[3]]
    alone = evaluation.swept_linear_probe(*data, **options).accuracy
    assert evaluation.swept_linear_probe(*wide, **options).accuracy == pytest.approx(alone)
    unlabelled = [
        np.concatenate([data[0], 1000.0 * data[0]]),
        np.concatenate([data[1], np.full(200, -1)]),
        *data[2:],
    ]
    found = evaluation.swept_linear_probe(*unlabelled, **options).accuracy
    assert found == pytest.approx(alone)


def needles(count, seed):
    """Ten tokens of noise, one of which is the sign of one of four classes."""
    rng = np.random.default_rng(seed)
    x, y = 0.3 * rng.normal(size=(count, 10, 48)), rng.integers(0, 4, count)
    x[np.arange(count), rng.integers(0, 10, count)] += 4.0 * np.eye(48)[y]
    return x.astype("float32"), y


@pytest.mark.slow
def test_probes_of_tokens_find_what_a_mean_blurs_with_two_kinds_of_labels():
    data = *needles(800, 0), *needles(400, 1)
    found = evaluation.attentive_probe(*data, heads=2, epochs=10, learning_rate=1e-2)
    assert found.score > 0.85, found.score
    options = {"prototypes": 3, "epochs": 6}
    matched = evaluation.prototypical_probe(*data, **options)
    assert matched.score > 0.9, matched.score
    # The best match of the right class is where its sign stands.
    matches = matched.classifier.layers[-1].matches(data[2][:100])
    own = np.asarray(matches)[np.arange(100), :, data[3][:100]].max(-1)
    stands = data[2][np.arange(100), :, data[3][:100]].argmax(1)
    assert np.mean(own.argmax(1) == stands) > 0.8
    several = [np.eye(4, dtype="int32")[part] if part.ndim == 1 else part for part in data]
    assert evaluation.prototypical_probe(*several, **options).score > 0.9
    assert evaluation.attentive_probe(*several, heads=2, epochs=1).score > 0.2


def test_mistakes_are_named(digits):
    data = rows(digits)
    with pytest.raises(ValueError, match="rows to choose by"):
        evaluation.swept_linear_probe(*data, held=0.0)
    with pytest.raises(ValueError, match="0 settings"):
        evaluation.swept_linear_probe(*data, learning_rates=())
    with pytest.raises(ValueError, match="tokens=True"):
        evaluation.attentive_probe(*data, heads=2)
    with pytest.raises(ValueError, match="class index of each"):
        evaluation.prototypical_probe(digits[0], digits[1][:5], *digits[2:])
    with pytest.raises(ValueError, match="labels of one kind"):
        evaluation.prototypical_probe(digits[0], np.eye(10)[digits[1]], *digits[2:])
    with pytest.raises(ValueError, match="at least one label"):
        evaluation.attentive_probe(digits[0], np.full(1200, -1), *digits[2:], heads=2)
