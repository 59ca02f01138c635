# SPDX-License-Identifier: Apache-2.0
"""Single transforms: what they compute, how often, and in which range."""

import colorsys

import keras
import numpy as np
import pytest

from keras_ssl import views
from keras_ssl.core import distribution
from keras_ssl.views import _colour, _resampling


def array(tensor):
    return keras.ops.convert_to_numpy(tensor)


def draw(transform, rows=4000, shape=(32, 32, 3), seed=0):
    drawn = transform.draw(distribution.fixed_seed(seed), rows, shape)
    return {name: array(value) for name, value in drawn.items()}


def noise_images(count=4, size=12, channels=3, seed=0):
    rng = np.random.default_rng(seed)
    return rng.random((count, size, size, channels), dtype="float32")


def test_crop_area_and_aspect_statistics():
    drawn = draw(views.RandomResizedCrop(32, (0.2, 0.5)))
    area = drawn["height"] * drawn["width"] / 32**2
    aspect = drawn["width"] / drawn["height"]
    assert area.min() >= 0.2 - 1e-4 and area.max() <= 0.5 + 1e-4
    assert abs(area.mean() - 0.35) < 0.01
    assert aspect.min() >= 3 / 4 - 1e-4 and aspect.max() <= 4 / 3 + 1e-4
    assert abs(np.log(aspect).mean()) < 0.01
    assert abs(drawn["top"].mean() - 0.5) < 0.02


def test_crop_that_never_fits_falls_back_to_the_centre():
    drawn = draw(views.RandomResizedCrop(8, (1.0, 1.0), (2.0, 2.0)), 4)
    np.testing.assert_allclose(drawn["width"], 32)
    np.testing.assert_allclose(drawn["height"], 16)
    np.testing.assert_allclose(drawn["top"], 0.5)


def test_full_crop_of_the_same_size_is_the_identity():
    images = noise_images()
    crop = views.RandomResizedCrop(12, (1.0, 1.0), (1.0, 1.0))
    for exact in (False, True):
        out = crop.apply(images, crop.draw(distribution.fixed_seed(0), 4, (12, 12, 3)), exact)
        np.testing.assert_allclose(out, images, atol=1e-5)


@pytest.mark.parametrize("kernel", ["bilinear", "bicubic"])
def test_exact_crop_is_pil_resize(kernel):
    image = pytest.importorskip("PIL.Image")
    pixels = noise_images(1, 20, 1)
    crop = views.RandomResizedCrop(8, interpolation=kernel)
    ones = np.ones(1, "float32")
    params = {"height": 15.0 * ones, "width": 13.0 * ones, "top": 0.0 * ones, "left": 0.5 * ones}
    got = array(crop.apply(pixels, params, exact=True))[0, :, :, 0]
    left = int(0.5 * 8)
    box = (left, 0, left + 13, 15)
    resample = getattr(image.Resampling, kernel.upper())
    want = image.fromarray(pixels[0, :, :, 0]).crop(box).resize((8, 8), resample)
    np.testing.assert_allclose(got, np.clip(np.asarray(want), 0, 1), atol=1e-4)


def test_flip_is_an_exact_mirror_of_half_the_samples():
    images = noise_images(64)
    flip = views.HorizontalFlip()
    params = flip.draw(distribution.fixed_seed(1), 64, images.shape[1:])
    chosen = array(params["flip"])
    out = array(flip.apply(images, params))
    np.testing.assert_array_equal(out[chosen], images[chosen][:, :, ::-1])
    np.testing.assert_array_equal(out[~chosen], images[~chosen])
    always = views.Pipeline([views.HorizontalFlip(1.0)])
    np.testing.assert_array_equal(array(always(images, seed=0)), images[:, :, ::-1])


@pytest.mark.parametrize(
    ("transform", "key", "probability"),
    [
        (views.HorizontalFlip(0.5), "flip", 0.5),
        (views.Grayscale(0.2), "grey", 0.2),
        (views.GaussianBlur(probability=0.1), "applied", 0.1),
        (views.Solarize(probability=0.2), "applied", 0.2),
    ],
)
def test_probabilities(transform, key, probability):
    assert abs(draw(transform)[key].mean() - probability) < 0.03


def test_jitter_strengths_probability_and_order():
    drawn = draw(views.ColorJitter(0.4, 0.8, 1.5, 0.1, probability=0.8))
    for key, low, high in (
        ("brightness", 0.6, 1.4),
        ("contrast", 0.2, 1.8),
        ("saturation", 0.0, 2.5),
    ):
        changed = drawn[key][drawn[key] != 1.0]
        assert abs(len(changed) / 4000 - 0.8) < 0.03
        assert changed.min() >= low - 1e-5 and changed.max() <= high + 1e-5
        assert abs(changed.mean() - (low + high) / 2) < 0.05
    assert np.abs(drawn["hue"]).max() <= 0.1
    orders, counts = np.unique(drawn["position"], axis=0, return_counts=True)
    assert len(orders) == 24
    assert counts.min() > 100
    assert (np.sort(orders, axis=1) == np.arange(4)).all()


def test_identity_at_strength_zero():
    images = noise_images()
    pipeline = views.Pipeline(
        [
            views.Affine(),
            views.ColorJitter(probability=1.0),
            views.Grayscale(0.0),
            views.GaussianBlur(probability=0.0),
            views.Solarize(probability=0.0),
            views.GaussianNoise(0.0),
        ]
    )
    np.testing.assert_allclose(pipeline(images, seed=0), images, atol=1e-5)


