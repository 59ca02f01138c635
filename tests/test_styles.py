# SPDX-License-Identifier: Apache-2.0
"""Batch Styles Standardization: what it replaces, what it keeps, and where it runs."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from model_test import build, images, run_model_test, train
from strategies import run_on

import keras_ssl
from keras_ssl import models, views
from keras_ssl.core import distribution
from keras_ssl.views import BatchStylesStandardization

SHAPES = [(5, 8, 8, 3), (4, 9, 12, 1), (3, 11, 7, 4)]


def gray(shape, seed=0):
    """Images around 0.5 that stay away from 0 and 1."""
    return np.random.default_rng(seed).uniform(0.35, 0.65, shape).astype("float32")


def spectra(x):
    return np.fft.fft2(np.asarray(x, "float64"), axes=(1, 2))


def window(area, shape):
    """Frequencies in the window, by counting outwards from zero."""
    mask = np.zeros(shape[1:3], bool)
    if area > 0:
        reach = [int(np.floor(np.sqrt(area) * size / 2 + 1e-9)) for size in shape[1:3]]
        for y in range(-reach[0], reach[0] + 1):
            for x in range(-reach[1], reach[1] + 1):
                mask[y % shape[1], x % shape[2]] = True
    return mask


def standardised(x, style, area):
    """The definition in float64."""
    spectrum = spectra(x)
    amplitude = np.where(
        window(area, x.shape)[None, :, :, None], np.abs(spectrum[style]), np.abs(spectrum)
    )
    return np.fft.ifft2(amplitude * np.exp(1j * np.angle(spectrum)), axes=(1, 2))


@pytest.mark.parametrize("area", [0.03, 0.2, 0.5, 1.0])
@pytest.mark.parametrize("shape", SHAPES)
def test_it_is_its_definition_in_float64_and_the_result_is_real(shape, area):
    x, layer = gray(shape), BatchStylesStandardization(clip=False)
    wanted = standardised(x, 1, area)
    assert np.abs(wanted.imag).max() < 1e-12
    got = layer.transform_images(x, {"area": tf.constant(area), "style": 1})
    np.testing.assert_allclose(got, wanted.real, atol=2e-6)


@pytest.mark.parametrize("shape", SHAPES)
def test_amplitudes_are_the_styles_inside_and_phases_are_kept(shape):
    x, layer = gray(shape), BatchStylesStandardization(clip=False)
    drawn = {"area": tf.constant(0.3), "style": 2}
    before, after = spectra(x), spectra(layer.transform_images(x, drawn))
    inside = window(0.3, shape)
    assert 0 < inside.sum() < inside.size
    np.testing.assert_allclose(
        np.abs(after)[:, inside], np.abs(before[2:3])[:, inside].repeat(shape[0], 0), atol=1e-4
    )
    np.testing.assert_allclose(after[:, ~inside], before[:, ~inside], atol=1e-4)
    turned = np.abs(after / np.abs(after) - before / np.abs(before))
    assert turned.max() < 1e-2 and np.median(turned) < 1e-4


def test_identities():
    x = gray(SHAPES[0])
    for layer in (BatchStylesStandardization(0.0), BatchStylesStandardization(probability=0.0)):
        np.testing.assert_allclose(layer(x, seed=1), x, atol=1e-6)
    assert np.array_equal(BatchStylesStandardization()(x, training=False), x)
    layer = BatchStylesStandardization((0.4, 0.9), clip=False)
    drawn = layer.get_random_transformation(x)
    style = int(drawn["style"])
    made = np.asarray(layer.transform_images(x, drawn))
    np.testing.assert_allclose(made[style], x[style], atol=1e-6)
    assert all(np.abs(made[i] - x[i]).max() > 1e-3 for i in range(len(x)) if i != style)
    # Shifting around the border changes phases only.
    same = np.stack([np.roll(x[0], shift, axis=(0, 1)) for shift in range(4)])
    np.testing.assert_allclose(layer(same, seed=3), same, atol=2e-6)


def test_a_flat_image_takes_the_mean_and_nothing_else():
    x = gray(SHAPES[0])
    x[0] = 0.2
    layer = BatchStylesStandardization(clip=False)
    made = layer.transform_images(x, {"area": tf.constant(1.0), "style": 1})
    wanted = np.broadcast_to(x[1].mean((0, 1)), x[0].shape)
    np.testing.assert_allclose(made[0], wanted, atol=1e-5)


def test_bytes_floats_and_the_clip():
    x = np.random.default_rng(0).integers(0, 256, (6, 8, 8, 3), "uint8")
    layer, free = BatchStylesStandardization(), BatchStylesStandardization(clip=False)
    made = np.asarray(layer(x, seed=4))
    assert made.dtype == np.float32 and made.min() >= 0 and made.max() <= 1
    loose = np.asarray(free((x / 255.0).astype("float32"), seed=4))
    assert loose.min() < 0 or loose.max() > 1
    np.testing.assert_allclose(made, np.clip(loose, 0, 1), atol=1e-5)


def many_draws(layer, x, stream, count=200):
    """What a layer draws for many seeds, as one compiled function."""
    draw = tf.function(lambda seed: layer._draw(x, seed), jit_compile=True, autograph=False)
    seeds = tf.constant([[number, stream] for number in range(count)], "int32")
    return [draw(seed) for seed in seeds]


def test_seeds_choose_area_and_style():
    x, layer = gray(SHAPES[0]), BatchStylesStandardization(seed=3)
    np.testing.assert_array_equal(layer(x, seed=7), layer(x, seed=7))
    first, second = np.asarray(layer(x)), np.asarray(layer(x))
    assert np.abs(first - second).max() > 1e-3
    np.testing.assert_array_equal(BatchStylesStandardization(seed=3)(x), first)
    drawn = many_draws(BatchStylesStandardization((0.1, 0.6)), x, 5)
    areas = np.array([float(d["area"]) for d in drawn])
    assert areas.min() >= 0.1 and areas.max() <= 0.6 and abs(areas.mean() - 0.35) < 0.04
    counts = np.bincount([int(d["style"]) for d in drawn], minlength=5)
    assert len(counts) == 5 and counts.min() > 20
    rare = many_draws(BatchStylesStandardization(probability=0.25), x, 6)
    assert 0.15 < np.mean([float(d["area"]) > 0 for d in rare]) < 0.35


@pytest.mark.parametrize("replicas", [2, pytest.param(4, marks=pytest.mark.slow)])
def test_replicas_share_the_style_of_the_global_batch(replicas):
    x, layer = gray((8, 6, 6, 3)), BatchStylesStandardization(seed=0)
    styles = set()
    for seed in map(distribution.fixed_seed, range(4)):
        styles.add(int(layer._draw(x, seed)["style"]) * replicas // 8)
        whole = np.asarray(layer(x, seed=seed))
        parts = run_on(replicas, lambda part, s=seed: layer(part, seed=s), x)
        np.testing.assert_allclose(np.concatenate([np.asarray(p) for p in parts]), whole, atol=1e-6)
    assert len(styles) > 1, "the style image was always on one replica"


def test_it_compiles_with_a_dynamic_batch():
    x, layer = gray((6, 9, 8, 3)), BatchStylesStandardization()
    spec = tf.TensorSpec((None, 9, 8, 3), "float32")
    seed = distribution.fixed_seed(2)
    function = tf.function(
        lambda x: layer(x, seed=seed), input_signature=[spec], jit_compile=True, autograph=False
    )
    np.testing.assert_allclose(function(x), layer(x, seed=seed), atol=1e-5)


def test_it_runs_in_tf_data_and_in_sequential(tmp_path):
    x, layer = gray((8, 6, 6, 3)), BatchStylesStandardization(seed=1)
    made = list(tf.data.Dataset.from_tensor_slices(x).batch(4).map(layer))
    assert [m.shape for m in made] == [(4, 6, 6, 3)] * 2
    assert not np.allclose(made[0], x[:4], atol=1e-3)
    model = keras.Sequential([keras.Input((6, 6, 3)), BatchStylesStandardization(seed=1)])
    assert model.compute_output_shape((None, 6, 6, 3)) == (None, 6, 6, 3)
    model.save(tmp_path / "styles.keras")
    loaded = keras_ssl.load_model(tmp_path / "styles.keras")
    assert loaded.layers[-1].get_config()["area"] == (0.02, 1.0)
    assert np.asarray(loaded(x, training=True)).shape == x.shape


def test_in_a_pipeline_it_follows_the_seed_and_styles_the_crops():
    x = gray((6, 16, 16, 3))
    crop = views.RandomResizedCrop(8)
    view = views.Pipeline([crop, BatchStylesStandardization(1.0)])
    made = np.asarray(view(x, seed=5))
    np.testing.assert_array_equal(made, view(x, seed=5))
    assert not np.allclose(made, view(x, seed=6), atol=1e-3)
    amplitudes = np.abs(spectra(made))
    np.testing.assert_allclose(
        amplitudes, np.broadcast_to(amplitudes[:1], amplitudes.shape), atol=1e-3
    )
    again = views.Pipeline.from_config(view.get_config())
    np.testing.assert_array_equal(again(x, seed=5), made)


def styled_views():
    members = [
        views.RandomResizedCrop(16, area=(0.3, 1.0)),
        BatchStylesStandardization((0.02, 0.3)),
    ]
    return views.TwoViews(views.Pipeline([*members, views.HorizontalFlip()]))


def test_both_views_have_styles_of_their_own():
    first, second = (np.abs(spectra(v)) for v in styled_views()(images(8), seed=1))
    for amplitudes in (first, second):
        brightness = amplitudes[:, 0, 0]
        np.testing.assert_allclose(brightness, brightness[:1].repeat(8, 0), rtol=0.1)
    assert np.abs(first[0, 0, 0] - second[0, 0, 0]).max() > 1.0


@pytest.mark.slow
def test_simclr_trains_on_it():
    options = {"projector": (16, 8), "views": styled_views()}
    one, two = (train(build(models.SimCLR, options, replicas=n), 3) for n in (1, 2))
    for mine, other in zip(one, two, strict=True):
        assert np.isfinite(mine["loss"])
        assert mine["loss"] == pytest.approx(other["loss"], rel=1e-4)


@pytest.mark.slow
def test_simclr_keeps_every_promise_on_it():
    options = {"projector": (16, 8), "temperature": 0.5, "views": styled_views()}
    run_model_test(models.SimCLR, options, replicas=(1, 2, 4))


def test_mistakes_are_named():
    for area in ((-0.1, 0.5), 1.5, (0.5, 0.2)):
        with pytest.raises(ValueError, match="area"):
            BatchStylesStandardization(area)
    with pytest.raises(ValueError, match="probability"):
        BatchStylesStandardization(probability=2.0)
    with pytest.raises(ValueError, match="batch, height, width"):
        BatchStylesStandardization()(gray((8, 8, 3)))
