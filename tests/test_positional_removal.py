# SPDX-License-Identifier: Apache-2.0
"""What tells the place of a token is found, removed, and nothing else is."""

import keras
import numpy as np
import pytest
from model_test import images, small_transformer

import keras_ssl
from keras_ssl import layers

GRID, WIDTH = 8, 24
CHANCE = np.var(np.linspace(0, 1, GRID))


def planted(rows=48, seed=0):
    """Noise with row and column in two directions that are not orthogonal."""
    generator = np.random.default_rng(seed)
    place = np.linspace(-1, 1, GRID)
    first, second = np.linalg.qr(np.random.default_rng(9).normal(size=(WIDTH, 2)))[0].T
    tokens = generator.normal(size=(rows, GRID, GRID, WIDTH))
    tokens += 4 * place[:, None, None] * first + 3 * place[:, None] * (second + 0.5 * first)
    return tokens.astype("float32"), np.stack([first, second])


def explained(tokens):
    """Share of the variance of row and column that a ridge regression reads from other images."""
    place = np.linspace(-1, 1, GRID)
    target = np.stack(np.meshgrid(place, place, indexing="ij"), axis=-1)
    target = np.broadcast_to(target, (len(tokens), GRID, GRID, 2)).reshape(-1, 2)
    flat, half = np.asarray(tokens, "float64").reshape(-1, WIDTH), len(target) // 2
    train, test = flat[:half], flat[half:]
    # Without the ridge it would read the rounding of what was removed.
    square = train.T @ train + 1e-2 * half * np.eye(WIDTH)
    weights = np.linalg.solve(square, train.T @ target[:half])
    error = np.mean((test @ weights - target[half:]) ** 2, axis=0)
    return 1 - error / target.var(axis=0)


@pytest.fixture(scope="module")
def fitted():
    removal = layers.PositionalProjectionRemoval(rounds=2)
    tokens, _ = planted()
    errors = removal.adapt(
        tokens, epochs=60, batch_size=16, learning_rate=0.03, seed=0, verbose=False
    )
    return removal, errors


@pytest.mark.slow
def test_position_is_read_before_and_not_after(fitted):
    removal, errors = fitted
    tokens, _ = planted(seed=1)
    assert np.all(explained(tokens) > 0.7)
    assert np.all(explained(removal(tokens)) < 0.02)
    # The first round reads it, the second finds chance.
    assert errors[0] < 0.4 * CHANCE and errors[1] > 0.9 * CHANCE


def test_what_is_removed_is_the_planted_plane_and_orthogonal_to_the_rest(fitted):
    removal, _ = fitted
    tokens, plane = planted(seed=2)
    basis = np.asarray(removal.basis)
    np.testing.assert_allclose(basis @ basis.T, np.eye(4), atol=1e-5)
    assert np.all(np.linalg.norm(basis[:2] @ plane.T, axis=0) > 0.98)
    removed, left = np.asarray(removal.positional(tokens)), np.asarray(removal(tokens))
    np.testing.assert_allclose(removed + left, tokens, atol=1e-5)
    assert np.abs(np.sum(removed * left, axis=-1)).max() < 1e-3
    np.testing.assert_allclose(removal(left), left, atol=1e-5)


def test_rounds_in_one_layer_are_layers_one_behind_the_other(fitted):
    removal, _ = fitted
    tokens, _ = planted(4, seed=3)
    left = tokens
    for pair in (slice(0, 2), slice(2, 4)):
        one = layers.PositionalProjectionRemoval()
        one.build(tokens.shape)
        one.directions.assign(np.asarray(removal.basis)[pair])
        left = one(left)
    np.testing.assert_allclose(removal(tokens), left, atol=1e-5)


def test_the_row_comes_first_and_what_adds_nothing_removes_nothing():
    removal = layers.PositionalProjectionRemoval(rounds=2)
    removal.build((None, 3))
    tokens = np.random.default_rng(0).normal(size=(2, 5, 3)).astype("float32")
    np.testing.assert_array_equal(removal(tokens), tokens)
    removal.directions.assign([[2, 0, 0], [1, 1, 0], [5, -3, 0], [0, 0, 0]])
    np.testing.assert_allclose(
        removal.basis, [[1, 0, 0], [0, 1, 0], [0, 0, 0], [0, 0, 0]], atol=1e-6
    )
    np.testing.assert_allclose(removal(tokens), tokens * [0, 0, 1], atol=1e-6)