def test_exact_hue_is_hsv():
    pixels = noise_images(1, 4)
    turn = np.array([0.07], "float32")
    got = array(views.ColorJitter(hue=0.1)._hue(pixels, {"hue": turn}, True))
    for pixel, new in zip(pixels.reshape(-1, 3), got.reshape(-1, 3), strict=True):
        hue, saturation, value = colorsys.rgb_to_hsv(*pixel.tolist())
        want = colorsys.hsv_to_rgb((hue + 0.07) % 1.0, saturation, value)
        np.testing.assert_allclose(new, want, atol=1e-5)


def test_hue_rotation_keeps_grey_and_luma():
    matrix = array(_colour.hue_matrix(np.array([0.3], "float32")))[0]
    np.testing.assert_allclose(matrix @ np.ones(3), np.ones(3), atol=1e-4)
    np.testing.assert_allclose(np.array(_colour.LUMA) @ matrix, _colour.LUMA, atol=1e-4)


def test_hsv_of_black_and_grey_is_finite():
    images = np.stack([np.zeros((2, 2, 3)), np.full((2, 2, 3), 0.5)]).astype("float32")
    out = array(_colour.hsv_to_rgb(*_colour.rgb_to_hsv(images)))
    np.testing.assert_allclose(out, images, atol=1e-6)


def test_blur_kernel_and_edges():
    weights = array(_resampling.gaussian_weights(np.array([1.5], "float32"), 6))[0]
    want = np.exp(-0.5 * (np.arange(-6, 7) / 1.5) ** 2)
    np.testing.assert_allclose(weights, want / want.sum(), atol=1e-6)
    flat = np.full((2, 9, 9, 3), 0.7, "float32")
    blur = views.GaussianBlur(probability=1.0)
    out = blur.apply(flat, blur.draw(distribution.fixed_seed(0), 2, (9, 9, 3)))
    np.testing.assert_allclose(out, flat, atol=1e-5)
    point = np.zeros((1, 25, 25, 1), "float32")
    point[0, 12, 12] = 1.0
    params = {"sigma": np.array([1.5], "float32"), "applied": np.array([True])}
    got = array(blur.apply(point, params))[0, 6:19, 6:19, 0]
    np.testing.assert_allclose(got, np.outer(weights, weights), atol=1e-6)


def test_solarize_inverts_from_the_threshold_on():
    images = np.array([0.0, 0.4, 0.5, 0.9], "float32").reshape(1, 2, 2, 1)
    out = array(views.Solarize().apply(images, {"applied": np.array([True])}))
    np.testing.assert_allclose(out.ravel(), [0.0, 0.4, 0.5, 0.1], atol=1e-6)


def test_normalize_and_its_inverse():
    images = noise_images()
    member = views.Normalize((0.4, 0.5, 0.6), (0.2, 0.3, 0.4))
    out = member.apply(images, {})
    np.testing.assert_allclose(out, (images - (0.4, 0.5, 0.6)) / (0.2, 0.3, 0.4), atol=1e-5)
    np.testing.assert_allclose(member.inverse(out), images, atol=1e-6)


def test_rotation_by_a_right_angle_is_rot90():
    images = noise_images(1)
    one = np.ones(1, "float32")
    params = {"angle": np.pi / 2 * one, "scale": one, "down": 0 * one, "right": 0 * one}
    out = array(views.Rotate(90).apply(images, params))
    turned = [np.rot90(images, k, axes=(1, 2)) for k in (1, 3)]
    assert min(np.abs(out - want).max() for want in turned) < 1e-4


def test_noise_has_the_asked_size_and_differs_per_sample():
    images = np.full((64, 16, 16, 3), 0.5, "float32")
    out = array(views.Pipeline([views.GaussianNoise(0.05)])(images, seed=0)) - 0.5
    assert abs(out.std() - 0.05) < 0.002
    assert not np.allclose(out[0], out[1])


def test_bad_settings_are_named():
    for make in (
        lambda: views.RandomResizedCrop(8, (0.5, 1.5)),
        lambda: views.RandomResizedCrop(8, interpolation="nearest"),
        lambda: views.HorizontalFlip(1.5),
        lambda: views.ColorJitter(hue=0.6),
        lambda: views.GaussianBlur(sigma=(0.0, 1.0)),
        lambda: views.Normalize(0.5, 0.0),
        lambda: views.Pipeline(["flip"]),
    ):
        with pytest.raises(ValueError):
            make()


def test_keras_layer_follows_the_seed():
    images = noise_images()
    pipeline = views.Pipeline([keras.layers.RandomBrightness(0.5), views.HorizontalFlip()])
    first, again, other = (array(pipeline(images, seed=n)) for n in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert not np.allclose(first, other)
    assert not pipeline.jit_compatible


def test_keras_cv_rand_augment_runs_outside_and_is_said_once(caplog):
    keras_cv = pytest.importorskip("keras_cv")
    from keras_ssl.views import wrap

    wrap._announced.clear()
    layer = keras_cv.layers.RandAugment(value_range=(0, 255), magnitude=0.5)
    pipeline = views.Pipeline([views.HorizontalFlip(), layer, views.Normalize(0.5, 0.5)])
    images = noise_images(4, 16)
    with caplog.at_level("INFO", logger="keras_ssl"):
        out = [array(pipeline(images)) for _ in range(2)]
    assert out[0].shape == images.shape and np.isfinite(out[0]).all()
    assert not np.allclose(*out)
    said = [record for record in caplog.records if "outside the compiled part" in record.message]
    assert len(said) == 1
