# SPDX-License-Identifier: Apache-2.0
"""Pipelines as a whole: fused against sequential, seeds, named tables, pictures, saving."""

import itertools

import keras
import numpy as np
import pytest

from keras_ssl import views
from keras_ssl.views import pipeline as pipelines
from keras_ssl.views import tables


def photos(count=8, size=24, channels=3, seed=0):
    """Smooth random uint8 images, so that resampling means something."""
    rng = np.random.default_rng(seed)
    coarse = rng.random((count, size // 4, size // 4, channels))
    return (np.kron(coarse, np.ones((1, 4, 4, 1))) * 255).astype("uint8")


def members(size=20, **crop):
    return [
        views.RandomResizedCrop(size, **crop),
        views.HorizontalFlip(),
        views.ColorJitter(0.4, 0.4, 0.4, 0.1),
        views.Grayscale(0.3),
        views.GaussianBlur(probability=0.6),
        views.Solarize(probability=0.3),
        views.Normalize((0.4, 0.5, 0.6), (0.2, 0.3, 0.4)),
    ]


def array(tensor):
    return keras.ops.convert_to_numpy(tensor)


VARIANTS = {
    "recipe": lambda: members(),
    "bicubic": lambda: members(interpolation="bicubic"),
    "shrinking": lambda: members(size=10, area=(0.6, 1.0)),
    "large": lambda: members(size=100),
    "large_from_larger": lambda: members(size=100, area=(0.7, 1.0), interpolation="bicubic"),
    "axis_affine": lambda: [
        views.Affine(scale=(0.8, 1.2), shift=0.1),
        views.ColorJitter(0.4, 0.4),
        views.HorizontalFlip(),
    ],
    "rotation": lambda: [views.Rotate(30.0), views.HorizontalFlip(), views.ColorJitter(0.4)],
    "blur_first": lambda: [views.GaussianBlur(), views.ColorJitter(0.4, 0.8, 0.4, 0.1)],
    "two_blurs": lambda: [views.GaussianBlur(), views.GaussianBlur(), views.HorizontalFlip()],
    "colour_only": lambda: [views.ColorJitter(0.8, 0.8, 0.8, 0.2), views.Grayscale()],
    "simclr_contrast": lambda: [views.ColorJitter(0.4, 0.8, 0.4, 0.1, reference="tensorflow")],
    "noise": lambda: [views.HorizontalFlip(), views.GaussianNoise((0.0, 0.2))],
}


# Variants of what others show already.
LONG = ("large", "large_from_larger", "shrinking", "bicubic", "rotation", "two_blurs")


@pytest.mark.parametrize(
    "variant",
    [pytest.param(v, marks=pytest.mark.slow) if v in LONG else v for v in VARIANTS],
)
def test_fused_equals_sequential(variant):
    size = 128 if variant == "large_from_larger" else 24
    images = photos(size=size)
    fused = array(views.Pipeline(VARIANTS[variant]())(images, seed=3))
    sequential = array(views.Pipeline(VARIANTS[variant](), fused=False)(images, seed=3))
    np.testing.assert_allclose(fused, sequential, atol=1e-4)
    assert np.isfinite(fused).all()
    assert fused.std() > 0.05


def test_fused_equals_sequential_on_grey_images():
    make = lambda fused: views.Pipeline(  # noqa: E731
        [views.RandomResizedCrop(20), views.ColorJitter(0.4, 0.4, 0.4, 0.1), views.GaussianBlur()],
        fused=fused,
    )
    images = photos(channels=1)
    np.testing.assert_allclose(make(True)(images, seed=1), make(False)(images, seed=1), atol=1e-4)


def test_views_differ_from_each_other_and_from_the_images():
    images = photos()
    first, second = views.get("simclr", images.shape[1:])(images, seed=0)
    assert np.abs(array(first) - array(second)).mean(axis=(1, 2, 3)).min() > 0.05
    one, other = (array(view) for view in views.get("simclr", images.shape[1:])(images))
    assert not np.allclose(one, other)


def test_no_two_rows_and_no_two_views_share_parameters():
    rows = 64
    images = np.zeros((rows, 16, 16, 3), "uint8")
    pipeline = views.Pipeline(members(16))
    seeds = [keras.ops.convert_to_tensor(np.array([0, n], "int32")) for n in (1, 2)]
    drawn = [pipeline.parameters(images, seed) for seed in seeds]
    for index, key in ((0, "top"), (0, "left"), (2, "brightness"), (4, "sigma")):
        values = np.concatenate([array(params[index][key]) for params in drawn])
        unchanged = np.isclose(values, 1.0) | np.isclose(values, 0.5)
        values = values[~unchanged]
        assert len(values) > rows
        assert len(np.unique(values)) == len(values), key


def test_same_images_in_a_batch_get_different_views():
    images = np.repeat(photos(1), 16, axis=0)
    for view in views.get("byol", images.shape[1:])(images, seed=5):
        view = array(view).reshape(16, -1)
        for i, j in itertools.combinations(range(16), 2):
            assert not np.allclose(view[i], view[j])


def test_seed_repeats_and_generator_moves_on():
    images = photos()
    layer = views.get("moco_v2", images.shape[1:], seed=1)
    fixed = [array(layer(images, seed=7)[0]) for _ in range(2)]
    np.testing.assert_array_equal(*fixed)
    assert not np.allclose(fixed[0], array(layer(images, seed=8)[0]))
    moving = [array(layer(images)[0]) for _ in range(2)]
    assert not np.allclose(*moving)
    again = array(views.get("moco_v2", images.shape[1:], seed=1)(images)[0])
    np.testing.assert_array_equal(moving[0], again)


def test_uint8_and_unit_floats_give_the_same_view():
    images = photos()
    pipeline = views.Pipeline(members())
    floats = images.astype("float32") / 255.0
    np.testing.assert_allclose(pipeline(images, seed=2), pipeline(floats, seed=2), atol=1e-5)


def test_graph_eager_and_compiled_agree_also_with_a_dynamic_batch():
    tf = pytest.importorskip("tensorflow")
    images = photos()
    pipeline = views.Pipeline(members())
    seed = tf.constant([4, 5])
    eager = array(pipeline(images, seed=seed))
    signature = [tf.TensorSpec((None, 24, 24, 3), tf.uint8), tf.TensorSpec((2,), tf.int32)]
    for compile_all in (False, True):
        call = tf.function(
            lambda x, s: pipeline(x, seed=s),
            input_signature=signature,
            jit_compile=compile_all,
            autograph=False,
        )
        np.testing.assert_allclose(call(images, seed), eager, atol=1e-4)
    # Drawn before: numbers drawn outside of XLA differ.
    numbers = _numbers(pipeline, images, seed)
    run_eagerly = tf.config.functions_run_eagerly()
    tf.config.run_functions_eagerly(True)
    try:
        _, section, key = pipeline._sections[0]
        whole, _ = pipeline._functions(section, (key, 24, 24, 3, "uint8"))
        plain = array(whole(images, *numbers))
    finally:
        tf.config.run_functions_eagerly(run_eagerly)
    np.testing.assert_allclose(plain, eager, atol=1e-4)


def _numbers(pipeline, images, seed):
    from keras_ssl.core import distribution

    return pipeline._numbers(pipeline._sections[0][1], distribution.fold_in(seed, 0), images)


@pytest.mark.parametrize("name", tables.NAMES)
@pytest.mark.parametrize("channels", [pytest.param(1, marks=pytest.mark.slow), 3])
def test_every_name_builds_and_runs(name, channels, eagerly):
    images = photos(4, 16, channels)
    layer = views.get(name, (16, 16, channels), seed=0)
    made = layer(images, seed=1)
    assert len(made) == layer.count
    for view, size in zip(made, layer.sizes, strict=True):
        assert view.shape == (4, *(size or (16, 16)), channels)
        assert np.isfinite(array(view)).all()
    assert array(layer.preprocess(images)).shape == (4, 16, 16, channels)


def test_names_round_trip_and_layers_pass_through():
    layer = views.get("dino", (32, 32, 3))
    assert views.get(layer) is layer
    assert views.get(layer.first).count == 2
    with pytest.raises(ValueError, match="simclr"):
        views.get("simclrr")


def recipe(name, side, exact=False):
    """What a named pipeline consists of, view by view, in the words of the published tables."""
    layer = views.get(name, (side, side, 3), exact=exact)
    result = []
    for pipeline, count in zip(layer.pipelines, layer.counts, strict=True):
        kinds = {type(member).__name__: member for member in pipeline.transforms}
        crop, jitter = kinds["RandomResizedCrop"], kinds["ColorJitter"]
        assert crop.aspect == (3 / 4, 4 / 3)
        assert kinds["HorizontalFlip"].probability == 0.5
        blur, solarize = kinds.get("GaussianBlur"), kinds.get("Solarize")
        assert blur is None or blur.sigma == (0.1, 2.0)
        assert solarize is None or solarize.threshold == 0.5
        result.append(
            (
                count,
                crop.size[0],
                crop.area,
                (jitter.brightness, jitter.contrast, jitter.saturation, jitter.hue),
                jitter.probability,
                kinds["Grayscale"].probability,
                blur.probability if blur else 0.0,
                solarize.probability if solarize else 0.0,
            )
        )
    return result


STRONG, HALF, SOFT = (0.8, 0.8, 0.8, 0.2), (0.4, 0.4, 0.4, 0.1), (0.4, 0.4, 0.2, 0.1)
FULL = (0.08, 1.0)
BYOL = [(1, 224, FULL, SOFT, 0.8, 0.2, 1.0, 0.0), (1, 224, FULL, SOFT, 0.8, 0.2, 0.1, 0.2)]
BYOL_SMALL = [(1, 32, FULL, SOFT, 0.8, 0.2, 0.0, 0.0), (1, 32, FULL, SOFT, 0.8, 0.2, 0.0, 0.2)]
# (count, side, area, jitter, jitter p, grey p, blur p, solarize p), typed from the papers' code.
PUBLISHED = {
    ("simclr", 224): [(2, 224, FULL, STRONG, 0.8, 0.2, 0.5, 0.0)],
    ("moco_v2", 224): [(2, 224, (0.2, 1.0), HALF, 0.8, 0.2, 0.5, 0.0)],
    ("byol", 224): BYOL,
    ("barlow_twins", 224): BYOL,
    ("vicreg", 224): BYOL,
    ("swav", 224): [
        (2, 224, (0.14, 1.0), STRONG, 0.8, 0.2, 0.5, 0.0),
        (6, 96, (0.05, 0.14), STRONG, 0.8, 0.2, 0.5, 0.0),
    ],
    ("dino", 224): [
        (1, 224, (0.4, 1.0), SOFT, 0.8, 0.2, 1.0, 0.0),
        (1, 224, (0.4, 1.0), SOFT, 0.8, 0.2, 0.1, 0.2),
        (8, 96, (0.05, 0.4), SOFT, 0.8, 0.2, 0.5, 0.0),
    ],
    ("ibot", 224): [
        (1, 224, (0.25, 1.0), SOFT, 0.8, 0.2, 1.0, 0.0),
        (1, 224, (0.25, 1.0), SOFT, 0.8, 0.2, 0.1, 0.2),
        (10, 96, (0.05, 0.25), SOFT, 0.8, 0.2, 0.5, 0.0),
    ],
    ("ibot", 32): BYOL_SMALL,
    ("franca", 224): [
        (1, 224, (0.32, 1.0), SOFT, 0.8, 0.2, 1.0, 0.0),
        (1, 224, (0.32, 1.0), SOFT, 0.8, 0.2, 0.1, 0.2),
        (8, 98, (0.05, 0.32), SOFT, 0.8, 0.2, 0.5, 0.0),
    ],
    ("franca", 32): BYOL_SMALL,
    ("simclr", 32): [(2, 32, FULL, HALF, 0.8, 0.2, 0.0, 0.0)],
    ("moco_v2", 32): [(2, 32, FULL, HALF, 0.8, 0.2, 0.0, 0.0)],
    ("byol", 32): BYOL_SMALL,
    ("barlow_twins", 32): BYOL_SMALL,
    ("vicreg", 32): [(2, 32, (0.2, 1.0), SOFT, 0.8, 0.2, 0.0, 0.1)],
    ("swav", 32): [(2, 32, FULL, STRONG, 0.8, 0.2, 0.5, 0.0)],
    ("dino", 32): BYOL_SMALL,
    ("cacr", 224): BYOL,
    ("cacr", 32): [(5, 32, (0.2, 1.0), (0.4, 0.4, 0.4, 0.4), 1.0, 0.2, 0.0, 0.0)],
}


def merged(rows):
    """Rows of the same view counted together."""
    counts = {}
    for count, *row in rows:
        counts[tuple(row)] = counts.get(tuple(row), 0) + count
    return counts


@pytest.mark.parametrize(("name", "side"), PUBLISHED)
def test_named_tables_are_the_published_ones(name, side):
    assert merged(recipe(name, side)) == merged(PUBLISHED[name, side])


@pytest.mark.parametrize(("name", "side"), [("hydra", 32), ("hydra", 224), ("sla", 224)])
def test_recipes_of_one_view_crop_and_flip(name, side):
    layer = views.get(name, (side, side, 3))
    assert layer.count == 1
    crop, flip, normalize = layer.pipelines[0].transforms
    assert crop.area == ((0.7, 1.0) if side == 32 else FULL) and crop.size == (side, side)
    assert isinstance(flip, views.HorizontalFlip) and isinstance(normalize, views.Normalize)


def test_label_augmentation_shifts_small_images():
    shift, flip, normalize = views.get("sla", (32, 32, 3)).pipelines[0].transforms
    assert isinstance(shift, views.Affine) and isinstance(flip, views.HorizontalFlip)
    assert shift.shift * 32 == 4 and shift.rotation == 0 and shift.scale == (1.0, 1.0)
    assert tuple(normalize.mean) == (0.5, 0.5, 0.5) == tuple(normalize.std)


def test_exact_recipes_use_the_published_interpolation():
    kernels = {
        name: views.get(name, (224, 224, 3), exact=True).pipelines[0].transforms[0].interpolation
        for name in ("simclr", "byol", "dino", "swav")
    }
    assert kernels == {
        "simclr": "bicubic",
        "byol": "bicubic",
        "dino": "bicubic",
        "swav": "bilinear",
    }


def test_multi_crop_sizes_and_counts():
    large = views.Pipeline([views.RandomResizedCrop(24, (0.4, 1.0))])
    small = views.Pipeline([views.RandomResizedCrop((12, 10), (0.05, 0.4))])
    layer = views.MultiCrop([(large, 2), (small, 3)])
    made = layer(photos(5), seed=0)
    assert [view.shape[1:3] for view in made] == [(24, 24)] * 2 + [(12, 10)] * 3
    assert layer.count == 5 and layer.sizes == [(24, 24)] * 2 + [(12, 10)] * 3
    assert not np.allclose(array(made[2]), array(made[3]))
    with pytest.raises(ValueError, match="counts of at least 1"):
        views.MultiCrop([(large, 0)])


def test_equal_pipelines_share_what_was_compiled():
    images = photos(2)
    made, compiled = pipelines._COMPILED, []
    for members_of in (lambda: members(12), lambda: members(12), lambda: members(10)):
        views.Pipeline(members_of())(images, seed=1)
        compiled.append(set(made))
    assert compiled[0] == compiled[1] and len(compiled[2] - compiled[1]) == 1
    # One pipeline and images of two sizes: neither may be traced for the other's.
    layer = views.Pipeline(members(12))
    for side in (20, 24):
        assert layer(photos(2)[:, :side, :side], seed=1).shape == (2, 12, 12, 3)


@pytest.mark.parametrize(
    "make",
    [
        pytest.param(lambda: views.get("byol", (24, 24, 3), seed=3), marks=pytest.mark.slow),
        lambda: views.get("digits", (24, 24, 3)),
        lambda: views.MultiCrop([(views.Pipeline(members()), 1), (views.Pipeline(members(8)), 2)]),
        lambda: views.TwoViews(views.Pipeline(members(), exact=True)),
    ],
)
def test_configuration_round_trip(make):
    layer, images = make(), photos()
    copy = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(layer))
    assert type(copy) is type(layer)
    assert copy.get_config() == layer.get_config()
    for one, other in zip(layer(images, seed=4), copy(images, seed=4), strict=True):
        np.testing.assert_array_equal(array(one), array(other))


def test_preprocess_is_deterministic_symbolic_and_saved(tmp_path):
    pipeline = views.Pipeline(members(16))
    images = photos(4, 24)
    inputs = keras.Input((24, 24, 3), dtype="uint8")
    model = keras.Model(inputs, pipeline.preprocess(inputs))
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    want = array(pipeline.preprocess(images))
    assert want.shape == (4, 16, 16, 3)
    np.testing.assert_allclose(loaded.predict(images, verbose=0), want, atol=1e-5)
    same = array(views.Pipeline(members(24)).preprocess(images))
    want = (images / 255.0 - (0.4, 0.5, 0.6)) / (0.2, 0.3, 0.4)
    np.testing.assert_allclose(same, want, atol=1e-5)


def test_preprocess_keeps_the_aspect_ratio():
    wide = np.zeros((1, 16, 32, 1), "uint8")
    wide[:, :, 8:24] = 255
    out = array(views.Pipeline([views.RandomResizedCrop(8)]).preprocess(wide))
    assert out.shape == (1, 8, 8, 1)
    # The white middle fills the crop; only antialiasing touches its edge.
    assert out.min() > 0.85 and out[:, :, 1:-1].min() > 0.99


def test_bad_input_is_named():
    pipeline = views.Pipeline([views.HorizontalFlip()])
    with pytest.raises(ValueError, match="channel axis"):
        pipeline(np.zeros((4, 8, 8), "uint8"))
    with pytest.raises(ValueError, match="1 or 3 channels"):
        views.Pipeline([views.ColorJitter(0.4)])(np.zeros((4, 8, 8, 2), "uint8"), seed=0)
    with pytest.raises(ValueError, match="last transform"):
        views.Pipeline([views.Normalize(0.5, 0.5), views.HorizontalFlip()])
    with pytest.raises(ValueError, match="at least one"):
        views.Pipeline([])


def test_show_draws_originals_above_their_views():
    images = photos(6)
    picture = views.show(views.get("simclr", images.shape[1:]), images, count=4, cell=24)
    assert picture.size == (4 * 26 + 2, 3 * 26 + 2)
    assert picture.mode == "RGB"
    first = np.asarray(picture)[2:26, 2:26]
    np.testing.assert_allclose(first, images[0], atol=1)
    grey = views.show(views.get("digits", (24, 24, 1)), photos(channels=1), count=2)
    assert grey.mode == "RGB"
