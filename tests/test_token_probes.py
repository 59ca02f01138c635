# SPDX-License-Identifier: Apache-2.0
"""What reads frozen tokens: learned queries, and prototypes of classes."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_ssl import layers, losses, tokens

RNG = np.random.default_rng(0)


def some_tokens(rows=3, count=7, width=12, seed=0):
    return np.random.default_rng(seed).normal(size=(rows, count, width)).astype("float32")


POOLS = {
    "V-JEPA": {},
    "V-JEPA 2": {"depth": 3},
    "CAE": {"residual": False, "mlp_ratio": 0.0, "normalize": "each", "projection": True},
    "three queries": {"queries": 3},
}


def pooling(name, **options):
    return tokens.AttentivePooling(
        4, seed=0, kernel_initializer="glorot_uniform", **POOLS[name], **options
    )


@pytest.mark.parametrize("name", POOLS)
def test_neither_order_nor_copies_nor_padding_of_tokens_matter(name):
    pool, x = pooling(name), some_tokens()
    found = np.asarray(pool(x))
    assert found.shape == pool.compute_output_shape(x.shape) and found.std() > 0
    np.testing.assert_allclose(pool(x[:, RNG.permutation(7)]), found, atol=1e-5)
    np.testing.assert_allclose(pool(np.repeat(x, 2, axis=1)), found, atol=1e-5)
    padded = np.concatenate([x, 100.0 * some_tokens(count=2)], axis=1)
    real = np.arange(9)[None] < np.full((3, 1), 7)
    np.testing.assert_allclose(pool(padded, padding_mask=real), found, atol=1e-5)
    assert np.abs(np.asarray(pool(padded)) - found).max() > 1e-3


@pytest.mark.parametrize("name", POOLS)
def test_saving_and_its_seed_keep_it(name, tmp_path):
    x = some_tokens()
    inputs = keras.Input((None, 12))
    model = keras.Model(inputs, pooling(name)(inputs))
    model.save(tmp_path / "pool.keras")
    loaded = keras.saving.load_model(tmp_path / "pool.keras")
    np.testing.assert_array_equal(loaded(x), model(x))
    again = keras.Model(inputs, pooling(name)(inputs))
    np.testing.assert_array_equal(again(x), model(x))
    starts = [w.numpy().tobytes() for w in model.weights if w.ndim > 1]
    assert len(set(starts)) == len(starts)


def test_it_finds_the_one_token_that_counts():
    """Classes differ in one token of sixteen, which stands anywhere: a mean hardly shows it."""
    keras.utils.set_random_seed(0)
    x, y = some_tokens(512, 16), RNG.integers(0, 2, 512)
    sign = np.where(y == 1, 1.0, -1.0)[:, None] * np.eye(12)[0] + 4.0 * np.eye(12)[1]
    x[np.arange(512), RNG.integers(0, 16, 512)] = sign + 0.1 * some_tokens(512, 1)[:, 0]
    probe = keras.Sequential([pooling("V-JEPA"), keras.layers.Dense(2)])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    probe.compile(keras.optimizers.Adam(3e-3), loss, metrics=["accuracy"])
    probe.fit(x[:384], y[:384], batch_size=64, epochs=25, verbose=0)
    found = probe.evaluate(x[384:], y[384:], verbose=0)[1]
    from keras_ssl import evaluation

    mean = evaluation.linear_probe(x[:384].mean(1), y[:384], x[384:].mean(1), y[384:])
    assert found > 0.95 > mean + 0.1, (found, mean)


def test_a_class_asks_only_its_own_prototypes_and_lengths_do_not_matter():
    head = layers.PrototypicalHead(3, 4, seed=0)
    x = some_tokens()
    logits = np.asarray(head(x))
    np.testing.assert_allclose(head(100.0 * x), logits, atol=1e-4)
    np.testing.assert_allclose(head(x.reshape(3, 7, 1, 12)), logits, atol=1e-6)
    np.testing.assert_allclose(head(x[:, RNG.permutation(7)]), logits, atol=1e-6)
    head.kernel.assign(head.kernel + np.eye(3)[1][:, None, None])
    moved = np.asarray(head(x)) - logits
    assert (moved[:, [0, 2]] == 0).all() and (moved[:, 1] != 0).all()
    # Nothing is gained by a weight below 0.
    head.weight.assign(-np.ones((3, 4)))
    np.testing.assert_array_equal(np.asarray(head(x)), np.full((3, 3), -2.0))


def test_a_token_equal_to_a_prototype_matches_there():
    head = layers.PrototypicalHead(2, 3, seed=0)
    x = some_tokens()
    head(x)
    head.kernel.assign(np.stack([x[0, :3], x[1, 2:5]]))
    matches = np.asarray(head.matches(x))
    assert matches.shape == (3, 7, 2, 3)
    np.testing.assert_allclose(matches[0, [0, 1, 2], 0, [0, 1, 2]], 1 / 1.01, atol=1e-3)
    np.testing.assert_array_equal(matches[1, :, 1].argmax(0), [2, 3, 4])
    assert matches.min() == 0.0


def test_orthogonality_joins_the_loss_in_training_only_and_turns_prototypes_apart():
    head = layers.PrototypicalHead(2, 3, orthogonality=0.5, seed=0)
    x = some_tokens()
    head(x)
    assert head.losses == []
    head(x, training=True)
    start = float(losses.prototype_orthogonality(head.kernel))
    assert float(head.losses[0]) == pytest.approx(0.5 * start)
    assert float(losses.prototype_orthogonality(np.eye(4)[None], epsilon=0.0)) == 0.0
    same = np.ones((2, 3, 5))
    # Six of nine cosines of each of two classes are 1.
    wanted = np.sqrt(2 * 6) / 18
    assert float(losses.prototype_orthogonality(same, epsilon=0.0)) == pytest.approx(wanted)
    for _ in range(200):
        with tf.GradientTape() as tape:
            loss = losses.prototype_orthogonality(head.kernel)
        head.kernel.assign(head.kernel - 5.0 * tape.gradient(loss, head.kernel.value))
    assert float(losses.prototype_orthogonality(head.kernel)) < 0.1 * start


def test_asymmetric_loss_is_cross_entropy_where_nothing_is_asymmetric():
    logits = RNG.normal(size=(5, 6)).astype("float32")
    labels = (RNG.uniform(size=(5, 6)) < 0.3).astype("float32")
    off = {"gamma_negative": 0.0, "gamma_positive": 0.0, "clip": 0.0}
    p = 1 / (1 + np.exp(-logits.astype("float64")))
    entropy = -(labels * np.log(p) + (1 - labels) * np.log(1 - p)).mean()
    assert float(losses.asymmetric_loss(logits, labels, **off)) == pytest.approx(entropy, rel=1e-5)
    # A negative whose probability is below the clip is nothing, in value and gradient.
    easy = tf.constant([[-4.0, -8.0]])
    with tf.GradientTape() as tape:
        tape.watch(easy)
        value = losses.asymmetric_loss(easy, np.zeros((1, 2)))
    assert float(value) == 0.0 and not tape.gradient(value, easy).numpy().any()
    certain = tf.constant([[200.0, -200.0]])
    with tf.GradientTape() as tape:
        tape.watch(certain)
        value = losses.asymmetric_loss(certain, [[1.0, 0.0]], gamma_positive=0.5)
    assert np.isfinite(tape.gradient(value, certain)).all() and abs(float(value)) < 1e-6


def test_mistakes_are_named():
    with pytest.raises(ValueError, match="at least 1"):
        tokens.AttentivePooling(0)
    with pytest.raises(ValueError, match='"tokens" or "each"'):
        tokens.AttentivePooling(2, normalize="all")
    with pytest.raises(ValueError, match="do not divide"):
        tokens.AttentivePooling(5)(some_tokens())
    with pytest.raises(ValueError, match="at least 1"):
        layers.PrototypicalHead(3, 0)
    with pytest.raises(ValueError, match="tokens=True"):
        layers.PrototypicalHead(3)(np.ones((4, 12), "float32"))
    with pytest.raises(ValueError, match="One-hot"):
        losses.asymmetric_loss(np.ones((4, 3)), np.ones(4))
    with pytest.raises(ValueError, match="dimensions"):
        losses.prototype_orthogonality(np.ones((4, 3)))
