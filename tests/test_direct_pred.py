# SPDX-License-Identifier: Apache-2.0
"""DirectPred: the predictor that is set from a moment, and when it is set."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from model_test import build, images, train, weights
from strategies import run_on, scope

import keras_ssl
from keras_ssl.layers import DirectPredictor
from keras_ssl.models import DirectPred

SMALL = {"projector": (16, 8), "momentum": 0.9}


@keras.saving.register_keras_serializable("direct_pred_test")
class Mirrored(keras.layers.Layer):
    """Two views without randomness."""

    def call(self, inputs, seed=None):
        x = keras.ops.cast(inputs, "float32") / 255.0
        return [x, keras.ops.flip(x, axis=2)]


def vectors(rows=24, width=6, seed=0, steps=3):
    """Projections of two views over some steps, with unequal variances and a mean."""
    rng = np.random.default_rng(seed)
    draws = rng.normal(size=(steps, 2, rows, width)) * np.linspace(0.3, 2, width) + 0.4
    return draws.astype("float32")


def kernel_of(moment, epsilon=0.01, minimum=1e-4):
    """The definition in float64."""
    values, basis = np.linalg.eigh(np.asarray(moment, "float64"))
    share = np.sqrt(np.maximum(values, 0) / values.max())
    return basis @ np.diag(np.maximum(share + epsilon, minimum)) @ basis.T


def moment_of(views):
    rows = np.concatenate([np.asarray(view, "float64") for view in views])
    return rows.T @ rows / len(rows)


def byol_loss(predictions, targets):
    """Both directions of `2 - 2 cos`, in float64."""
    total = 0.0
    for p, t in zip(predictions, targets[::-1], strict=True):
        p, t = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (p, t))
        total += np.mean(2 - 2 * np.sum(p * t, axis=1))
    return total


def plain_model(**kwargs):
    """A model whose views are known and whose optimizer has no memory."""
    kwargs = {**SMALL, "views": Mirrored(), **kwargs}
    return build(DirectPred, kwargs, optimizer=keras.optimizers.SGD(0.05))


def forward(model, step):
    """Projections and targets of the batch of a step, as training computes them."""
    views = model.views(tf.constant(images(16, step)))
    projections = [np.asarray(model.project(view, True), "float64") for view in views]
    targets = [np.asarray(model.target_projection(view, True), "float64") for view in views]
    return projections, targets


# --- the layer -------------------------------------------------------------------------


def test_the_kernel_shares_the_eigenvectors_of_the_moment():
    layer = DirectPredictor(epsilon=0.05)
    layer.update_moment(list(vectors()[0]))
    layer.set_kernel()
    moment, kernel = np.asarray(layer.moment, "float64"), np.asarray(layer.kernel, "float64")
    assert np.array_equal(kernel, kernel.T)
    np.testing.assert_allclose(kernel @ moment, moment @ kernel, atol=1e-5)
    values, basis = np.linalg.eigh(moment)
    found = np.diag(basis.T @ kernel @ basis)
    np.testing.assert_allclose(found, np.sqrt(values / values.max()) + 0.05, atol=1e-5)
    assert found.min() > 0 and found.max() == pytest.approx(1.05, abs=1e-5)


@pytest.mark.parametrize("rho", [0.0, 0.3, 1.0])
def test_the_moment_is_a_moving_average_that_starts_at_the_first(rho):
    layer, wanted = DirectPredictor(rho), None
    for views in vectors():
        layer.update_moment(list(views))
        fresh = moment_of(views)
        wanted = fresh if wanted is None else rho * wanted + (1 - rho) * fresh
        np.testing.assert_allclose(layer.moment, wanted, atol=1e-5)
        layer.set_kernel()
        np.testing.assert_allclose(layer.kernel, kernel_of(wanted), atol=1e-5)


def test_any_number_of_views_counts():
    three = [*vectors()[0], vectors(10, seed=1)[0, 0]]
    layer = DirectPredictor()
    layer.update_moment(three)
    np.testing.assert_allclose(layer.moment, moment_of(three), atol=1e-5)


def test_direct_copy_is_the_moment_itself():
    layer = DirectPredictor(epsilon=0.2, form="copy")
    layer.update_moment(list(vectors()[0]))
    layer.set_kernel()
    wanted = moment_of(vectors()[0]) + 0.2 * np.eye(6)
    np.testing.assert_allclose(layer.kernel, wanted, atol=1e-5)


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("rows", [3, 40])
def test_fewer_rows_than_features_leave_the_rest_at_epsilon(rows, compiled):
    views = vectors(rows, 16)[0]
    layer = DirectPredictor(epsilon=0.02)
    layer.build((None, 16))

    @tf.function(jit_compile=compiled, autograph=False)
    def step(first, second):
        layer.update_moment([first, second])
        layer.set_kernel()

    step(*map(tf.constant, views))
    values = np.linalg.eigvalsh(np.asarray(layer.kernel, "float64"))
    # A rounding error of 1e-7 would show as 3e-4 behind the square root.
    missing = max(16 - 2 * rows, 0)
    np.testing.assert_allclose(values[:missing], 0.02, atol=1e-5)
    assert np.all(values[missing:] > 0.021)
    np.testing.assert_allclose(layer.kernel, kernel_of(moment_of(views), 0.02), atol=2e-5)


def test_steps_between_two_settings_leave_the_kernel():
    layer = DirectPredictor(update_every=3)
    layer.build((None, 6))
    start = np.asarray(layer.kernel)
    layer.set_kernel(0)
    assert np.array_equal(layer.kernel, start), "no batch was seen yet"
    layer.update_moment(list(vectors()[0]))
    for step, due in enumerate([True, False, False, True]):
        layer.kernel.assign(start)
        layer.set_kernel(step)
        assert np.array_equal(layer.kernel, start) != due
    layer.kernel.assign(start)
    layer.set_kernel(0, stepped=False)
    assert np.array_equal(layer.kernel, start)


@pytest.mark.parametrize("factor", [0.0, 1e-18])
def test_a_collapsed_batch_stays_finite(factor):
    layer = DirectPredictor()
    views = [tf.constant(factor * view) for view in vectors()[0]]
    layer.update_moment(views)
    layer.set_kernel()
    if not factor:
        np.testing.assert_allclose(layer.kernel, 0.01 * np.eye(6), atol=1e-8)
    with tf.GradientTape() as tape:
        tape.watch(views)
        loss = keras_ssl.losses.byol([layer(view) for view in views], views)
    for gradient in tape.gradient(loss, [*views, layer.kernel.value]):
        assert np.all(np.isfinite(gradient))


def test_the_smallest_eigenvalue_is_bounded():
    views = vectors(2, 8)[0]
    layer = DirectPredictor(epsilon=-0.3, minimum=0.125)
    layer.update_moment(list(views))
    layer.set_kernel()
    values = np.linalg.eigvalsh(np.asarray(layer.kernel))
    assert values.min() == pytest.approx(0.125, abs=1e-6)
    assert values.max() == pytest.approx(0.7, abs=1e-5)


def test_half_precision_does_not_reach_the_predictor():
    keras.config.set_dtype_policy("mixed_float16")
    layer = DirectPredictor()
    # 300 squared is beyond float16.
    views = [tf.cast(300 * view, "float16") for view in vectors()[0]]
    layer.update_moment(views)
    layer.set_kernel()
    assert {v.dtype for v in (layer.kernel, layer.moment)} == {"float32"}
    assert layer(views[0]).dtype == "float32"
    np.testing.assert_allclose(layer.kernel, kernel_of(moment_of(views)), atol=1e-5)


@pytest.mark.parametrize("replicas", [2, pytest.param(4, marks=pytest.mark.slow)])
def test_replicas_share_moment_and_kernel(replicas):
    first, second = vectors()[0]
    alone = DirectPredictor()
    alone.update_moment([first, second])
    alone.set_kernel()
    with scope(replicas):
        layer = DirectPredictor()
        layer.build((None, 6))

    def step(*views):
        layer.update_moment(views)
        layer.set_kernel()
        return layer.moment + 0.0, layer.kernel + 0.0

    for moment, kernel in run_on(replicas, step, first, second):
        np.testing.assert_allclose(moment, alone.moment, atol=1e-6)
        np.testing.assert_allclose(kernel, alone.kernel, atol=1e-5)


@pytest.mark.parametrize(
    ("action", "message"),
    [
        (lambda: DirectPredictor(rho=1.5), "rho is the share"),
        (lambda: DirectPredictor(update_every=0), "update_every counts"),
        (lambda: DirectPredictor(update_every=2.5), "update_every counts"),
        (lambda: DirectPredictor(minimum=0.0), "minimum is an eigenvalue"),
        (lambda: DirectPredictor(form="half"), "form is one of"),
        (lambda: DirectPredictor().update_moment(vectors()[0, 0]), "takes a list"),
        (lambda: DirectPredictor().build((None, 4, 4)), "takes vectors"),
        (lambda: plain_model().predictor.update_moment([np.ones((2, 5))]), "was built for"),
        (lambda: plain_model(rho=-0.1), "rho is the share"),
    ],
)
def test_mistakes_are_named(action, message):
    with pytest.raises(ValueError, match=message):
        action()


# --- the model -------------------------------------------------------------------------


def test_the_loss_uses_the_predictor_of_the_step_before():
    model = plain_model()
    moment = None
    for step in range(2):
        previous = np.asarray(model.predictor.kernel, "float64")
        projections, targets = forward(model, step)
        fresh = moment_of(projections)
        moment = fresh if moment is None else 0.3 * moment + 0.7 * fresh
        (log,) = train(model, 1, first=step)
        wanted = byol_loss([z @ previous for z in projections], targets)
        assert log["byol"] == pytest.approx(wanted, rel=1e-4)
        newer = byol_loss([z @ kernel_of(moment) for z in projections], targets)
        assert abs(newer - wanted) > 1e-3 * wanted, "the order would not show"
        np.testing.assert_allclose(model.predictor.moment, moment, rtol=1e-4, atol=1e-4)
        np.testing.assert_allclose(model.predictor.kernel, kernel_of(moment), atol=1e-4)


def test_between_two_settings_the_predictor_learns():
    model = plain_model(update_every=2)
    for step in range(3):
        kernel = model.predictor.kernel
        projections, targets = forward(model, step)
        with tf.GradientTape() as tape:
            predictions = [model.predictor(tf.constant(z)) for z in projections]
            loss = keras_ssl.losses.byol(predictions, targets)
        trained = np.asarray(kernel) - 0.05 * np.asarray(tape.gradient(loss, kernel.value))
        train(model, 1, first=step)
        wanted = trained if step == 1 else kernel_of(model.predictor.moment)
        np.testing.assert_allclose(kernel, wanted, atol=1e-5)
        assert np.max(np.abs(trained - kernel_of(model.predictor.moment))) > 1e-3


def test_the_predictor_waits_for_the_optimizer_under_accumulation():
    optimizer = keras.optimizers.SGD(0.05, gradient_accumulation_steps=2)
    model = build(DirectPred, SMALL, optimizer=optimizer)
    start = np.asarray(model.predictor.kernel)
    teacher = np.asarray(model.teacher_projector.network.weights[0])
    train(model, 1)
    assert np.array_equal(model.predictor.kernel, start)
    assert np.array_equal(model.teacher_projector.network.weights[0], teacher)
    assert np.any(np.asarray(model.predictor.moment))
    train(model, 1, first=1)
    np.testing.assert_allclose(model.predictor.kernel, kernel_of(model.predictor.moment), atol=1e-4)
    assert not np.array_equal(model.teacher_projector.network.weights[0], teacher)


def test_evaluation_leaves_moment_and_predictor():
    model = build(DirectPred, SMALL)
    train(model, 1)
    before = weights(model)
    model.evaluate(images(16), verbose=0)
    assert all(np.array_equal(before[name], value) for name, value in weights(model).items())


def test_saving_keeps_moment_predictor_and_settings(tmp_path):
    own = {"rho": 0.6, "epsilon": 0.07, "update_every": 2, "form": "copy"}
    model = build(DirectPred, {**SMALL, **own})
    train(model, 1)
    model.save(tmp_path / "model.keras")
    loaded = keras_ssl.load_model(tmp_path / "model.keras")
    for name in ("kernel", "moment", "seen"):
        mine, theirs = (getattr(m.predictor, name) for m in (model, loaded))
        assert np.array_equal(mine, theirs), name
    assert np.any(np.asarray(loaded.predictor.moment))
    for name, value in own.items():
        assert getattr(loaded.predictor, name) == getattr(loaded, name) == value


def test_the_head_has_the_released_layout():
    model = build(DirectPred, SMALL)
    paths = [v.path.split("/")[-2:] for v in model.projector.trainable_variables]
    assert [name for _, name in paths] == ["kernel", "bias", "kernel", "bias"]
    assert [v.path for v in model.predictor.trainable_variables] == ["predictor/kernel"]
