# SPDX-License-Identifier: Apache-2.0
"""Noise2Score: the score of noisy samples, Tweedie's formula, and digits without their noise."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_ssl
from keras_ssl import backbones, layers, models


def constant(value):
    """A network from (B, 1, 1, 1) that gives one number."""
    inputs = keras.Input((1, 1, 1))
    start = keras.initializers.Constant(value)
    return keras.Model(
        inputs,
        keras.layers.Conv2D(1, 1, kernel_initializer="zeros", bias_initializer=start)(inputs),
    )


def affine():
    """A linear network from (B, 1, 1, 1)."""
    inputs = keras.Input((1, 1, 1))
    layer = keras.layers.Conv2D(1, 1, kernel_initializer="zeros")
    return keras.Model(inputs, layer(inputs))


def test_a_linear_score_of_normal_samples_is_exact_and_gives_the_posterior_mean():
    mu, tau, sigma, scale = 1.5, 1.0, 0.7, 0.3
    rng = np.random.default_rng(0)
    clean = rng.normal(mu, tau, 8192)
    noisy = (clean + rng.normal(0, sigma, 8192)).astype("float32").reshape(-1, 1, 1, 1)
    model = models.Noise2Score(
        affine(), "gaussian", sigma, scale=(0.6, scale), anneal_steps=150, clip=None, seed=0
    )
    rate = keras.optimizers.schedules.CosineDecay(0.05, 300)
    model.compile(keras.optimizers.Adam(rate), steps_per_execution=50)
    model.fit(tf.data.Dataset.from_tensors(noisy).cache().repeat(300), verbose=0)
    y = np.linspace(-1, 4, 11).astype("float32").reshape(-1, 1, 1, 1)
    # The density that it sees is blurred by the added noise as well.
    blurred = tau**2 + sigma**2 + scale**2
    np.testing.assert_allclose(model.score(y), -(y - mu) / blurred, atol=0.05)
    np.testing.assert_allclose(model.score(y), -(y - mu) / (tau**2 + sigma**2), atol=0.2)
    mean = (tau**2 * y + sigma**2 * mu) / (tau**2 + sigma**2)
    np.testing.assert_allclose(model.predict(y, verbose=0), mean, atol=0.1)
    found = np.asarray(model(noisy)).ravel()
    best = (tau**2 * noisy.ravel() + sigma**2 * mu) / (tau**2 + sigma**2)
    error, least = np.mean((found - clean) ** 2), np.mean((best - clean) ** 2)
    assert error < 1.02 * least < 0.75 * np.mean((noisy.ravel() - clean) ** 2)


def test_true_scores_give_what_is_known_of_conjugate_priors():
    from scipy.special import digamma

    # Counts of intensities that are Gamma(a) with a rate: log p(n) is lgamma(n + a) - lgamma(n + 1)
    # - n log(1 + rate) and a number, and the formula is near to the posterior mean.
    a, rate, zeta = 400.0, 10.0, 0.02
    counts = np.array([30.0, 40.0, 55.0])
    score = digamma(counts + a) - digamma(counts + 1) - np.log(1 + rate)
    found = layers.TweediePosterior("poisson", zeta)(zeta * counts, score)
    np.testing.assert_allclose(found, zeta * (counts + a) / (1 + rate), rtol=3e-3)
    # Means that are inverse Gamma(a, b): p(y) is y^(k-1) (b + k y)^-(a + k) times a number, and
    # the formula is one over the posterior mean of 1 / x.
    a, b, k = 6.0, 4.0, 20.0
    y = np.array([0.3, 0.8, 2.0])
    score = (k - 1) / y - k * (a + k) / (b + k * y)
    found = layers.TweediePosterior("gamma", k)(y, score)
    np.testing.assert_allclose(found, (b + k * y) / (a + k), rtol=1e-5)


def test_the_network_of_counts_sees_counts():
    x = np.random.default_rng(0).uniform(size=(2, 1, 1, 1)).astype("float32")
    model = models.Noise2Score(affine(), "poisson", 0.05, clip=None, seed=0)
    model.network.layers[-1].kernel.assign(np.full((1, 1, 1, 1), 0.01, "float32"))
    np.testing.assert_allclose(model.score(x), 0.01 * x / 0.05, rtol=1e-5)
    np.testing.assert_allclose(model(x), (x + 0.025) * np.exp(0.01 * x / 0.05), rtol=1e-5)


def test_noise_is_added_by_the_scale_of_the_step():
    x = np.zeros((64, 1, 1, 1), "float32")
    model = models.Noise2Score(constant(0.1), level=0.5, scale=(0.8, 0.2), anneal_steps=4, seed=0)
    model.compile(keras.optimizers.SGD(0.0))
    scales = []
    for _ in range(6):
        scales.append(float(model.make_views(tf.constant(x))["scale"]))
        model.fit(x, batch_size=64, verbose=0)
    np.testing.assert_allclose(scales, [0.8, 0.65, 0.5, 0.35, 0.2, 0.2], rtol=1e-5)
    views = model.make_views(tf.constant(x))
    noise = np.asarray(views["noise"])
    # The network's 0.1 is a score of 0.2: divided by the level.
    loss = float(model.compute_losses(views, True)["denoising"])
    assert loss == pytest.approx(np.mean((noise + 0.2 * 0.2) ** 2), rel=1e-5)
    assert 0.6 < noise.std() < 1.4 and not np.allclose(noise, model.make_views(x)["noise"])
    assert models.Noise2Score(constant(0.0), "poisson", 0.1).scale == (1.0, 0.5)


def test_pixels_of_bytes_are_scaled_and_estimates_clipped(tmp_path):
    model = models.Noise2Score((8, 8, 1), level=0.2, seed=0)
    x = np.random.default_rng(0).integers(0, 256, (3, 8, 8, 1)).astype("uint8")
    found = np.asarray(model(x))
    np.testing.assert_allclose(found, model(x.astype("float32") / 255), atol=1e-6)
    assert found.min() >= 0 and found.max() <= 1 and found.std() > 0
    model.compile("adam")
    model.save(tmp_path / "model.keras")
    loaded = keras_ssl.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(loaded.predict(x, verbose=0), model.predict(x, verbose=0))


def test_unet_keeps_the_shape_and_its_seed():
    network = backbones.UNet((None, None, 3), (4, 6, 8), seed=0)
    assert network(np.zeros((1, 12, 20, 3), "float32")).shape == (1, 12, 20, 3)
    again = backbones.UNet((None, None, 3), (4, 6, 8), seed=0)
    assert all(map(np.array_equal, network.get_weights(), again.get_weights()))
    kernels = [w for w in network.get_weights() if w.ndim == 4]
    assert len({w.tobytes() for w in kernels}) == len(kernels)
    with pytest.raises(ValueError, match="multiples of 4"):
        backbones.UNet((10, 12, 3))
    with pytest.raises(ValueError, match="positive widths"):
        backbones.UNet((8, 8, 3), ())


def test_mistakes_are_named():
    with pytest.raises(ValueError, match="needs a family"):
        models.Noise2Score(affine(), "salt")
    with pytest.raises(ValueError, match="level above 0"):
        models.Noise2Score(affine(), level=0.0)
    with pytest.raises(ValueError, match="above 1"):
        models.Noise2Score(affine(), "gamma", 1.0)
    with pytest.raises(ValueError, match="scale is the deviation"):
        models.Noise2Score(affine(), scale=(0.1, 0.0))
    network = keras.Sequential([keras.Input((4, 4, 1)), keras.layers.Conv2D(2, 1)])
    with pytest.raises(ValueError, match="shape of its image"):
        models.Noise2Score(network)


def psnr(found, clean):
    """Of images in 0..1, averaged over images, in dB."""
    error = np.mean((np.clip(found, 0, 1) - clean) ** 2, axis=(1, 2, 3))
    return float(np.mean(-10 * np.log10(error)))


@pytest.mark.slow
def test_digits_without_clean_ones_are_near_to_those_learned_with_them():
    from sklearn.datasets import load_digits

    sigma, steps, batch = 0.2, 1500, 64
    clean = (load_digits().images[..., None] / 16).astype("float32")
    rng = np.random.default_rng(0)
    noisy = (clean + rng.normal(0, sigma, clean.shape)).astype("float32")
    cut = 1400

    def fit(model, *data):
        rate = keras.optimizers.schedules.CosineDecay(3e-3, steps)
        model.compile(keras.optimizers.Adam(rate), **({} if len(data) == 1 else {"loss": "mse"}))
        rows = tf.data.Dataset.from_tensor_slices(data if len(data) > 1 else data[0])
        model.fit(rows.repeat().shuffle(cut, seed=0).batch(batch).take(steps), verbose=0)
        return psnr(model.predict(noisy[cut:], verbose=0), clean[cut:])

    def network():
        return backbones.UNet((8, 8, 1), (16, 24), seed=0)

    supervised = fit(network(), noisy[:cut], clean[:cut])
    model = models.Noise2Score(
        network(), level=sigma, scale=(0.2, 0.07), anneal_steps=steps // 2, seed=0
    )
    found = fit(model, noisy[:cut])
    print(f"noisy {psnr(noisy[cut:], clean[cut:]):.2f} dB, {supervised=:.2f}, {found=:.2f}")
    assert found > supervised - 0.5
    assert found > psnr(noisy[cut:], clean[cut:]) + 2.0
