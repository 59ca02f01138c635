# SPDX-License-Identifier: Apache-2.0
"""The relative parameters of two views say what the views show."""

import numpy as np
import pytest
from model_test import images
from strategies import run_on

from keras_ssl import views
from keras_ssl.core import distribution
from keras_ssl.views import known


def latent_of(pipeline, batch, seed=0):
    layer = known.WithParameters(views.TwoViews(*np.atleast_1d(pipeline)))
    (first, second), latent = layer(batch, seed=seed)
    return np.asarray(first), np.asarray(second), np.asarray(latent), layer.names


@pytest.mark.parametrize("name", ["vicreg", "byol", "simclr", "digits"])
def test_equal_parameters_give_zero_and_swapped_views_the_inverse(name):
    layer = known.WithParameters(views.get(name))
    batch, seeds = images(32), [distribution.fixed_seed(s) for s in (1, 2)]
    pipeline = layer.views.each()[0]
    here, there = (known._describe(pipeline, batch, seed) for seed in seeds)
    zero = np.zeros(32, "float32")
    same, forth, back = (
        np.asarray(layer._compare(*pair, zero))
        for pair in ((here, here), (here, there), (there, here))
    )
    assert same.shape == (32, layer.latent_size) and np.abs(same).max() == 0
    assert set(np.flatnonzero(np.abs(forth).max(0) == 0)) <= {
        layer.names.index(n) for n in ("blur", "solarize") if n in layer.names
    }
    even = [n.startswith("cos_") or n == "flip" for n in layer.names]
    np.testing.assert_allclose(back, np.where(even, forth, -forth), atol=1e-6)


def test_the_crop_parameters_are_where_the_crop_is():
    ramp = np.broadcast_to(
        np.linspace(0, 1, 16, dtype="float32")[None, None, :, None], (24, 16, 16, 3)
    )
    first, second, latent, names = latent_of(
        views.Pipeline([views.RandomResizedCrop(16, area=(0.2, 0.6))]), ramp
    )
    moved = second.mean((1, 2, 3)) - first.mean((1, 2, 3))
    np.testing.assert_allclose(latent[:, names.index("right")] * 16 / 15, moved, atol=0.02)
    slope = [np.log(v[:, 8, 12, 0] - v[:, 8, 4, 0]) for v in (first, second)]
    np.testing.assert_allclose(latent[:, names.index("log_width")], slope[1] - slope[0], atol=0.02)


def test_the_flip_says_whether_one_view_mirrors_the_other():
    first, second, latent, names = latent_of(
        views.Pipeline([views.HorizontalFlip()]), images(32).astype("float32") / 255
    )
    assert names == ["flip"] and 0 < latent.mean() < 1
    for a, b, flipped in zip(first, second, latent[:, 0], strict=True):
        np.testing.assert_array_equal(b, a[:, ::-1] if flipped else a)


def test_the_brightness_is_the_logarithm_of_the_factor():
    batch = images(24).astype("float32") / 255 * 0.5
    jitter = views.ColorJitter(brightness=0.6, probability=1.0)
    first, second, latent, names = latent_of(views.Pipeline([jitter]), batch)
    assert names == ["log_brightness"]
    wanted = np.log(second.mean((1, 2, 3)) / first.mean((1, 2, 3)))
    np.testing.assert_allclose(latent[:, 0], wanted, atol=1e-4)


def test_a_member_of_one_view_only_compares_with_nothing_done():
    still = views.Pipeline([views.HorizontalFlip(0.0)])
    turned = views.Pipeline([views.HorizontalFlip(0.0), views.Rotate(30.0), views.Rotate(5.0)])
    _, _, latent, names = latent_of([still, turned], images(8))
    assert names == ["flip", "sin_angle", "cos_angle", "sin_angle#2", "cos_angle#2"]
    angle = np.arcsin(latent[:, 1])
    assert np.abs(angle).max() <= np.radians(30.1) and np.abs(angle).max() > np.radians(5)
    np.testing.assert_allclose(latent[:, 2], np.cos(angle) - 1, atol=1e-6)


def test_replicas_know_the_parameters_of_their_own_rows():
    layer = known.WithParameters(views.get("simclr", (16, 16, 3)))
    batch, seed = images(8), distribution.fixed_seed(3)
    whole = np.asarray(layer.relative(batch, seed))
    parts = run_on(2, lambda rows: layer.relative(rows, seed), batch)
    np.testing.assert_allclose(np.concatenate([np.asarray(p) for p in parts]), whole, atol=1e-6)
    assert len(np.unique(whole[:, 0])) == 8


def test_with_parameters_round_trips_and_names_mistakes():
    layer = known.WithParameters(views.get("vicreg"), seed=1)
    again = known.WithParameters.from_config(layer.get_config())
    batch = images(4)
    for mine, other in zip(layer(batch), again(batch), strict=True):
        np.testing.assert_array_equal(np.asarray(mine), np.asarray(other))
    with pytest.raises(ValueError, match="exactly two views"):
        known.WithParameters(views.get("cacr"))
    with pytest.raises(ValueError, match="could be compared"):
        known.WithParameters(views.Pipeline([views.GaussianNoise(0.1)]))
