# SPDX-License-Identifier: Apache-2.0
"""LeJEPA: the statistic and its gradient, directions, replicas, collapse, views of two sizes."""

import collections

import keras
import numpy as np
import pytest
import tensorflow as tf
from model_test import build, images, smooth_encoder, train
from strategies import run_on, scope
from test_losses import on_replicas, value_and_gradients

import keras_ssl
from keras_ssl import backbones, views
from keras_ssl.layers import SIGReg
from keras_ssl.layers._encoder import for_sizes
from keras_ssl.losses import normalize
from keras_ssl.losses.sigreg import epps_pulley, lejepa, sigreg
from keras_ssl.models import LeJEPA
from keras_ssl.recipes import lejepa_cifar, lejepa_imagenet

pytestmark = pytest.mark.usefixtures("without_graphs")

SMALL = {"projector": (16, 16, 8), "slices": 64}


def rows(*shape, seed=0, scale=1.0, shift=0.0):
    draws = np.random.default_rng(seed).normal(size=shape)
    return (shift + scale * draws).astype("float32")


def unit(width, slices, seed=9):
    return np.asarray(normalize(rows(width, slices, seed=seed), axis=0))


def quadrature(knots, t_max):
    """Points, weights and the normal characteristic function, in float64."""
    t = np.linspace(0, t_max, knots)
    phi = np.exp(-(t**2) / 2)
    trapezoid = np.where((t == 0) | (t == t[-1]), 1.0, 2.0) * t_max / (knots - 1)
    return t, trapezoid * phi, phi


def statistic(x, knots=17, t_max=3.0):
    """Epps-Pulley of each column, written out."""
    t, weights, phi = quadrature(knots, t_max)
    wave = np.exp(1j * np.asarray(x, "float64")[:, :, None] * t).mean(axis=0)
    return len(x) * (np.abs(wave - phi) ** 2 @ weights)


# --- the statistic -------------------------------------------------------------------------


@pytest.mark.parametrize(("shape", "knots", "t_max"), [((24, 5), 17, 3.0), ((130, 2), 5, 6.5)])
def test_the_statistic_is_that_of_the_paper(shape, knots, t_max):
    x = rows(*shape, scale=1.8, shift=0.3)
    found = epps_pulley(x, knots=knots, t_max=t_max)
    np.testing.assert_allclose(found, statistic(x, knots, t_max), rtol=2e-5)


@pytest.mark.parametrize("centre", ["global", "all"])
@pytest.mark.parametrize("flatten", [False, True])
@pytest.mark.parametrize("combine", ["convex", "sum"])
def test_the_terms_are_those_of_the_paper(centre, flatten, combine):
    z, directions = rows(5, 20, 6, scale=1.3), unit(6, 12)
    found = lejepa(
        list(z),
        directions,
        trade_off=0.2,
        centre=centre,
        global_views=3,
        flatten=flatten,
        combine=combine,
    )
    middle = z.mean(0) if centre == "all" else z[:3].mean(0)
    samples = [z.reshape(-1, 6)] if flatten else z
    gaussian = np.mean([statistic(sample @ directions) for sample in samples])
    rest = 0.8 if combine == "convex" else 1.0
    assert float(found["sigreg"]) == pytest.approx(0.2 * gaussian, rel=1e-5)
    assert float(found["invariance"]) == pytest.approx(rest * np.mean((z - middle) ** 2), rel=1e-5)


@pytest.mark.parametrize("jit", [False, True])
def test_the_gradient_is_that_of_automatic_differentiation(jit):
    x, weights = rows(40, 7, scale=1.5), rows(7, seed=1)

    def plain(x):
        t, w, phi = (tf.constant(part, "float32") for part in quadrature(9, 4.0))
        waves = x[..., None] * t
        square = (tf.reduce_mean(tf.cos(waves), 0) - phi) ** 2
        square += tf.reduce_mean(tf.sin(waves), 0) ** 2
        return tf.reduce_sum(weights * 40 * tf.linalg.matvec(square, w))

    def ours(x):
        return tf.reduce_sum(weights * epps_pulley(x, knots=9, t_max=4.0))

    compiled = tf.function(lambda x: value_and_gradients(ours, x), jit_compile=jit, autograph=False)
    _, (want,) = value_and_gradients(plain, x)
    value, (got,) = compiled(x)
    assert float(value) == pytest.approx(float(plain(x)), rel=1e-5)
    np.testing.assert_allclose(got, want, atol=1e-5 * np.abs(want).max())


