# SPDX-License-Identifier: Apache-2.0
"""Mixed Barlow Twins: the mixed term, and what is mixed with what."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from model_test import build, images, light_views, train
from strategies import run_on
from test_losses import on_replicas, value_and_gradients

import keras_ssl
from keras_ssl import losses, schedules, views
from keras_ssl.core import distribution
from keras_ssl.losses import mixed_barlow_twins
from keras_ssl.models import MixedBarlowTwins
from keras_ssl.models.joint_embedding.mixed_barlow_twins import mixing

SMALL = {"projector": (16, 16)}
LAMBD, SCALE = 0.01, 3.0


def projections(rows=12, width=5, seed=0, alpha=0.3):
    """Three views, the last one near the mixture of the others, and the permutation."""
    rng = np.random.default_rng(seed)
    first = rng.normal(size=(rows, width)) + 0.5
    second = first + 0.4 * rng.normal(size=first.shape)
    permutation = rng.permutation(rows)
    mixed = alpha * first + (1 - alpha) * second[permutation]
    mixed = mixed + 0.2 * rng.normal(size=first.shape)
    return *(z.astype("float32") for z in (first, second, mixed)), permutation


def standardised(z, variance="unbiased", epsilon=0.0):
    z = np.asarray(z, "float64")
    spread = z.var(0, ddof=1 if variance == "unbiased" else 0)
    return (z - z.mean(0)) / np.sqrt(spread + epsilon)


def correlation(first, second):
    return first.T @ second / len(first)


def reference(first, second, mixed, permutation, alpha, form, **options):
    """Both terms in float64, matrix by matrix."""
    one, two, three = (standardised(z, **options) for z in (first, second, mixed))
    cross = correlation(one, two)
    other = cross - np.diag(np.diag(cross))
    twins = np.sum((np.diag(cross) - 1) ** 2) + LAMBD * np.sum(other**2)
    partner = two[permutation]
    own = cross if form == "cifar" else correlation(two, two)
    targets = (
        alpha * correlation(one, one) + (1 - alpha) * correlation(partner, one),
        alpha * own + (1 - alpha) * correlation(partner, two),
    )
    gaps = [correlation(three, v) - t for v, t in zip((one, two), targets, strict=True)]
    half = 1.0 if form == "cifar" else 0.5
    return twins, SCALE * half * LAMBD * sum(np.sum(gap**2) for gap in gaps)


def terms(*arrays, **options):
    found = mixed_barlow_twins(*arrays, lambd=LAMBD, mix_scale=SCALE, **options)
    return float(found["barlow_twins"]), float(found["mixed"])


# --- the loss --------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["cifar", "imagenet"])
@pytest.mark.parametrize(("rows", "width"), [(12, 5), (7, 16)])
@pytest.mark.parametrize("alpha", [0.0, 0.3, 1.0])
def test_both_terms_are_those_of_float64(rows, width, form, alpha):
    arrays = projections(rows, width)
    for options in ({}, {"variance": "biased", "epsilon": 1e-3}):
        wanted = reference(*arrays, alpha, form, **options)
        assert terms(*arrays, alpha, form=form, **options) == pytest.approx(wanted, rel=1e-4)


def test_the_first_term_is_that_of_barlow_twins():
    arrays = projections()
    options = {"variance": "biased", "epsilon": 1e-5}
    wanted = losses.barlow_twins(*arrays[:2], lambd=LAMBD, scale=0.1, **options)
    assert terms(*arrays, 0.3, scale=0.1, **options)[0] == pytest.approx(float(wanted), rel=1e-5)


@pytest.mark.parametrize("alpha", [0.0, 0.2, 0.5, 1.0])
def test_a_linear_encoder_of_equal_views_is_wrong_by_its_standardisation_only(alpha):
    first, _, _, permutation = projections(20)
    mixed = alpha * first + (1 - alpha) * first
    assert terms(first, first, mixed, np.arange(20), alpha)[1] == pytest.approx(0, abs=1e-10)
    # A mixture of different rows varies less; that is all that the loss may see.
    mixed = alpha * first + (1 - alpha) * first[permutation]
    z = standardised(first)
    mixture = alpha * z + (1 - alpha) * z[permutation]
    excess = (1 / mixture.std(0, ddof=1) - 1)[:, None] * correlation(mixture, z)
    wanted = SCALE * LAMBD * 2 * np.sum(excess**2)
    found = terms(first, first, mixed, permutation, alpha)[1]
    assert found == pytest.approx(wanted, rel=1e-4, abs=1e-9)


def test_a_mixture_of_one_view_correlates_as_that_view():
    first, second, _, permutation = projections()
    assert terms(first, second, first, permutation, 1.0)[1] == pytest.approx(0, abs=1e-10)
    partner = second[permutation]
    assert terms(first, second, partner, permutation, 0.0)[1] == pytest.approx(0, abs=1e-10)
    # The released ImageNet target of view 2 is its own correlation, also where alpha is 1.
    one, two = standardised(first), standardised(second)
    gap = correlation(one, two) - correlation(two, two)
    found = terms(first, second, first, permutation, 1.0, form="imagenet")[1]
    assert found == pytest.approx(0.5 * SCALE * LAMBD * np.sum(gap**2), rel=1e-4)


def test_scale_and_shift_of_features_change_nothing():
    arrays = projections()
    factor, shift = np.linspace(0.5, 3, 5), np.linspace(-2, 2, 5)
    moved = [(z * factor + shift).astype("float32") for z in arrays[:3]]
    wanted = terms(*arrays, 0.3)
    assert terms(*moved, arrays[3], 0.3) == pytest.approx(wanted, rel=1e-4)


@pytest.mark.parametrize("form", ["cifar", "imagenet"])
@pytest.mark.parametrize("replicas", [2, pytest.param(4, marks=pytest.mark.slow)])
def test_partners_on_other_replicas(replicas, form):
    *arrays, permutation = projections(8)
    share = 8 // replicas
    assert np.any(permutation // share != np.arange(8) // share)

    def total(*rows):
        return sum(mixed_barlow_twins(*rows, permutation, 0.3, form=form).values())

    wanted, wanted_gradients = value_and_gradients(total, *arrays)
    found, gradients = on_replicas(replicas, total, *arrays)
    assert found == pytest.approx(float(wanted), rel=1e-5)
    for mine, other in zip(gradients, wanted_gradients, strict=True):
        assert np.abs(other).max() > 0
        np.testing.assert_allclose(mine, other, atol=1e-5 * max(1.0, np.abs(other).max()))


def test_it_compiles_with_a_dynamic_batch():
    specs = [tf.TensorSpec((None, 5))] * 3 + [tf.TensorSpec((None,), "int32"), tf.TensorSpec(())]

    @tf.function(input_signature=specs, jit_compile=True, autograph=False)
    def total(*arrays):
        return sum(mixed_barlow_twins(*arrays, lambd=LAMBD, mix_scale=SCALE).values())

    *arrays, permutation = projections()
    found = total(*arrays, permutation.astype("int32"), 0.3)
    assert float(found) == pytest.approx(sum(terms(*arrays, permutation, 0.3)), rel=1e-4)


def test_a_feature_that_does_not_vary_stays_finite():
    *arrays, permutation = projections()
    for z in arrays:
        z[:, 0] = 1.0
    value, gradients = value_and_gradients(
        lambda *rows: sum(mixed_barlow_twins(*rows, permutation, 0.3).values()), *arrays
    )
    assert np.isfinite(float(value))
    assert all(np.all(np.isfinite(gradient)) for gradient in gradients)


def test_nothing_is_detached():
    *arrays, permutation = projections()
    _, gradients = value_and_gradients(
        lambda *rows: mixed_barlow_twins(*rows, permutation, 0.3)["mixed"], *arrays
    )
    assert all(np.abs(gradient).max() > 1e-4 for gradient in gradients)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"form": "stl"}, "form is one of"),
        ({"variance": "none"}, "variance is"),
        ({"mixed": np.ones((12, 4), "float32")}, "shapes must be equal"),
        ({"permutation": np.arange(5)}, "one partner for every row"),
        ({"permutation": np.eye(12)}, "one partner for every row"),
    ],
)
def test_mistakes_are_named(change, message):
    names = ("first", "second", "mixed", "permutation")
    arguments = dict(zip(names, projections(), strict=True)) | {"alpha": 0.3}
    with pytest.raises(ValueError, match=message):
        mixed_barlow_twins(**arguments | change)


def test_one_row_is_refused():
    row = np.ones((1, 4), "float32")
    with pytest.raises(ValueError, match="at least 2 rows"):
        mixed_barlow_twins(row, row, row, [0], 0.3)


# --- the model -------------------------------------------------------------------------


@pytest.fixture(scope="module")
def seen():
    """The views of two batches on 1 and 2 replicas."""
    found = {}
    for replicas in (1, 2):
        model = build(MixedBarlowTwins, SMALL, replicas=replicas)
        found[replicas] = [run_on(replicas, model.make_views, images(16, s)) for s in range(2)]
    return found


def whole(parts, index):
    return np.concatenate([np.asarray(part["views"][index]) for part in parts])


@pytest.mark.parametrize("replicas", [1, 2])
def test_the_mixed_image_is_what_it_says(seen, replicas):
    for parts in seen[replicas]:
        first, second, mixed = (whole(parts, index) for index in range(3))
        alpha, permutation = float(parts[0]["alpha"]), np.asarray(parts[0]["permutation"])
        assert 0 < alpha < 1 and sorted(permutation) == list(range(16))
        wanted = alpha * first + (1 - alpha) * second[permutation]
        np.testing.assert_allclose(mixed, wanted, atol=1e-5)
        for part in parts[1:]:
            assert float(part["alpha"]) == alpha
            assert np.array_equal(part["permutation"], permutation)


@pytest.mark.parametrize("replicas", [2])
def test_replicas_mix_as_one_device(seen, replicas):
    for alone, parts in zip(seen[1], seen[replicas], strict=True):
        assert np.array_equal(parts[0]["permutation"], alone[0]["permutation"])
        for index in range(3):
            np.testing.assert_allclose(whole(parts, index), whole(alone, index), atol=1e-6)


def test_every_batch_is_mixed_anew(seen):
    (one,), (two,) = seen[1]
    assert float(one["alpha"]) != float(two["alpha"])
    assert not np.array_equal(one["permutation"], two["permutation"])


def test_the_mixing_coefficient_is_uniform():
    seeds = [distribution.fixed_seed(value) for value in range(400)]
    draws = np.sort([float(mixing(seed, 4)[0]) for seed in seeds])
    # Kolmogorov and Smirnov's distance, at 400 draws below 0.1 but once in a thousand.
    assert np.max(np.abs(draws - (np.arange(400) + 0.5) / 400)) < 0.1


def test_evaluation_mixes_alike():
    model = build(MixedBarlowTwins, SMALL)
    model._evaluating = True
    one, two = (model.make_views(tf.constant(images(16))) for _ in range(2))
    assert float(one["alpha"]) == float(two["alpha"])
    assert np.array_equal(one["permutation"], two["permutation"])


@pytest.mark.parametrize("normalize", [True, False])
def test_projections_have_unit_length_where_asked(normalize):
    model = build(MixedBarlowTwins, {**SMALL, "normalize": normalize})
    lengths = np.linalg.norm(model.project(tf.constant(images(8), "float32")), axis=1)
    assert np.allclose(lengths, 1.0, atol=1e-5) == normalize
    biases = [v.path for v in model.projector.trainable_variables if v.path.endswith("bias")]
    # Standardisation would cancel it without the normalisation.
    assert len(biases) == normalize


@pytest.mark.slow
def test_the_mixed_term_follows_a_schedule_of_the_optimizers_step():
    ramp = schedules.LinearWarmup(0.0, 4.0, 8)
    model = build(MixedBarlowTwins, {**SMALL, "mix_scale": ramp})
    (log,) = train(model, 1)
    assert log["mixed"] == 0 and log["barlow_twins"] > 0
    found = {}
    for step in (2, 8, 20):
        model.optimizer.iterations.assign(step)
        found[step] = model.evaluate(images(16), verbose=0, return_dict=True)["mixed"]
    assert found[2] == pytest.approx(found[8] / 4, rel=1e-5)
    assert found[20] == found[8] > 0


def test_saving_keeps_form_and_schedule(tmp_path):
    own = {"form": "imagenet", "normalize": False, "lambd": 0.02}
    ramp = schedules.LinearWarmup(0.0, 4.0, 8)
    model = build(MixedBarlowTwins, {**SMALL, **own, "mix_scale": ramp})
    model.save(tmp_path / "model.keras")
    loaded = keras_ssl.load_model(tmp_path / "model.keras")
    assert {name: getattr(loaded, name) for name in own} == own
    assert float(loaded.mix_scale(2)) == 1.0
    batch = images(16)
    assert model.evaluate(batch, verbose=0) == loaded.evaluate(batch, verbose=0)


def test_three_views_are_refused():
    three = views.MultiCrop([(light_views().first, 3)])
    model = build(MixedBarlowTwins, {**SMALL, "views": three})
    with pytest.raises(ValueError, match="exactly two views"):
        model.make_views(tf.constant(images(4)))


def test_the_recipe_for_imagenet_ramps_over_ten_epochs():
    from keras_ssl.recipes.mixed_barlow_twins_imagenet import RECIPE

    inputs = keras.Input((16, 16, 3))
    encoder = keras.Model(inputs, keras.layers.GlobalAveragePooling2D()(inputs))
    options = {"backbone": encoder, "projector": (4, 4), "views": light_views()}
    ramp = RECIPE.build((16, 16, 3), 7, seed=0, **options).mix_scale
    assert [float(ramp(step)) for step in (0, 35, 70, 700)] == pytest.approx([0, 0.5, 1, 1])
    short = RECIPE.build((16, 16, 3), 7, seed=0, epochs=20, **options).mix_scale
    assert [float(short(step)) for step in (7, 14)] == pytest.approx([0.5, 1])
