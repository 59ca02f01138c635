# SPDX-License-Identifier: Apache-2.0
"""Optimizers: scale invariance, exclusions, groups, schedules of decay, saving and resuming."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_ssl import optimizers, schedules


def rand(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype("float32")


def step(optimizer, gradients, values):
    """Values after one update from `values`."""
    variables = [keras.Variable(v, name=f"p{i}") for i, v in enumerate(values)]
    pairs = zip([tf.constant(g) for g in gradients], variables, strict=True)
    optimizer.apply_gradients(list(pairs))
    return [keras.ops.convert_to_numpy(v) for v in variables]


def network():
    keras.utils.set_random_seed(3)
    inputs = keras.Input((4,))
    hidden = keras.layers.Dense(6, name="hidden")(inputs)
    hidden = keras.layers.BatchNormalization(name="norm")(hidden)
    return keras.Model(inputs, keras.layers.Dense(2, name="head")(hidden))


def trained(optimizer, updates, jit_compile=False, model=None):
    if model is None:
        model = network()
        model.compile(optimizer, "mse", jit_compile=jit_compile)
    for _ in range(updates):
        model.train_on_batch(rand(8, 4), rand(8, 2, seed=1))
    return model


@pytest.mark.parametrize("ratio", ["gradient", "separate", "update"])
@pytest.mark.parametrize("factor", [1e3, 1e-3, 1e25])
def test_first_step_ignores_the_scale_of_the_gradient(ratio, factor):
    weight, gradient = rand(5, 3), rand(5, 3, seed=1)
    make = lambda: optimizers.LARS(0.5, ratio=ratio, epsilon=0.0)  # noqa: E731
    (want,) = step(make(), [gradient], [weight])
    (got,) = step(make(), [gradient * np.float32(factor)], [weight])
    assert np.abs(want - weight).max() > 1e-5
    np.testing.assert_allclose(got, want, atol=1e-6)


def test_step_length_is_trust_times_weight_norm():
    weight, gradient = rand(5, 3), rand(5, 3, seed=1)
    (got,) = step(optimizers.LARS(0.5, trust_coefficient=0.01), [gradient], [weight])
    length = np.linalg.norm(got - weight)
    assert length == pytest.approx(0.5 * 0.01 * np.linalg.norm(weight), rel=1e-3)


def test_biases_are_neither_decayed_nor_adapted():
    bias, gradient = rand(4), rand(4, seed=1)
    (got,) = step(optimizers.LARS(0.5, weight_decay=10.0), [gradient], [bias])
    np.testing.assert_allclose(got, bias - 0.5 * gradient, rtol=1e-5)


def test_exclusion_by_name_and_ratio_only():
    weight, gradient = rand(4, 2), rand(4, 2, seed=1)
    excluded = optimizers.LARS(0.5, weight_decay=1.0, exclude=["p0"])
    (got,) = step(excluded, [gradient], [weight])
    np.testing.assert_allclose(got, weight - 0.5 * gradient, rtol=1e-4, atol=1e-6)
    plain = optimizers.LARS(0.5, weight_decay=1.0, exclude_from_ratio="p0")
    (got,) = step(plain, [gradient], [weight])
    np.testing.assert_allclose(got, weight - 0.5 * (gradient + weight), rtol=1e-4, atol=1e-6)


def test_groups_have_their_own_learning_rate():
    values, gradients = [rand(3, 2), rand(2)], [rand(3, 2, seed=1), rand(2, seed=2)]
    one = step(optimizers.LARS(0.2), gradients, values)
    other = step(optimizers.LARS(0.2, bias_scale=0.024), gradients, values)
    np.testing.assert_allclose(other[0], one[0])
    np.testing.assert_allclose(other[1] - values[1], 0.024 * (one[1] - values[1]), atol=1e-6)
    named = step(optimizers.LARS(0.2, multipliers={"p0": 0.0}), gradients, values)
    np.testing.assert_array_equal(named[0], values[0])


@pytest.mark.parametrize("clip", [False, True])
def test_zero_weights_gradients_and_rates_stay_finite(clip):
    for weight, gradient in ((np.zeros((2, 2)), rand(2, 2)), (rand(2, 2), np.zeros((2, 2)))):
        for ratio in ("gradient", "separate", "update"):
            optimizer = optimizers.LARS(0.0, ratio=ratio, clip=clip)
            (got,) = step(optimizer, [gradient.astype("float32")], [weight.astype("float32")])
            assert np.all(np.isfinite(got))


def test_sgd_decay_goes_through_the_momentum():
    weight, gradient = rand(3, 2), rand(3, 2, seed=1)
    optimizer = optimizers.SGD(0.1, momentum=0.9, weight_decay=0.5)
    variable = keras.Variable(weight)
    want, velocity = weight.copy(), 0.0
    for _ in range(3):
        optimizer.apply_gradients([(tf.constant(gradient), variable)])
        velocity = 0.9 * velocity + gradient + 0.5 * want
        want = want - 0.1 * velocity
    np.testing.assert_allclose(keras.ops.convert_to_numpy(variable), want, rtol=1e-4, atol=1e-6)


def test_adamw_decay_follows_its_schedule_and_spares_biases():
    values, zeros = [rand(3, 2), rand(2)], [np.zeros((3, 2), "float32"), np.zeros(2, "float32")]
    optimizer = optimizers.AdamW(0.1, weight_decay=schedules.LinearWarmup(0.0, 0.4, 2))
    variables = [keras.Variable(v, name=f"p{i}") for i, v in enumerate(values)]

    @tf.function(autograph=False)
    def update():
        optimizer.apply([tf.constant(z) for z in zeros])

    optimizer.build(variables)
    want = values[0]
    for decay in (0.0, 0.2, 0.4, 0.4):
        assert float(optimizer.weight_decay) == pytest.approx(decay)
        update()
        want = want * (1 - 0.1 * decay)
        np.testing.assert_allclose(keras.ops.convert_to_numpy(variables[0]), want, rtol=1e-5)
    np.testing.assert_array_equal(keras.ops.convert_to_numpy(variables[1]), values[1])


def test_lamb_steps_in_proportion_to_the_weights():
    """Against its algorithm in numpy; a bias takes Adam's step."""
    values, rng = [rand(4, 3), rand(3)], np.random.default_rng(1)
    variables = [keras.Variable(v, name=f"p{i}") for i, v in enumerate(values)]
    optimizer = optimizers.LAMB(0.1, 0.8, 0.95, 1e-4, weight_decay=0.3)
    means, squares = [0.0, 0.0], [0.0, 0.0]
    for step_number in range(1, 4):
        gradients = [rng.normal(size=v.shape).astype("float32") for v in values]
        optimizer.apply([tf.constant(g) for g in gradients], variables)
        for i, gradient in enumerate(gradients):
            means[i] = 0.8 * means[i] + 0.2 * gradient
            squares[i] = 0.95 * squares[i] + 0.05 * gradient**2
            update = means[i] / (1 - 0.8**step_number)
            update = update / (np.sqrt(squares[i] / (1 - 0.95**step_number)) + 1e-4)
            if i == 0:
                update = update + 0.3 * values[i]
                update = update * np.linalg.norm(values[i]) / np.linalg.norm(update)
            values[i] = values[i] - 0.1 * update
    for variable, want in zip(variables, values, strict=True):
        np.testing.assert_allclose(keras.ops.convert_to_numpy(variable), want, rtol=1e-5, atol=1e-6)