def peak_copies(function, x):
    """Most values alive at once in value and gradient, in sizes of `x`, in the order of the ops."""
    step = tf.function(lambda x: value_and_gradients(function, x)[1], autograph=False)
    operations = step.get_concrete_function(x).graph.get_operations()
    last = {t.ref(): i for i, op in enumerate(operations) for t in op.inputs}
    ending = collections.defaultdict(int)
    alive = peak = 0
    for index, operation in enumerate(operations):
        for tensor in operation.outputs:
            size = tensor.shape.num_elements() or 0
            alive += size
            ending[last.get(tensor.ref(), index)] += size
        peak = max(peak, alive)
        alive -= ending[index]
    return peak / x.size


def test_memory_does_not_grow_with_the_knots():
    x = rows(64, 32)

    def plain(x):
        waves = x[..., None] * tf.linspace(0.0, 3.0, 33)
        return tf.reduce_sum(tf.reduce_mean(tf.cos(waves), 0) ** 2)

    few, many = (peak_copies(lambda x, k=k: epps_pulley(x, knots=k), x) for k in (9, 33))
    assert many < few + 1.5, "only the sums, one row each, may add up"
    assert many < 14
    assert peak_copies(plain, x) > 60, "the measure must see what it is meant to see"


def test_a_normal_sample_stays_at_its_null_mean_whatever_its_size():
    t, weights, phi = quadrature(17, 3.0)
    # Under the null hypothesis B E|mean wave - phi|² = 1 - phi².
    null = float(weights @ (1 - phi**2))
    large = np.asarray(epps_pulley(rows(4096, 400)))
    small = np.asarray(epps_pulley(rows(64, 6400, seed=1)))
    assert large.mean() == pytest.approx(null, rel=0.15)
    assert small.mean() == pytest.approx(null, rel=0.05)
    for other in (rows(4096, 20, scale=1.3), rows(4096, 20, shift=0.3), np.sign(rows(4096, 20))):
        assert np.asarray(epps_pulley(other)).min() > 5 * null


def test_a_collapsed_batch_costs_its_size_times_a_constant():
    t, weights, phi = quadrature(17, 3.0)
    for size in (8, 256):
        at_zero = float(sigreg([np.zeros((size, 6), "float32")], unit(6, 10)))
        assert at_zero == pytest.approx(size * weights @ (1 - phi) ** 2, rel=1e-5)
    point = np.repeat(rows(1, 6), 256, axis=0)
    values = [float(sigreg([point[:count]], unit(6, 10))) for count in (16, 256)]
    assert values[1] == pytest.approx(16 * values[0], rel=1e-5)


def test_rotating_the_projections_is_rotating_the_directions():
    z = rows(64, 6) * np.linspace(0.3, 2.0, 6, dtype="float32")
    turn = np.linalg.qr(rows(6, 6, seed=3))[0].astype("float32")
    directions = unit(6, 4096)
    turned = float(sigreg([z @ turn], directions))
    assert turned == pytest.approx(float(sigreg([z], turn @ directions)), rel=1e-5)
    # Over many directions the rotation is not seen at all.
    assert turned == pytest.approx(float(sigreg([z], directions)), rel=0.05)