def test_adapting_repeats_and_forgets():
    tokens, _ = planted(16)
    removal = layers.PositionalProjectionRemoval()
    options = {"epochs": 3, "batch_size": 8, "learning_rate": 0.05, "seed": 4, "verbose": False}
    removal.adapt(tokens, **options)
    first = np.array(removal.directions)
    removal.adapt(tokens[..., ::-1], **options)
    assert not np.allclose(removal.directions, first, atol=1e-3)
    removal.adapt(tokens, **options)
    np.testing.assert_allclose(removal.directions, first, atol=1e-5)
    assert np.any(first) and not removal.trainable_variables


def test_a_bar_on_demand(capsys):
    tokens, _ = planted(4)
    removal = layers.PositionalProjectionRemoval()
    removal.adapt(tokens, epochs=2, batch_size=4)
    assert not capsys.readouterr().out
    removal.adapt(tokens, epochs=2, batch_size=4, verbose=True)
    assert "2/2" in capsys.readouterr().out


def test_behind_an_encoder_saved_and_with_its_class_token_left_alone(tmp_path):
    encoder, x = small_transformer(), images(8).astype("float32") / 255
    tokens = encoder.token_model().predict(x, verbose=0)
    removal = layers.PositionalProjectionRemoval(prefix=encoder.prefix.count)
    removal.adapt(tokens[:, 1:].reshape(8, 4, 4, -1), epochs=2, learning_rate=0.1, verbose=False)
    inputs = keras.Input((16, 16, 3))
    model = keras.Model(inputs, removal(encoder.token_model()(inputs)))
    clean = model.predict(x, verbose=0)
    np.testing.assert_allclose(clean[:, 0], tokens[:, 0], atol=1e-6)
    assert np.abs(clean[:, 1:] - tokens[:, 1:]).max() > 1e-2
    assert np.abs(clean[:, 1:] @ np.asarray(removal.basis).T).max() < 1e-4
    model.save(tmp_path / "clean.keras")
    loaded = keras_ssl.load_model(tmp_path / "clean.keras")
    np.testing.assert_allclose(loaded.predict(x, verbose=0), clean, atol=1e-6)


def test_half_precision_removes_as_much():
    keras.config.set_dtype_policy("mixed_bfloat16")
    removal = layers.PositionalProjectionRemoval()
    removal.build((None, 6))
    removal.directions.assign(np.eye(2, 6))
    tokens = keras.ops.cast(np.random.default_rng(0).normal(size=(4, 6)), "bfloat16")
    left = removal(tokens)
    assert keras.backend.standardize_dtype(left.dtype) == "bfloat16"
    assert not np.any(keras.ops.cast(left, "float32")[:, :2])
    assert removal.directions.dtype == "float32"


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda r, t: r.adapt(t[:, 0]), "N, rows, columns, D"),
        (lambda r, t: r.adapt(t[:, :1]), "at least 2 rows"),
        (lambda r, t: r.adapt(t[:0]), "N, rows, columns, D"),
        (lambda r, t: r.adapt(t * np.nan), "NaN"),
        (lambda r, t: r.adapt(t, epochs=0), "at least 1 epoch"),
        (lambda r, t: r.adapt(t, learning_rate=0.0), "learning rate above 0"),
        (lambda r, t: (r.build((None, 7)), r.adapt(t)), "built for 7"),
        (lambda r, t: layers.PositionalProjectionRemoval(0), "at least 1 round"),
        (lambda r, t: layers.PositionalProjectionRemoval(prefix=-1), "prefix of at least 0"),
    ],
)
def test_bad_input_is_named(wrong, message):
    with pytest.raises(ValueError, match=message):
        wrong(layers.PositionalProjectionRemoval(), np.ones((2, 3, 3, 5), "float32"))