def test_lamb_moves_what_is_zero_as_adam_does():
    zero, gradient = np.zeros((2, 2), "float32"), rand(2, 2)
    (got,) = step(optimizers.LAMB(0.1), [gradient], [zero])
    np.testing.assert_allclose(got, -0.1 * np.sign(gradient), rtol=1e-3)
    (got,) = step(optimizers.LAMB(0.1, weight_decay=0.0), [zero], [rand(2, 2)])
    np.testing.assert_array_equal(got, rand(2, 2))


def test_helper_spares_norms_biases_and_names():
    model = network()
    optimizer = keras.optimizers.SGD(1.0, weight_decay=0.1)
    spared = optimizers.exclude_norm_and_bias(optimizer, model, names="head")
    assert {path.split("/")[-1] for path in spared} == {"bias", "gamma", "beta", "kernel"}
    before = {v.path: keras.ops.convert_to_numpy(v) for v in model.trainable_variables}
    optimizer.apply(
        [keras.ops.zeros_like(v) for v in model.trainable_variables], model.trainable_variables
    )
    for variable in model.trainable_variables:
        factor = 1.0 if variable.path in spared else 0.9
        got = keras.ops.convert_to_numpy(variable)
        np.testing.assert_allclose(got, factor * before[variable.path], rtol=1e-5)
    with pytest.raises(ValueError, match="already built"):
        optimizers.exclude_norm_and_bias(optimizer, model)
    with pytest.raises(ValueError, match="no trainable variables"):
        optimizers.exclude_norm_and_bias(keras.optimizers.AdamW(), [])