def test_descending_it_whitens_vectors():
    mix = np.array([[0.9, 0, 0], [0.8, 0.3, 0], [0.1, 0.1, 0.2]], "float32")
    z = tf.Variable(rows(256, 3) @ mix + 0.5)
    layer = SIGReg(64, seed=0)

    def variances():
        return np.linalg.eigvalsh(np.cov(z.numpy().T))

    @tf.function(autograph=False)
    def descend():
        with tf.GradientTape() as tape:
            loss = layer(z, training=True)
        z.assign_sub(3.0 * tape.gradient(loss, z))

    assert variances()[0] < 0.1 and variances()[2] > 1.5
    for _ in range(60):
        descend()
    assert np.abs(variances() - 1).max() < 0.4
    assert np.abs(z.numpy().mean(0)).max() < 0.1


# --- replicas ------------------------------------------------------------------------------


@pytest.mark.parametrize("replicas", [2, pytest.param(4, marks=pytest.mark.slow)])
@pytest.mark.parametrize("flatten", [False, True])
def test_replicas_equal_one_device(replicas, flatten):
    directions = unit(5, 8)

    def loss(a, b):
        return sum(lejepa([a, b, a * b], directions, trade_off=0.3, flatten=flatten).values())

    arrays = rows(8, 5), rows(8, 5, seed=1)
    want, want_gradients = value_and_gradients(loss, *arrays)
    got, gradients = on_replicas(replicas, loss, *arrays)
    assert got == pytest.approx(float(want), rel=1e-5)
    for mine, other in zip(gradients, want_gradients, strict=True):
        np.testing.assert_allclose(mine, other, atol=1e-5 * np.abs(other).max())


def test_directions_are_alike_on_replicas_new_each_step_and_fixed_in_evaluation():
    with scope(2):
        layer = SIGReg(16, seed=3)
    one = SIGReg(16, seed=3)
    tick = np.zeros((2, 1), "float32")
    steps = [run_on(2, lambda x: layer.directions(4, training=True), tick) for _ in range(2)]
    for step in steps:
        np.testing.assert_array_equal(step[0], step[1])
        np.testing.assert_array_equal(step[0], one.directions(4, training=True))
        np.testing.assert_allclose(np.linalg.norm(step[0], axis=0), 1.0, rtol=1e-5)
    assert np.abs(steps[0][0] - steps[1][0]).max() > 0.1
    np.testing.assert_array_equal(one.directions(4), one.directions(4))


# --- the layer in somebody's own model -------------------------------------------------------


