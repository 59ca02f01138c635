# SPDX-License-Identifier: Apache-2.0
"""What masked models predict, against independent forms in float64."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import ops
from scipy import ndimage
from strategies import strategy

from keras_ssl import backbones, targets
from keras_ssl.core import Teacher, distribution

SEED = distribution.fixed_seed(3)
# Samples, and a patch that cuts each.
SHAPES = {(4,): (12, 2), (3, 2): (6, 8, 3), (2, 3, 2): (4, 6, 6, 2)}
RANKS = pytest.mark.parametrize("patch", list(SHAPES), ids=["signal", "image", "video"])


def normal(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype("float32")


def cut(x, patch):
    """Patches `(B, L, p1, …, pd, C)`, one slice after the other."""
    grid = [side // step for side, step in zip(x.shape[1:-1], patch, strict=True)]
    found = []
    for place in np.ndindex(*grid):
        ranges = zip(place, patch, strict=True)
        found.append(x[(slice(None), *(slice(k * p, (k + 1) * p) for k, p in ranges))])
    return np.stack(found, axis=1)


def flat(patches):
    return patches.reshape(*patches.shape[:2], -1)


def small_vit(**options):
    options = {"width": 16, "depth": 3, "heads": 2, "class_token": True, "seed": 1} | options
    return backbones.VisionTransformer("tiny", (16, 16, 3), 4, **options)


@keras.saving.register_keras_serializable("tests")
def brightness(x):
    return ops.cast(ops.mean(x[:, ::4, ::4], axis=-1) * 7.0, "int32")


def codes():
    target = targets.PatchCodeTarget((4, 4), 5, normalize="patch", seed=0)
    target.adapt(normal(8, 16, 16, 3, seed=5))
    return target


def features(**settings):
    return targets.TeacherFeatureTarget(small_vit(), **settings)


# One of each kind for images (B, 16, 16, 3) with patches of 4.
EVERY = {
    "pixels": lambda: targets.PixelTarget((4, 4)),
    "patch": lambda: targets.PixelTarget((4, 4), "patch", order="channel_first", floor=0.1),
    "channel": lambda: targets.PixelTarget(
        (4, 4), "channel", 1e-5, epsilon_inside=False, unbiased=False
    ),
    "gradients": lambda: targets.GradientTarget((4, 4), scales=(0.0, 1.5)),
    "hog": lambda: targets.HOGTarget((4, 4), bins=6, cell=2, gaussian_window=8),
    "layers": lambda: features(layers=(2, 3), combine="concatenate", skip=0),
    "teacher": lambda: features(momentum=0.9),
    "codebook": lambda: targets.CodeTarget(brightness, 8),
    "layer of codes": lambda: targets.CodeTarget(codes(), 5),
    "codes": codes,
    "positions": lambda: targets.PositionTarget((4, 4)),
}
FREE = [name for name in EVERY if name not in ("layers", "teacher")]


# --- what all have in common ------------------------------------------------------------------


@pytest.mark.parametrize("name", list(EVERY))
def test_every_target_compiles_has_no_gradient_and_is_float32(name):
    target, x = EVERY[name](), normal(3, 16, 16, 3)
    want = np.asarray(target(x))
    integers = target.categorical
    assert want.dtype == ("int32" if integers else "float32") and np.all(np.isfinite(want))
    assert (
        target.compute_output_shape(x.shape)
        == want.shape
        == tuple(target(keras.Input(batch_shape=x.shape)).shape)
    )
    assert target.compute_output_shape((None, 16, 16, 3)) == (None, *want.shape[1:])
    assert want.shape[1] == 16 + (getattr(target, "front", 0) - getattr(target, "skip", 0))
    target.check((None, 16, 16, 3), (4, 4))
    with pytest.raises(ValueError, match="grid|tokens"):
        target.check((None, 16, 16, 3), (4, 5))
    if not integers:
        assert target.head_width(x.shape) == want.shape[-1]

    compiled = tf.function(target, jit_compile=True)
    np.testing.assert_allclose(compiled(tf.constant(x)), want, atol=2e-6, rtol=1e-5)
    with tf.GradientTape() as tape:
        variable = tf.Variable(x)
        total = tf.reduce_sum(tf.cast(target(variable), "float32") ** 2)
    assert tape.gradient(total, variable) is None
    assert not target.trainable_variables

    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(target))
    again.set_weights(target.get_weights())
    assert np.array_equal(again(x), want) and again.get_config() == target.get_config()


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_half_precision_changes_nothing(policy):
    x = 100.0 + normal(2, 16, 16, 3)
    plain = [np.asarray(EVERY[name]()(x)) for name in FREE]
    keras.config.set_dtype_policy(policy)
    half = [EVERY[name]() for name in FREE]

    class Outer(keras.layers.Layer):
        def call(self, inputs):
            return [target(inputs) for target in self.parts]

    outer = Outer(autocast=False)
    outer.parts = half
    for one, got in zip(plain, outer(x), strict=True):
        assert np.array_equal(one, got)
    for kind in ("bfloat16", policy):
        assert targets.PixelTarget((4, 4), dtype=kind)(x).dtype == "float32"
    teacher = targets.TeacherFeatureTarget(small_vit())
    assert teacher(x).dtype == "float32"
    # Standardised in float32: half precision would miss it by thousandths.
    np.testing.assert_allclose(ops.mean(ops.square(teacher(x)), axis=-1), 1.0, atol=1e-4)


def test_targets_are_saved_with_a_model(tmp_path):
    images = keras.Input((16, 16, 3))
    model = keras.Model(images, [make()(images) for make in EVERY.values()])
    model.save(tmp_path / "targets.keras")
    x = normal(2, 16, 16, 3)
    loaded = keras.saving.load_model(tmp_path / "targets.keras")
    for mine, other in zip(model(x), loaded(x), strict=True):
        assert np.array_equal(mine, other)


def test_constant_patches_stay_finite_and_uint8_is_taken():
    flat_images = np.full((1, 16, 16, 3), 200, "uint8")
    for make in EVERY.values():
        assert np.all(np.isfinite(make()(flat_images)))
    for normalize in ("patch", "channel"):
        for inside in (True, False):
            target = targets.PixelTarget((4, 4), normalize, epsilon_inside=inside)
            assert not np.any(target(flat_images))
    assert not np.any(targets.HOGTarget((8, 8))(flat_images))


def test_tokens_are_in_row_major_order():
    # Every value of a patch is the patch's number.
    x = np.arange(12.0).reshape(1, 2, 3, 2, 1)
    for axis in (1, 2, 3):
        x = x.repeat(2, axis=axis)
    got = np.asarray(targets.PixelTarget((2, 2, 2))(x))
    assert np.array_equal(got, np.arange(12.0)[None, :, None].repeat(8, axis=2))
    assert np.array_equal(targets.PositionTarget((2, 2, 2))(x), np.arange(12)[None])


def test_a_target_of_your_own():
    class Means(targets.PatchTarget):
        def values(self, channels):
            return channels

        def call(self, inputs):
            return ops.mean(ops.reshape(inputs, (-1, 4, 4, inputs.shape[-1])), axis=2)

    target = Means((4,))
    assert target(normal(2, 16, 3)).shape == target.compute_output_shape((2, 16, 3)) == (2, 4, 3)
    target.check((None, 16, 3), (4,))
    for missing in (targets.Target(), targets.PatchTarget((4,))):
        with pytest.raises(NotImplementedError, match="must define"):
            missing.compute_output_shape((2, 16, 3))


# --- pixels -----------------------------------------------------------------------------------

VARIANTS = {
    "MAE": {"normalize": "patch"},
    "CineMA": {"normalize": "patch", "epsilon_inside": False},
    "VideoMAE": {"normalize": "channel", "epsilon_inside": False},
    "raw": {"normalize": None},
    "biased": {"normalize": "channel", "unbiased": False, "epsilon": 1e-2},
    "floor": {"normalize": "patch", "floor": 4.0},
}


@RANKS
@pytest.mark.parametrize("name", list(VARIANTS))
def test_published_standardisations(name, patch):
    x = 3.0 + 0.5 * normal(2, *SHAPES[patch])
    # With tiny deviations it matters where epsilon stands.
    x[0] = x[0] * 1e-3
    p = cut(x.astype("float64"), patch)
    inside = tuple(range(2, 2 + len(patch)))
    every = (*inside, inside[-1] + 1)
    mean, std = p.mean(every, keepdims=True), p.std(every, ddof=1, keepdims=True)
    if name == "MAE":
        want = (p - mean) / np.sqrt(std**2 + 1e-6)
    elif name == "CineMA":
        want = (p - mean) / (std + 1e-6)
    elif name == "VideoMAE":
        want = (p - p.mean(inside, keepdims=True)) / (p.std(inside, ddof=1, keepdims=True) + 1e-6)
    elif name == "biased":
        want = (p - p.mean(inside, keepdims=True)) / np.sqrt(p.var(inside, keepdims=True) + 1e-2)
    elif name == "floor":
        want = (p - mean) / np.sqrt(4.0 + 1e-6)
    else:
        want = p
    target = targets.PixelTarget(patch, **VARIANTS[name])
    np.testing.assert_allclose(target(x), flat(want), atol=1e-4 if name == "CineMA" else 2e-5)
    first = targets.PixelTarget(patch, **VARIANTS[name], order="channel_first")
    moved = flat(np.moveaxis(want, -1, 2))
    np.testing.assert_allclose(first(x), moved, atol=1e-4 if name == "CineMA" else 2e-5)

    for each in (target, first):
        np.testing.assert_allclose(each.to_pixels(each(x), x), x, rtol=1e-5, atol=1e-6)


def test_raw_pixels_are_put_together_exactly_and_only_where_asked():
    x, target = normal(2, 6, 8, 3), targets.PixelTarget((3, 2), order="channel_first")
    assert np.array_equal(target.to_pixels(target(x), x), x)
    mask = np.zeros((2, 8), bool)
    mask[0, 1] = mask[1, 6] = True
    got = np.asarray(target.to_pixels(np.full((2, 8, 18), 9.0), x, mask))
    want = x.copy()
    want[0, 0:3, 2:4] = want[1, 3:6, 4:6] = 9.0
    assert np.array_equal(got, want)
    with pytest.raises(ValueError, match="received predictions"):
        target.to_pixels(np.zeros((2, 8, 17)), x)


def test_a_large_mean_costs_no_precision():
    x = 1000.0 + normal(2, 8, 8, 3)
    p = cut(x.astype("float64"), (4, 4))
    axes = (2, 3, 4)
    std = p.std(axes, ddof=1, keepdims=True)
    want = flat((p - p.mean(axes, keepdims=True)) / np.sqrt(std**2 + 1e-6))
    np.testing.assert_allclose(targets.PixelTarget((4, 4), "patch")(x), want, atol=2e-4)


def test_open_sizes_are_taken_as_they_come():
    for target in (targets.PixelTarget((2, 2), "patch"), targets.PositionTarget((2, 2))):
        signature = [tf.TensorSpec((None, None, None, 3))]
        x = normal(3, 4, 6, 3)
        got = tf.function(target, input_signature=signature)(x)
        np.testing.assert_allclose(got, target(x), atol=1e-6)
        assert target.compute_output_shape((None, None, 4, 3))[:2] == (None, None)
    target = targets.PixelTarget((2, 2), "channel")
    back = tf.function(lambda x: target.to_pixels(target(x), x), input_signature=signature)
    np.testing.assert_allclose(back(x), x, atol=1e-5)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"patch": ()}, "sizes of a patch"),
        ({"patch": 16}, "sizes of a patch"),
        ({"patch": (0, 4)}, "sizes of a patch"),
        ({"patch": (4, 4), "normalize": "image"}, "normalize in"),
        ({"patch": (4, 4), "order": "last"}, "order in"),
        ({"patch": (4, 4), "epsilon": 0.0}, "epsilon > 0"),
        ({"patch": (4, 4), "floor": -1.0}, "floor"),
        ({"patch": (1, 1), "normalize": "channel"}, "single value"),
    ],
)
def test_wrong_settings_of_pixels(settings, message):
    with pytest.raises(ValueError, match=message):
        targets.PixelTarget(**settings)


def test_samples_that_do_not_fit_a_patch():
    with pytest.raises(ValueError, match="single value"):
        targets.PixelTarget((1,), "patch").head_width((None, 8, 1))
    with pytest.raises(ValueError, match="does not tile"):
        targets.PixelTarget((4, 4))(normal(1, 10, 8, 3))
    with pytest.raises(ValueError, match="grid of \\(4, 4\\)"):
        targets.PixelTarget((4, 4)).check((None, 16, 16, 3), (2, 8))


# --- gradients --------------------------------------------------------------------------------


@RANKS
def test_sobel_is_scipys(patch):
    x = normal(2, *SHAPES[patch])
    for axis, got in enumerate(targets.sobel(x), start=1):
        want = [
            [
                -ndimage.sobel(x[b, ..., c].astype("float64"), axis - 1, mode="mirror")
                for c in range(x.shape[-1])
            ]
            for b in range(2)
        ]
        want = np.moveaxis(np.array(want), 1, -1) * 4.0 ** (2 - len(patch))
        np.testing.assert_allclose(got, want, atol=1e-5)


@RANKS
def test_gradients_of_blurred_samples(patch):
    x, scales = normal(2, *SHAPES[patch]), (0.0, 0.7, 3.0)
    parts = []
    for scale in scales:
        spread = (0, *[scale] * len(patch), 0)
        blurred = (
            ndimage.gaussian_filter(x.astype("float64"), spread, mode="mirror") if scale else x
        )
        axes = range(1, 1 + len(patch))
        squares = 0.0
        for axis in axes:
            part = blurred.astype("float64")
            for other in axes:
                weights = [-1.0, 0.0, 1.0] if other == axis else [1.0, 2.0, 1.0]
                part = ndimage.correlate1d(part, weights, other, mode="mirror")
            squares = squares + (part * 4.0 ** (2 - len(patch))) ** 2
        parts.append(np.sqrt(squares))
    want = flat(cut(np.concatenate(parts, axis=-1), patch))
    target = targets.GradientTarget(patch, scales)
    np.testing.assert_allclose(target(x), want, atol=1e-4)
    assert target.head_width(x.shape) == want.shape[-1]


def test_a_volume_without_depth_has_the_gradients_of_its_slices():
    image = normal(2, 8, 8, 2)
    volume = np.repeat(image[:, None], 4, axis=1)
    depth, *others = targets.sobel(volume)
    assert not np.any(depth)
    for mine, want in zip(others, targets.sobel(image), strict=True):
        np.testing.assert_allclose(mine, np.repeat(want[:, None], 4, axis=1), atol=1e-5)
    magnitudes = np.asarray(targets.GradientTarget((2, 4, 4))(volume))
    slices = np.asarray(targets.GradientTarget((4, 4))(image))
    np.testing.assert_allclose(magnitudes.mean(), slices.mean(), rtol=1e-5)
    np.testing.assert_allclose(magnitudes.reshape(2, 2, 4, 2, -1)[:, 1, :, 1], slices, atol=1e-5)


def test_what_gradients_refuse():
    for scales in ((), (-1.0,), (float("nan"),)):
        with pytest.raises(ValueError, match="at least one scale"):
            targets.GradientTarget((4, 4), scales)
    with pytest.raises(ValueError, match="at least 2 values"):
        targets.sobel(normal(2, 1, 8, 3))
    signature = [tf.TensorSpec((None, None, 8, 3))]
    with pytest.raises(ValueError, match="known size"):
        tf.function(targets.GradientTarget((4, 4), (1.0,)), input_signature=signature)(
            normal(1, 8, 8, 3)
        )


def histograms(image, bins, cell, window):
    """HOG of one channel in float64, pixel by pixel."""
    down, along = (-ndimage.sobel(image, axis, mode="mirror") for axis in (0, 1))
    height, width = image.shape
    found = np.zeros((height // cell, width // cell, bins))
    for y, x in np.ndindex(height, width):
        weight = np.hypot(down[y, x], along[y, x])
        if window:
            places = (np.arange(window) - (window - 1) / 2) / (window // 2)
            bell = np.exp(-(places**2) / 2)
            weight *= bell[y % window] * bell[x % window] / bell.sum() ** 2
        angle = np.arctan2(along[y, x], down[y, x]) / np.pi * bins
        edge = abs(angle - round(angle)) < 1e-4
        assert not edge or 0 in (y % (height - 1), x % (width - 1)), "only borders lie on edges"
        found[y // cell, x // cell, int(np.floor(angle)) % bins] += weight
    return found / np.maximum(np.linalg.norm(found, axis=-1, keepdims=True), 1e-12)


@pytest.mark.parametrize(
    ("patch", "bins", "cell", "window"), [((8, 8), 9, 8, 0), ((4, 8), 6, 4, 8), ((4, 4), 1, 2, 0)]
)
def test_histograms_of_oriented_gradients(patch, bins, cell, window):
    x = normal(2, 16, 24, 2, seed=4)
    target = targets.HOGTarget(patch, bins, cell, window)
    want = [
        np.stack(
            [histograms(x[b, ..., c].astype("float64"), bins, cell, window) for c in (0, 1)], 2
        )
        for b in (0, 1)
    ]
    want = flat(cut(np.array(want).reshape(2, 16 // cell, 24 // cell, -1), np.array(patch) // cell))
    np.testing.assert_allclose(target(x), want, atol=1e-5)
    assert target.head_width(x.shape) == want.shape[-1]
    lengths = np.linalg.norm(np.asarray(target(x)).reshape(-1, bins), axis=-1)
    np.testing.assert_allclose(lengths, 1.0, atol=1e-5)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"patch": (4, 4)}, "divides the patch"),
        ({"patch": (8,)}, "divides the patch"),
        ({"patch": (8, 8), "bins": 0}, "at least 1 bin"),
        ({"patch": (8, 8), "gaussian_window": 1}, "window of at least 2"),
        ({"patch": (8, 8), "epsilon": 0.0}, "epsilon > 0"),
    ],
)
def test_wrong_settings_of_histograms(settings, message):
    with pytest.raises(ValueError, match=message):
        targets.HOGTarget(**settings)
    with pytest.raises(ValueError, match="do not tile"):
        targets.HOGTarget((8, 8), gaussian_window=12)(normal(1, 16, 16, 3))


# --- a teacher's features ---------------------------------------------------------------------


def whitened(x, epsilon=1e-5):
    x = np.asarray(x, "float64")
    centred = x - x.mean(-1, keepdims=True)
    return centred / np.sqrt((centred**2).mean(-1, keepdims=True) + epsilon)


def test_layers_of_a_transformer_are_normalised_and_combined():
    encoder, x = small_vit(registers=2), normal(2, 16, 16, 3)
    layers = [np.asarray(h) for h in encoder.token_model(layers=(1, 3))(x)]
    mean = targets.TeacherFeatureTarget(encoder, layers=(1, 3))
    np.testing.assert_allclose(mean(x), sum(whitened(h[:, 3:]) for h in layers) / 2, atol=1e-5)
    raw = targets.TeacherFeatureTarget(
        encoder, layers=(1, 3), combine="concatenate", normalize=False, skip=1
    )
    np.testing.assert_allclose(raw(x), np.concatenate(layers, axis=-1)[:, 1:], atol=1e-6)
    assert raw.compute_output_shape(x.shape) == (2, 18, 32)
    # Without layers the last one, also where the network pools.
    last = targets.TeacherFeatureTarget(encoder, epsilon=1e-2)
    np.testing.assert_allclose(last(x), whitened(layers[1][:, 3:], 1e-2), atol=1e-5)
    given = targets.TeacherFeatureTarget(small_vit(registers=2, tokens=True, layers=(1, 3)))
    np.testing.assert_allclose(given(x), mean(x), atol=1e-6)


def test_other_networks_give_maps_or_tokens_of_their_own():
    x = normal(2, 16, 16, 3)
    images = keras.Input((16, 16, 3))
    fine = keras.layers.Conv2D(5, 4, 4)(images)
    network = keras.Model(images, [fine, keras.layers.Conv2D(7, 1)(fine)])
    target = targets.TeacherFeatureTarget(network, combine="concatenate", normalize=False)
    want = np.concatenate([np.asarray(h).reshape(2, 16, -1) for h in network(x)], axis=-1)
    np.testing.assert_allclose(target(x), want, atol=1e-6)
    target.check(x.shape, (4, 4))
    for grid in ((2, 8), (4, 5)):
        with pytest.raises(ValueError, match="student's grid"):
            target.check(x.shape, grid)
    tokens = small_vit().token_model()
    with pytest.raises(ValueError, match=r"tokens \(17,\)"):
        targets.TeacherFeatureTarget(tokens).check(x.shape, (4, 4))
    skipping = targets.TeacherFeatureTarget(tokens, skip=1)
    skipping.check(x.shape, (4, 4))
    np.testing.assert_allclose(skipping(x), whitened(tokens(x)[:, 1:]), atol=1e-5)
    # The student has patches of 8, or samples of another size come.
    with pytest.raises(ValueError, match=r"tokens \(4, 4\)"):
        targets.TeacherFeatureTarget(small_vit()).check(x.shape, (2, 2))
    targets.TeacherFeatureTarget(small_vit()).check((None, 32, 32, 3), (8, 8))


def test_frozen_teachers_stay_as_they_are_and_others_follow():
    images = keras.Input((8, 8, 3))
    body = keras.layers.BatchNormalization()(keras.layers.Conv2D(4, 4, 4)(images))
    student = keras.Model(images, keras.layers.Dropout(0.5)(body))
    frozen = targets.TeacherFeatureTarget(student)
    moving = targets.TeacherFeatureTarget(student, momentum=0.5)
    x, before = 3.0 + normal(4, 8, 8, 3), [v.numpy() for v in frozen.teacher.variables]
    head = keras.layers.Dense(4)
    with tf.GradientTape() as tape:
        prediction = head(student(x, training=True))
        loss = tf.reduce_mean((tf.reshape(prediction, (4, 4, 4)) - frozen(x, training=True)) ** 2)
        loss += tf.reduce_mean((prediction[:, 0] - moving(x, training=True)[:, :2]) ** 2)
    variables = student.trainable_variables + frozen.variables + moving.variables
    gradients = tape.gradient(loss, [v.value for v in variables])
    count = len(student.trainable_variables)
    assert all(g is not None for g in gradients[:count])
    assert all(g is None for g in gradients[count:])
    for variable in student.trainable_variables:
        variable.assign_add(ops.ones_like(variable))
    assert np.array_equal(frozen(x, training=True), frozen(x))
    for target in (frozen, moving):
        target.teacher.update(student)
    for old, now in zip(before, frozen.teacher.variables, strict=True):
        assert np.array_equal(old, now)
    kernel = moving.teacher.network.trainable_weights or moving.teacher.network.weights
    assert np.allclose(kernel[0], before[0] + 0.5)
    # In training a teacher that moves uses its own batches, as everywhere here.
    assert not np.allclose(moving.teacher.network.layers[2].moving_mean, 0.0)


def test_a_teacher_is_taken_as_it_is():
    teacher = Teacher(small_vit(), momentum=0.9)
    target = targets.TeacherFeatureTarget(teacher)
    assert target.teacher is teacher
    with pytest.raises(ValueError, match="has its own"):
        targets.TeacherFeatureTarget(teacher, momentum=0.5)


def test_what_teachers_are_refused():
    make, encoder = targets.TeacherFeatureTarget, small_vit()
    conv = backbones.get("convnet", input_shape=(16, 16, 3))
    with pytest.raises(ValueError, match="no features of single tokens"):
        make(conv)
    with pytest.raises(ValueError, match="names blocks"):
        make(conv, layers=(1,))
    with pytest.raises(ValueError, match="from 1 to 3"):
        make(encoder, layers=(4,))
    with pytest.raises(ValueError, match="combine in"):
        make(encoder, combine="sum")
    for skip in (-1, 2):
        with pytest.raises(ValueError, match="tokens in front"):
            make(encoder, skip=skip)
    with pytest.raises(ValueError, match="built network"):
        make(keras.Sequential([keras.layers.Dense(3)]))
    images = keras.Input((16, 16, 3))
    maps = [keras.layers.Conv2D(width, 4, 4)(images) for width in (5, 7)]
    with pytest.raises(ValueError, match="no common width"):
        make(keras.Model(images, maps))
    with pytest.raises(ValueError, match="no tokens in front"):
        make(keras.Model(images, maps[0]), skip=1)


# --- codes ------------------------------------------------------------------------------------


@RANKS
def test_codes_are_the_nearest_centroids(patch):
    x = 300.0 + normal(20, *SHAPES[patch])
    target = targets.PatchCodeTarget(patch, 6, seed=0)
    with pytest.raises(ValueError, match="call target.adapt"):
        target(x)
    target.adapt(x)
    centroids = np.asarray(target.centroids, "float64")
    patches = flat(cut(x.astype("float64"), patch))
    distances = np.square(patches[:, :, None] - centroids).sum(-1)
    got = np.asarray(target(x))
    assert np.array_equal(got, distances.argmin(-1)) and set(got.flat) == set(range(6))
    # k-means has settled: every centroid is the mean of its patches.
    means = [patches[got == index].mean(axis=0) for index in range(6)]
    np.testing.assert_allclose(centroids, means, atol=0.05)
    again = targets.PatchCodeTarget(patch, 6, seed=0)
    again.adapt(x)
    assert np.array_equal(again.centroids, target.centroids)
    assert target.head_width(x.shape) == target.classes == 6


def test_standardised_patches_forget_brightness():
    x = normal(20, 8, 8, 1)
    target = targets.PatchCodeTarget((4, 4), 4, normalize="patch", seed=0)
    target.adapt(x)
    assert np.array_equal(target(x), target(5.0 + 2.0 * x))


def test_any_callable_is_a_codebook():
    x = np.random.default_rng(0).random((2, 16, 16, 3)).astype("float32")
    got = targets.CodeTarget(brightness, 7)(x)
    assert np.array_equal(got, np.asarray(brightness(x)).reshape(2, 16))

    class Quantizer(keras.layers.Layer):
        def build(self, input_shape):
            self.kernel = self.add_weight(shape=(3, 5), initializer="normal")

        def call(self, inputs, training=False):
            assert not training
            return ops.argmax(ops.matmul(inputs[:, ::4, ::4], self.kernel), axis=-1)

    layer = Quantizer()
    with pytest.raises(ValueError, match="only when it is built"):
        targets.CodeTarget(layer, 5)
    want = np.asarray(layer(x)).reshape(2, 16)
    target = targets.CodeTarget(layer, 5)
    layer.kernel.assign(-layer.kernel)
    assert np.array_equal(target(x), want)
    assert not target.trainable_variables and target.head_width(x.shape) == 5


def test_what_codes_refuse():
    for make in (
        lambda n: targets.CodeTarget(brightness, n),
        lambda n: targets.PatchCodeTarget((4, 4), n),
    ):
        with pytest.raises(ValueError, match="at least 2 classes"):
            make(1)
    with pytest.raises(ValueError, match="argmax"):
        targets.CodeTarget(lambda x: x[:, 0, :, 0], 3)(normal(2, 8, 8, 3))
    with pytest.raises(ValueError, match="needs a callable"):
        targets.CodeTarget("dall-e", 3)
    with pytest.raises(ValueError, match="4 patches cannot"):
        targets.PatchCodeTarget((4, 4), 5).adapt(normal(1, 8, 8, 3))
    with pytest.raises(ValueError, match="normalize in"):
        targets.PatchCodeTarget((4, 4), 5, normalize="whiten")


# --- labels -----------------------------------------------------------------------------------


def test_positions_are_indices():
    target = targets.PositionTarget((2, 2))
    got = target(normal(3, 4, 6, 1))
    assert got.dtype == "int32" and np.array_equal(got, np.tile(np.arange(6), (3, 1)))
    assert target.head_width((None, 4, 6, 1)) == 6


@pytest.mark.parametrize("shape", [(6, 6, 3), (2, 6, 6, 1)], ids=["image", "video"])
def test_rotations_are_numpys(shape):
    target, x = targets.RotationTarget(), normal(64, *shape)
    images, labels = target(x, seed=SEED)
    labels = np.asarray(labels)
    assert labels.dtype == "int32" and set(labels) == {0, 1, 2, 3}
    for image, label, turned in zip(x, labels, np.asarray(images), strict=True):
        assert np.array_equal(turned, np.rot90(image, label, axes=(-3, -2)))
    compiled = tf.function(lambda x: target(x, seed=SEED), jit_compile=True)(x)
    assert np.array_equal(compiled[0], images) and np.array_equal(compiled[1], labels)
    assert not np.array_equal(target(x, seed=distribution.fixed_seed(4))[1], labels)
    many = target(np.zeros((4000, 1, 1, 1)), seed=SEED)[1]
    np.testing.assert_allclose(np.bincount(many) / 4000, 0.25, atol=0.03)
    with pytest.raises(ValueError, match="square"):
        target(normal(2, 4, 6, 3), seed=SEED)
    spec = target(keras.Input(shape), seed=SEED)
    assert spec[0].shape == (None, *shape) and spec[1].dtype == "int32"
    again = targets.RotationTarget.from_config(target.get_config())
    assert np.array_equal(again(x, seed=SEED)[1], labels)


def test_replicas_turn_the_rows_of_the_global_batch():
    target, devices, x = targets.RotationTarget(), strategy(2), normal(8, 4, 4, 3)
    want, _ = target(x, seed=SEED)

    def local():
        rows = distribution.own_rows(tf.constant(x), 4)
        return target(rows, seed=SEED)[0]

    run = tf.function(lambda: devices.run(local))
    got = np.concatenate([np.asarray(v) for v in devices.experimental_local_results(run())])
    assert np.array_equal(got, want)