MAKERS = {
    "lars": lambda: optimizers.LARS(
        schedules.WarmupCosine(0.5, 8, warmup_steps=2), weight_decay=0.01, bias_scale=0.1
    ),
    "lars_simclr": lambda: optimizers.LARS(
        0.5, lr_in_momentum=True, nesterov=True, exclude=["head"]
    ),
    "sgd": lambda: optimizers.SGD(0.1, weight_decay=1e-3),
    "lamb": lambda: optimizers.LAMB(
        0.01, epsilon=1e-2, weight_decay=schedules.CosineRamp(0.1, 1.0, 6), exclude=["head"]
    ),
    # A large epsilon: else Adam divides rounding errors by themselves.
    "adamw": lambda: optimizers.AdamW(
        0.01, epsilon=1e-2, weight_decay=schedules.CosineRamp(0.1, 1.0, 6)
    ),
}


# What differs between the others is their numbers, which are tested above.
SHORT = [
    name if name in ("lars", "adamw") else pytest.param(name, marks=pytest.mark.slow)
    for name in MAKERS
]


@pytest.mark.parametrize("name", SHORT)
def test_saved_and_loaded_it_continues_alike(name, tmp_path):
    whole = trained(MAKERS[name](), 4)
    half = trained(MAKERS[name](), 2)
    half.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert loaded.optimizer.get_config() == half.optimizer.get_config()
    trained(None, 2, model=loaded)
    for got, want in zip(loaded.get_weights(), whole.get_weights(), strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", SHORT)
def test_compiled_by_xla_it_steps_alike(name):
    plain, compiled = trained(MAKERS[name](), 2), trained(MAKERS[name](), 2, jit_compile=True)
    for got, want in zip(compiled.get_weights(), plain.get_weights(), strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-5)


def test_loss_scaling_is_removed_before_the_norm():
    weight, gradient = rand(5, 3), rand(5, 3, seed=1)
    plain = optimizers.LARS(0.5, weight_decay=0.3)
    scaled = keras.optimizers.LossScaleOptimizer(
        optimizers.LARS(0.5, weight_decay=0.3), initial_scale=1024.0
    )
    (want,) = step(plain, [gradient], [weight])
    (got,) = step(scaled, [gradient * 1024], [weight])
    np.testing.assert_allclose(got, want, atol=1e-6)


def test_sparse_gradients():
    table = keras.Variable(rand(6, 3))
    rows = tf.IndexedSlices(tf.ones((2, 3)), tf.constant([1, 4]), tf.constant([6, 3]))
    optimizers.LARS(0.5).apply_gradients([(rows, table)])
    moved = np.abs(keras.ops.convert_to_numpy(table) - rand(6, 3)).max(axis=1) > 0
    assert list(np.flatnonzero(moved)) == [1, 4]


def test_errors():
    with pytest.raises(ValueError, match="ratio is one of"):
        optimizers.LARS(ratio="layer")
    with pytest.raises(ValueError, match="lr_in_momentum=False"):
        optimizers.LARS(ratio="update", lr_in_momentum=True)
    with pytest.raises(ValueError, match="regular expressions"):
        optimizers.LARS(exclude=["("])
    with pytest.raises(ValueError, match="at least 0"):
        optimizers.AdamW(weight_decay=-1.0)