@keras.saving.register_keras_serializable("test_lejepa")
class Regularised(keras.Model):
    """An autoencoder's encoder with SIGReg on its code."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.encode, self.decode = keras.layers.Dense(3), keras.layers.Dense(6)
        self.sigreg = SIGReg(32, seed=1)

    def call(self, inputs, training=False):
        code = self.encode(inputs)
        self.add_loss(0.05 * self.sigreg(code, training=training))
        return self.decode(code)


def test_the_layer_regularises_any_model_and_is_saved_with_its_state(tmp_path):
    data = rows(32, 6)
    model = Regularised()
    model.compile(keras.optimizers.SGD(0.1), "mse")
    model.fit(data, data, batch_size=16, epochs=2, verbose=0)
    assert model.evaluate(data, data, verbose=0) == model.evaluate(data, data, verbose=0)
    model.save(tmp_path / "own.keras")
    loaded = keras.saving.load_model(tmp_path / "own.keras")
    for one, other in zip(
        np.asarray(model.sigreg.directions(4, True)),
        np.asarray(loaded.sigreg.directions(4, True)),
        strict=True,
    ):
        np.testing.assert_array_equal(one, other)


def test_the_layer_takes_one_tensor_or_views_in_any_dtype():
    layer = SIGReg(16, seed=0)
    z = [rows(32, 5), rows(32, 5, seed=1)]
    each = [float(layer(view)) for view in z]
    assert float(layer(z)) == pytest.approx(np.mean(each), rel=1e-5)
    together = SIGReg(16, flatten=True, seed=0)
    assert float(together(z)) == pytest.approx(float(layer(np.concatenate(z))), rel=1e-5)
    keras.config.set_dtype_policy("mixed_bfloat16")
    half = SIGReg(16, seed=0)
    assert float(half(z[0])) == pytest.approx(each[0], rel=1e-6)
    assert half(tf.cast(z[0], "bfloat16")).dtype == tf.float32
    assert tuple(layer.compute_output_spec(keras.KerasTensor((None, 5))).shape) == ()
    assert SIGReg.from_config(together.get_config()).flatten


# --- the model -------------------------------------------------------------------------------


def two_sizes():
    large = views.Pipeline([views.RandomResizedCrop(16, area=(0.3, 1.0)), views.HorizontalFlip()])
    small = views.Pipeline([views.RandomResizedCrop(8, area=(0.05, 0.3))])
    return views.MultiCrop([(large, 2), (small, 3)])


@pytest.mark.slow
def test_without_sigreg_it_collapses_and_with_it_it_does_not():
    spread = {}
    for trade_off in (0.0, 0.05):
        options = {**SMALL, "trade_off": trade_off}
        model = build(LeJEPA, options, optimizer=keras.optimizers.Adam(0.01))
        model.fit(images(64), batch_size=32, epochs=20, verbose=0)
        z = model.project_views([tf.constant(images(64), "float32") / 255.0] * 2, training=True)
        spread[trade_off] = float(np.std(z[0], axis=0).mean())
    assert spread[0.0] < 0.2
    assert spread[0.05] > 0.5


@pytest.mark.slow
def test_views_of_two_sizes_train_save_and_go_on(tmp_path):
    model = build(LeJEPA, {**SMALL, "views": two_sizes()})
    logs = train(model, 2)
    assert all(np.isfinite(value) for log in logs for value in log.values())
    model.save(tmp_path / "crops.keras")
    loaded = keras_ssl.load_model(tmp_path / "crops.keras")
    batch = images(8)
    np.testing.assert_array_equal(model.predict(batch, verbose=0), loaded.predict(batch, verbose=0))
    assert train(model, 1, first=2) == train(loaded, 1, first=2)
    assert model.count_params() == loaded.count_params()
    assert len(model.weights) == len({id(v) for v in model.weights})


@pytest.mark.slow
def test_views_of_two_sizes_on_two_replicas_are_those_of_one():
    options = {**SMALL, "views": two_sizes(), "slices": 16}
    (one,), (two,) = (
        train(build(LeJEPA, options, replicas=replicas, rate=0.02), 1) for replicas in (1, 2)
    )
    assert two == pytest.approx(one, rel=1e-5)


def test_batch_norms_see_all_views_at_once():
    model = build(LeJEPA, {**SMALL, "views": two_sizes()})
    made = model.make_views(tf.constant(images()))
    assert [view.shape[1] for view in made] == [16, 16, 8, 8, 8]
    z = model.project_views(made, training=True)
    features = [
        model.view_encoder(tf.concat(group, 0), training=True) for group in (made[:2], made[2:])
    ]
    want = model.projector(tf.concat(features, 0), training=True)
    np.testing.assert_allclose(tf.concat(z, 0), want, atol=1e-5)


def test_an_encoder_of_any_size_takes_images_of_any_size():
    inputs = keras.Input((None, None, 3))
    x = keras.layers.Conv2D(8, 3, 2, activation="swish")(inputs)
    encoder = keras.Model(inputs, keras.layers.GlobalAveragePooling2D()(x))
    model = build(LeJEPA, {**SMALL, "views": two_sizes()}, encoder=encoder)
    train(model, 1)
    assert model.predict(images(4), verbose=0).shape == (4, 8)
    alone = model.standalone_encoder()
    np.testing.assert_allclose(alone(images(4)), model(images(4)), atol=1e-5)
    with pytest.raises(ValueError, match="Pass views=keras_ssl.views.get"):
        LeJEPA(encoder, views="simclr")


def test_an_encoder_shares_its_weights_with_its_form_for_other_sizes():
    encoder = backbones.ResNet(18, (16, 16, 3), width=4, blocks=(1, 1), seed=0)
    nested = keras.Sequential([keras.Input((16, 16, 3)), encoder, keras.layers.Dense(5)])
    wrapped = keras.Model(encoder.input, encoder(encoder.input))
    for own in (encoder, nested, wrapped):
        assert for_sizes(own, [None, (16, 16)]) is own
    for own in (encoder, wrapped):
        flexible = for_sizes(own, [(16, 16), (8, 12)])
        assert {id(v) for v in flexible.weights} == {id(v) for v in own.weights}
        assert flexible(np.zeros((2, 8, 12, 3), "float32")).shape == (2, 8)
        x = rows(2, 16, 16, 3)
        np.testing.assert_array_equal(flexible(x), own(x))
        own.weights[0].assign(own.weights[0] + 1.0)
        np.testing.assert_array_equal(flexible(x), own(x))


@pytest.mark.parametrize("end", ["flatten", "positions", "nested"])
def test_an_encoder_of_one_size_says_so_at_construction(end):
    inputs = keras.Input((16, 16, 3))
    if end == "nested":
        resnet = backbones.ResNet(18, (16, 16, 3), width=4, blocks=(1, 1), seed=0)
        encoder = keras.Sequential([inputs, resnet])
    elif end == "flatten":
        x = keras.layers.Flatten()(keras.layers.Conv2D(4, 3, 2)(inputs))
        encoder = keras.Model(inputs, keras.layers.Dense(8)(x))
    else:
        x = keras.layers.Reshape((256, 3))(inputs)
        x = keras.layers.Add()([x, keras.layers.Embedding(256, 3)(keras.ops.arange(256)[None])])
        encoder = keras.Model(inputs, keras.layers.GlobalAveragePooling1D()(x))
    with pytest.raises(ValueError, match="8 x 8 pixels do not fit the encoder"):
        LeJEPA(encoder, views=two_sizes(), **SMALL)


def test_mistakes_are_named():
    z, directions = list(rows(3, 8, 5)), unit(5, 4)
    for options, message in (
        ({"centre": "local"}, "centre"),
        ({"combine": "product"}, "combine"),
        ({"trade_off": 1.5}, "trade_off between 0 and 1"),
        ({"global_views": 0}, "global_views of at least 1"),
        ({"global_views": 4}, "only 3"),
        ({"knots": 1}, "knots"),
        ({"t_max": 0.0}, "t_max > 0"),
    ):
        with pytest.raises(ValueError, match=message):
            lejepa(z, directions, **options)
        if message != "only 3":
            with pytest.raises(ValueError, match=message):
                LeJEPA(smooth_encoder(), views=two_sizes(), **{**SMALL, **options})
    with pytest.raises(ValueError, match=r"directions of shape \(features, slices\)"):
        sigreg(z, directions.T)
    with pytest.raises(ValueError, match="at least 2 view"):
        lejepa(z[:1], directions)
    with pytest.raises(ValueError, match=r"\(batch, slices\)"):
        epps_pulley(rows(4))
    with pytest.raises(ValueError, match="slices of at least 1"):
        SIGReg(0)


def test_recipes_state_what_their_sources_state():
    cifar, imagenet = lejepa_cifar.RECIPE, lejepa_imagenet.RECIPE
    assert (cifar.epochs, cifar.batch_size, cifar.projector) == (800, 256, (2048, 2048, 16))
    assert cifar.model == {"trade_off": 0.02, "slices": 256, "centre": "all"}
    assert cifar.optimizer.scaled(512) == 2e-3, "not scaled by the batch"
    assert (imagenet.batch_size, imagenet.optimizer.learning_rate) == (512, 5e-4)
    for recipe in (cifar, imagenet):
        assert (recipe.optimizer.weight_decay, recipe.optimizer.end_factor) == (5e-4, 1e-3)
        assert (recipe.method, recipe.views) == ("LeJEPA", "lejepa")
