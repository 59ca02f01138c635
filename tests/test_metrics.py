# SPDX-License-Identifier: Apache-2.0
"""Label-free metrics: their limits, invariances and gradients."""

import keras
import numpy as np
import pytest
from keras import ops

from keras_ssl.metrics import alignment, feature_std, mean_cosine, rank_me, uniformity

RNG = np.random.default_rng(0)


def unit(x):
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def test_rank_me_of_one_line_is_one():
    line = np.outer(RNG.normal(size=50), RNG.normal(size=8)).astype("float32")
    assert float(rank_me(line)) == pytest.approx(1.0, abs=1e-3)
    assert float(rank_me(np.ones((5, 4)))) == pytest.approx(1.0, abs=1e-4)


def test_rank_me_of_orthonormal_columns_is_their_number():
    columns = np.linalg.qr(RNG.normal(size=(40, 6)))[0]
    assert float(rank_me(columns)) == pytest.approx(6.0, abs=1e-4)
    half = np.concatenate([columns, np.zeros((40, 6))], axis=1)
    assert float(rank_me(half)) == pytest.approx(6.0, abs=1e-3)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("scale", [1e-25, 1e25])
def test_rank_me_ignores_scale(dtype, scale):
    z = RNG.normal(size=(30, 8)).astype(dtype)
    assert float(rank_me(z * np.asarray(scale, dtype))) == pytest.approx(
        float(rank_me(z)), rel=1e-4
    )


def test_rank_me_is_the_entropy_of_singular_values():
    z = RNG.normal(size=(30, 8)) + 2
    for center, power, values in [(False, 1, "singular"), (True, 2, "covariance")]:
        moved = z - z.mean(axis=0) if center else z
        sigma = np.linalg.svd(moved, compute_uv=False) ** power
        p = sigma / sigma.sum() + 1e-7
        wanted = np.exp(-(p * np.log(p)).sum())
        assert float(rank_me(z, center=center, values=values)) == pytest.approx(wanted, rel=1e-9)
    sigma = np.linalg.svd(z, compute_uv=False)
    p = sigma / sigma.sum() + 1e-2
    assert float(rank_me(z, epsilon=1e-2)) == pytest.approx(np.exp(-(p * np.log(p)).sum()))


def test_rank_me_of_nothing_is_finite():
    assert float(rank_me(np.zeros((8, 4)))) == pytest.approx(1.0, abs=1e-4)


def test_rank_me_names_what_is_wrong():
    with pytest.raises(ValueError, match="values is 'eigen'"):
        rank_me(np.ones((4, 4)), values="eigen")
    with pytest.raises(ValueError, match="Pool or flatten"):
        rank_me(np.ones((4, 4, 4)))


def test_alignment_limits():
    x = unit(RNG.normal(size=(16, 5)))
    assert float(alignment(x, x)) == 0.0
    for alpha in (1, 2, 3):
        assert float(alignment(x, -x, alpha=alpha)) == pytest.approx(2.0**alpha)
    assert float(alignment(3 * x, 5 * x, normalize=True)) == pytest.approx(0.0, abs=1e-12)
    with pytest.raises(ValueError, match="row i of both"):
        alignment(x, x[:3])


def test_uniformity_limits():
    collapsed = np.tile(unit(RNG.normal(size=(1, 5))), (12, 1))
    assert float(uniformity(collapsed)) == pytest.approx(0.0, abs=1e-9)
    poles = np.array([[0.0, 1.0], [0.0, -1.0]])
    for t in (1, 2, 40):
        assert float(uniformity(poles, t=t)) == pytest.approx(-4.0 * t)
    assert float(uniformity(7 * poles, normalize=True)) == pytest.approx(-8.0)


def test_uniformity_counts_pairs_once_without_self():
    x = unit(RNG.normal(size=(9, 4)))
    i, j = np.triu_indices(9, 1)
    potentials = np.exp(-2 * ((x[i] - x[j]) ** 2).sum(axis=1))
    assert float(uniformity(x)) == pytest.approx(np.log(potentials.mean()), rel=1e-9)
    with pytest.raises(ValueError, match="at least 2"):
        uniformity(x[:1])


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="uses tf.GradientTape")
def test_gradients_are_finite_where_views_coincide_and_uniform_pushes_apart():
    import tensorflow as tf

    x = tf.constant(unit(RNG.normal(size=(6, 3))).astype("float32"))
    for alpha in (0.5, 1.0, 2.0):
        with tf.GradientTape() as tape:
            tape.watch(x)
            value = alignment(x, tf.identity(x), alpha=alpha)
        np.testing.assert_array_equal(tape.gradient(value, x), np.zeros((6, 3)))
    with tf.GradientTape() as tape:
        tape.watch(x)
        value = uniformity(x, normalize=True)
    step = x - 0.05 * tape.gradient(value, x)
    assert float(uniformity(step, normalize=True)) < float(value)


def test_feature_std_limits():
    collapsed = np.tile(RNG.normal(size=(1, 16)), (10, 1)).astype("float32")
    assert float(feature_std(collapsed)) == 0.0
    sphere = RNG.normal(size=(4000, 64))
    assert float(feature_std(sphere)) == pytest.approx(1 / 8, rel=0.02)
    x = RNG.normal(size=(7, 3))
    assert float(feature_std(x)) == pytest.approx(unit(x).std(axis=0, ddof=1).mean())
    assert float(feature_std(100 * x)) == pytest.approx(float(feature_std(x)))
    with pytest.raises(ValueError, match="at least 2"):
        feature_std(x[:1])


def test_mean_cosine_limits():
    x = RNG.normal(size=(8, 5))
    cosines = unit(x) @ unit(x).T
    wanted = cosines[np.triu_indices(8, 1)].mean()
    assert float(mean_cosine(x)) == pytest.approx(wanted, rel=1e-9)
    assert float(mean_cosine(np.ones((4, 3)))) == pytest.approx(1.0)
    assert float(mean_cosine(np.array([[1.0, 0.0], [-2.0, 0.0]]))) == pytest.approx(-1.0)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision_is_computed_in_float32(dtype):
    x = ops.cast(ops.convert_to_tensor(100 * RNG.normal(size=(64, 16))), dtype)
    exact = ops.convert_to_numpy(ops.cast(x, "float64"))
    for metric in (rank_me, feature_std, mean_cosine, lambda z: uniformity(z, normalize=True)):
        assert float(metric(x)) == pytest.approx(float(metric(exact)), rel=1e-4, abs=1e-5)
