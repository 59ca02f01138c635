# SPDX-License-Identifier: Apache-2.0
"""The sparse autoencoder: what it keeps, its dictionary, dead latents, and its metrics."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_ssl
from keras_ssl import metrics, models

RNG = np.random.default_rng(0)


def planted(rows=4096, width=16, atoms=24, used=3):
    """Sums of few of many unit vectors, and the vectors."""
    rng = np.random.default_rng(1)
    directions = rng.normal(size=(atoms, width))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    codes = np.zeros((rows, atoms))
    for row in codes:
        row[rng.choice(atoms, used, replace=False)] = rng.uniform(0.5, 1.5, used)
    return (codes @ directions).astype("float32"), directions


def small(**options):
    return models.SparseAutoencoder(6, 10, seed=0, **options)


def rows(count=32, width=6):
    return RNG.normal(size=(count, width)).astype("float32")


@pytest.mark.parametrize("activation", [pytest.param("relu", marks=pytest.mark.slow), "topk"])
def test_it_finds_the_atoms_of_a_planted_dictionary(activation):
    x, atoms = planted()
    options = {"topk": {"k": 3, "auxiliary_k": 8, "dead_after": 20}, "relu": {"l1": 0.3}}
    model = models.SparseAutoencoder(16, 32, activation, seed=0, **options[activation])
    model.compile(keras.optimizers.Adam(5e-3), steps_per_execution=8)
    # Without a number of latents to keep, it takes longer.
    model.fit(x, batch_size=512, epochs={"topk": 50, "relu": 80}[activation], verbose=0)
    latents = model.predict(x, batch_size=4096, verbose=0)
    found = float(metrics.mean_max_cosine(model.dictionary, atoms))
    principal = np.linalg.svd(x - x.mean(0), full_matrices=False)[2]
    random = np.random.default_rng(2).normal(size=(32, 16))
    others = [float(metrics.mean_max_cosine(d, atoms, signed=False)) for d in (principal, random)]
    held = float(metrics.explained_variance(x, model.reconstruction(x)))
    said = (found, others, held, float(metrics.active_latents(latents)))
    assert found > 0.9 > max(others) + 0.1, said
    assert held > 0.8, said
    if activation == "topk":
        assert float(metrics.active_latents(latents)) <= 3.0


@pytest.mark.parametrize(
    ("activation", "kept"), [("relu", None), ("topk", 3), ("argmax", 1)], ids=lambda x: str(x)
)
def test_what_a_row_keeps(activation, kept):
    model = small(activation=activation, k=3)
    x = rows()
    pre = np.asarray(model.pre_activations(x))
    positive = np.maximum(pre, 0)
    order = np.argsort(-positive, axis=1, kind="stable")[:, :kept]
    wanted = np.zeros_like(positive)
    np.put_along_axis(wanted, order, np.take_along_axis(positive, order, 1), 1)
    np.testing.assert_allclose(model(x), wanted, atol=1e-6)
    np.testing.assert_array_equal(model.codes(x), positive.argmax(1))


def test_equal_latents_do_not_make_it_keep_more():
    model = small(activation="topk", k=3)
    assert np.count_nonzero(model.activate(tf.ones((5, 10)), 3), axis=1).tolist() == [3] * 5


@pytest.mark.parametrize("options", [{}, {"tied": True}, {"normalize": True}])
def test_directions_keep_length_one_and_latents_start_as_their_transpose(options):
    model = small(**options)
    names = {v.name for v in model.trainable_variables}
    assert names >= {"pre_bias", "latent_bias", "encoder"}
    assert ("decoder" in names) != model.tied
    if not model.tied:
        np.testing.assert_array_equal(model.encoder, model.decoder)
    model.compile(keras.optimizers.Adam(0.05))
    model.fit(rows(), epochs=3, verbose=0)
    stored = np.asarray(model.encoder if model.tied else model.decoder)
    np.testing.assert_allclose(np.linalg.norm(stored, axis=1), 1.0, atol=1e-6)
    if model.tied:
        np.testing.assert_allclose(model.decode(np.eye(10)) - model.pre_bias, stored, atol=1e-6)


def test_no_gradient_runs_along_a_direction():
    model = small()
    x = rows()
    with tf.GradientTape() as tape:
        loss = model.compute_losses(x, training=False)["reconstruction"]
    gradient = np.asarray(tape.gradient(loss, model.decoder.value))
    along = (gradient * np.asarray(model.decoder)).sum(axis=1)
    assert np.abs(gradient).max() > 1e-3 and np.abs(along).max() < 1e-6


def with_dead(**options):
    """A model of whose ten latents four never fire, trained long enough to know."""
    model = small(activation="topk", k=2, dead_after=2, **options)
    model.latent_bias.assign([-50.0] * 4 + [0.0] * 6)
    model.compile(keras.optimizers.SGD(0.0))
    model.fit(rows(64), batch_size=16, verbose=0)
    return model


def test_batches_without_use_are_counted_and_saved(tmp_path):
    model = with_dead()
    unused = np.asarray(model.unused)
    assert unused[:4].tolist() == [4] * 4 and unused[4:].min() == 1
    np.testing.assert_array_equal(model.dead, unused > 2)
    model.evaluate(rows(), verbose=0)
    assert np.asarray(model.unused)[0] == 4
    model.save(tmp_path / "model.keras")
    loaded = keras_ssl.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(loaded.unused, model.unused)


def test_the_auxiliary_term_reaches_dead_latents_and_no_living_one():
    model = with_dead(auxiliary_k=3)
    model.latent_bias.assign([0.0] * 10)
    x = rows()
    with tf.GradientTape() as tape:
        loss = model.compute_losses(x, training=False)["auxiliary"]
    into_decoder, into_encoder = tape.gradient(loss, [model.decoder.value, model.encoder.value])
    dead = np.asarray(model.dead)
    assert dead[:4].all() and not dead[4:].all() and float(loss) > 0
    for gradient in (into_decoder, into_encoder):
        size = np.abs(np.asarray(gradient)).max(axis=1)
        assert size[dead].min() > 0
        np.testing.assert_array_equal(size[~dead], 0)


def test_dead_latents_return():
    shares = {}
    x, _ = planted(1024)
    for auxiliary in (None, 16):
        model = models.SparseAutoencoder(
            16, 32, "topk", k=3, seed=0, auxiliary_k=auxiliary, dead_after=5, auxiliary_weight=1.0
        )
        model.latent_bias.assign([-1.0] * 16 + [0.0] * 16)
        model.compile(keras.optimizers.Adam(5e-3))
        model.fit(x, batch_size=256, epochs=40, verbose=0)
        shares[auxiliary] = float(metrics.dead_fraction(model(x)))
    assert shares[16] < shares[None] - 0.2, shares


def test_without_dead_latents_the_auxiliary_term_is_nothing():
    found = small(auxiliary_k=2).compute_losses(rows(), training=True)
    assert float(found["auxiliary"]) == 0.0


def test_adapt_puts_the_bias_at_the_geometric_median():
    x = np.concatenate([rows(200) * 0.1 + 3.0, rows(20) + 100.0])
    model = small()
    model.adapt(x)
    median = np.asarray(model.pre_bias)
    assert np.abs(median - 3.0).max() < 0.2 < np.abs(x.mean(0) - 3.0).min()
    pull = (x - median) / np.linalg.norm(x - median, axis=1, keepdims=True)
    assert np.abs(pull.mean(axis=0)).max() < 1e-2


def test_a_row_of_equal_numbers_is_no_nan():
    model = small(normalize=True)
    flat = np.full((2, 6), 3.0, "float32")
    np.testing.assert_allclose(model.reconstruction(flat), flat)
    losses = model.compute_losses(np.zeros((2, 6), "float32"), training=False)
    assert all(np.isfinite(float(value)) for value in losses.values())


def test_mistakes_are_named():
    with pytest.raises(ValueError, match="activation must be one of"):
        small(activation="gelu")
    with pytest.raises(ValueError, match="keeps 1 to all"):
        small(activation="topk", k=11)
    with pytest.raises(ValueError, match="auxiliary_k asks"):
        small(auxiliary_k=11)
    with pytest.raises(ValueError, match="row of its own"):
        small()(np.zeros((2, 3, 6), "float32"))


def test_metrics_of_dictionaries():
    latents = np.array([[0.0, 2.0, 0.0], [1.0, -1.0, 0.0]])
    assert float(metrics.active_latents(latents)) == 1.5
    assert float(metrics.dead_fraction(latents)) == pytest.approx(1 / 3)
    x = RNG.normal(size=(50, 4)) + 5
    assert float(metrics.explained_variance(x, x)) == 1.0
    assert float(metrics.explained_variance(x, np.tile(x.mean(0), (50, 1)))) == pytest.approx(0.0)
    assert float(metrics.explained_variance(x, 0 * x)) < 0
    assert metrics.loss_recovered(1.0, 1.0, 3.0) == 1.0
    assert metrics.loss_recovered(1.0, 3.0, 3.0) == 0.0
    atoms = np.eye(3)
    assert float(metrics.mean_max_cosine(5 * atoms[::-1], atoms)) == pytest.approx(1.0)
    assert float(metrics.mean_max_cosine(-atoms, atoms)) == pytest.approx(0.0)
    assert float(metrics.mean_max_cosine(-atoms, atoms, signed=False)) == pytest.approx(1.0)
    assert float(metrics.mean_max_cosine(atoms[:2], atoms)) == pytest.approx(2 / 3)
    with pytest.raises(ValueError, match="row i of both"):
        metrics.explained_variance(x, x[:3])
    with pytest.raises(ValueError, match="one space"):
        metrics.mean_max_cosine(atoms, x)
