# SPDX-License-Identifier: Apache-2.0
"""Sinkhorn-Knopp, prototypes, and what is particular to SwAV."""

import math

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import ops
from model_test import SIZE, assert_goes_on_alike, build, images, light_views, smooth_encoder, train
from strategies import run_on

import keras_ssl
from keras_ssl import layers, losses, models, views

pytestmark = pytest.mark.usefixtures("without_graphs")

SWAV = {"projector": (16, 8), "prototypes": 6, "freeze_steps": 0}


def scores(*shape, seed=0):
    return np.random.default_rng(seed).uniform(-1, 1, shape).astype("float32")


# --- Sinkhorn-Knopp ------------------------------------------------------------------------------


def plain_sinkhorn(values, epsilon, iterations):
    """The definition: rows and columns scaled in turn, in float64."""
    q = np.exp(values.astype("float64") / epsilon)
    for _ in range(iterations):
        q /= q.sum(0) * q.shape[1]
        q /= q.sum(1, keepdims=True) * q.shape[0]
    return q * q.shape[0]


@pytest.mark.parametrize("iterations", [1, 3])
def test_codes_are_those_of_the_definition(iterations):
    values = scores(12, 5)
    codes = losses.sinkhorn_knopp(values, epsilon=0.2, iterations=iterations)
    np.testing.assert_allclose(codes, plain_sinkhorn(values, 0.2, iterations), atol=1e-6)


def test_rows_sum_to_one_and_prototypes_share_the_batch():
    values = scores(12, 5)
    one, many = (losses.sinkhorn_knopp(values, iterations=n) for n in (1, 300))
    np.testing.assert_allclose(ops.sum(one, axis=1), 1, atol=1e-5)
    np.testing.assert_allclose(ops.sum(many, axis=1), 1, atol=1e-5)
    np.testing.assert_allclose(ops.sum(many, axis=0), 12 / 5, rtol=1e-3)
    # One turn does not balance yet, so the line above says something.
    assert np.abs(np.asarray(ops.sum(one, axis=0)) - 12 / 5).max() > 0.1


def test_constants_leave_the_codes():
    values = scores(12, 5)
    codes = losses.sinkhorn_knopp(values)
    np.testing.assert_allclose(losses.sinkhorn_knopp(values + 7), codes, atol=1e-3)
    shifted = values + scores(1, 5, seed=1)
    np.testing.assert_allclose(losses.sinkhorn_knopp(shifted), codes, atol=1e-4)


def test_scores_of_200_stay_finite():
    values = 200 * np.sign(scores(12, 5))
    values[:, 0] = 200
    codes = np.asarray(losses.sinkhorn_knopp(values))
    assert np.all(np.isfinite(codes))
    np.testing.assert_allclose(codes.sum(1), 1, atol=1e-5)
    half = losses.sinkhorn_knopp(ops.cast(values, "float16"), epsilon=0.04)
    assert half.dtype == "float32" and np.all(np.isfinite(half))


def test_problems_side_by_side_are_solved_apart():
    both = scores(2, 12, 5)
    codes = losses.sinkhorn_knopp(both)
    for problem, wanted in zip(both, codes, strict=True):
        np.testing.assert_allclose(losses.sinkhorn_knopp(problem), wanted, atol=1e-6)


def test_rows_without_mass_take_no_part():
    values = scores(12, 5)
    padding = np.full((3, 5), np.nan, "float32")
    weights = np.repeat([1.0, 0.0], [12, 3])
    codes = losses.sinkhorn_knopp(np.concatenate([values, padding]), weights=weights)
    np.testing.assert_allclose(codes[:12], losses.sinkhorn_knopp(values), atol=1e-6)
    nobody = losses.sinkhorn_knopp(values, weights=np.zeros(12))
    assert np.all(np.isfinite(nobody))


def test_mass_counts_as_copies():
    values = scores(6, 5)
    copied = losses.sinkhorn_knopp(np.concatenate([values, values[:2]]))
    weights = np.repeat([2.0, 1.0], [2, 4])
    weighted = losses.sinkhorn_knopp(values, weights=weights)
    np.testing.assert_allclose(weighted, copied[:6], atol=1e-5)


@pytest.mark.parametrize("replicas", [2, pytest.param(4, marks=pytest.mark.slow)])
def test_codes_do_not_depend_on_the_number_of_replicas(replicas):
    values, weights = scores(8, 5), np.array([1, 1, 0, 0, 2, 1, 1, 1], "float32")

    def function(x, w):
        return losses.sinkhorn_knopp(x, weights=w), losses.sinkhorn_knopp(x)

    wanted = [np.asarray(part) for part in function(values, weights)]
    found = run_on(replicas, function, values, weights)
    for part, want in enumerate(wanted):
        got = np.concatenate([np.asarray(each[part]) for each in found])
        np.testing.assert_allclose(got, want, atol=1e-6)
    alone = [losses.sinkhorn_knopp(rows) for rows in np.split(values, 2)]
    assert not np.allclose(np.concatenate(alone), wanted[1], atol=1e-2)


def test_sinkhorn_refuses_what_it_cannot_do():
    with pytest.raises(ValueError, match="epsilon > 0"):
        losses.sinkhorn_knopp(scores(4, 3), epsilon=0.0)
    with pytest.raises(ValueError, match="iterations > 0"):
        layers.SinkhornKnopp(iterations=0)
    with pytest.raises(ValueError, match="samples, prototypes"):
        losses.sinkhorn_knopp(scores(4))


def test_the_layer_is_the_function_and_keeps_its_settings():
    layer = layers.SinkhornKnopp(0.1, 2)
    copy = layers.SinkhornKnopp.from_config(layer.get_config())
    wanted = losses.sinkhorn_knopp(scores(8, 5), epsilon=0.1, iterations=2)
    np.testing.assert_array_equal(copy(scores(8, 5)), wanted)


# --- the loss ------------------------------------------------------------------------------------


def test_uniform_scores_cost_the_log_of_the_number_of_prototypes():
    flat = [np.full((8, 5), 0.3, "float32")] * 3
    assert float(losses.swav(flat)) == pytest.approx(math.log(5), rel=1e-5)


def test_no_crop_predicts_itself():
    """With two crops, the second one's scores decide how well the first one's codes are met."""
    a, b = scores(8, 5), scores(8, 5, seed=1)
    codes = losses.swav_codes([a, b])
    log = [ops.log_softmax(x / 0.1) for x in (a, b)]
    wanted = -(ops.mean(ops.sum(codes[0] * log[1], 1)) + ops.mean(ops.sum(codes[1] * log[0], 1)))
    assert float(losses.swav([a, b])) == pytest.approx(float(wanted) / 2, rel=1e-5)
    small = [*map(tf.constant, (a, b)), tf.constant(scores(8, 5, seed=2))]
    crops = losses.swav(small)
    log.append(ops.log_softmax(small[2] / 0.1))
    pairs = [(0, 1), (0, 2), (1, 0), (1, 2)]
    each = [-float(ops.mean(ops.sum(codes[c] * log[v], 1))) for c, v in pairs]
    assert float(crops) == pytest.approx(np.mean(each), rel=1e-5)


def test_gradient_reaches_scores_and_not_codes():
    a, b = (tf.constant(scores(8, 5, seed=seed)) for seed in range(2))
    with tf.GradientTape(persistent=True) as tape:
        tape.watch([a, b])
        codes = losses.swav_codes([a, b])
        loss = losses.swav([a, b])
    assert tape.gradient(codes, [a, b]) == [None, None]
    fixed = losses.swav_codes([a, b])
    for mine, crop in ((a, 1), (b, 0)):
        # Softmax minus target, once for each crop that is predicted from these scores.
        wanted = (tf.nn.softmax(mine / 0.1) - fixed[crop]) / (0.1 * 8 * 2)
        np.testing.assert_allclose(tape.gradient(loss, mine), wanted, atol=1e-5)


@pytest.mark.parametrize("replicas", [1, 2, pytest.param(4, marks=pytest.mark.slow)])
def test_a_queue_counts_once_on_any_number_of_replicas(replicas):
    batch, queue = scores(8, 5), scores(7, 5, seed=1)
    wanted = losses.sinkhorn_knopp(np.concatenate([queue, batch]))[7:]

    def codes(x, weight=1.0):
        return losses.swav_codes([x], queue_scores=[queue], queue_weight=weight)[0]

    found = np.concatenate([np.asarray(part) for part in run_on(replicas, codes, batch)])
    np.testing.assert_allclose(found, wanted, atol=1e-5)
    without = run_on(replicas, lambda x: codes(x, tf.constant(0.0)), batch)
    without = np.concatenate([np.asarray(part) for part in without])
    np.testing.assert_allclose(without, losses.sinkhorn_knopp(batch), atol=1e-5)
    assert not np.allclose(found, without, atol=1e-2)


def test_the_loss_refuses_what_does_not_fit():
    two = [scores(8, 5), scores(8, 5)]
    with pytest.raises(ValueError, match="queue_scores of as many crops"):
        losses.swav(two, queue_scores=[scores(3, 5)])
    with pytest.raises(ValueError, match="code_crops=3"):
        losses.swav(two, code_crops=3)
    with pytest.raises(ValueError, match="at least 2 view"):
        losses.swav(two[:1])


# --- prototypes ----------------------------------------------------------------------------------


def test_scores_are_cosines_and_float32_also_in_half_precision():
    keras.config.set_dtype_policy("mixed_bfloat16")
    layer = layers.Prototypes(4, seed=0)
    x = scores(3, 6)
    found = layer(10 * x)
    assert found.dtype == "float32"
    vectors = np.asarray(layer.vectors)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=0), 1, atol=1e-5)
    wanted = x / np.linalg.norm(x, axis=1, keepdims=True) @ vectors
    np.testing.assert_allclose(found, wanted, atol=1e-5)
    unit = layers.Prototypes(4, normalize=False, seed=0)
    np.testing.assert_allclose(unit(10 * x), 10 * x @ vectors, rtol=1e-4, atol=1e-4)


def test_normalizing_restores_unit_length_and_keeps_unit_bits():
    layer = layers.Prototypes(4, seed=0)
    layer.build((None, 6))
    before = np.asarray(layer.vectors)
    layer.normalize_prototypes()
    np.testing.assert_array_equal(layer.vectors, before)
    layer.vectors.assign(3 * before)
    layer.normalize_prototypes()
    np.testing.assert_allclose(layer.vectors, before, atol=1e-6)


def test_prototypes_refuse_what_they_cannot_do():
    with pytest.raises(ValueError, match="count of at least 1"):
        layers.Prototypes(0)
    with pytest.raises(ValueError, match="fixed width"):
        layers.Prototypes(3).build((None, None))


# --- crops of several sizes ----------------------------------------------------------------------


def crops():
    """Two crops of 16 pixels and three of 8."""
    small = views.Pipeline([views.RandomResizedCrop(8, area=(0.1, 0.3)), views.HorizontalFlip()])
    return views.MultiCrop([(light_views().first, 2), (small, 3)])


def test_one_encoder_call_a_size_and_one_head_call(monkeypatch):
    model = build(models.SwAV, {**SWAV, "views": crops()})
    made = model.make_views(tf.constant(images(4)))
    wanted = [np.asarray(model.project(view)) for view in made]
    calls = []
    for name in ("view_encoder", "projector"):
        part = getattr(model, name)

        def counted(x, training=False, part=part, name=name):
            calls.append((name, tuple(x.shape)))
            return part(x, training=training)

        monkeypatch.setattr(model, name, counted)
    order = [0, 2, 1, 3, 4]
    found = model.project_views([made[view] for view in order])
    assert calls == [
        ("view_encoder", (8, 16, 16, 3)),
        ("view_encoder", (12, 8, 8, 3)),
        ("projector", (20, 16)),
    ]
    # Sizes may come in any order.
    for view, projection in zip(order, found, strict=True):
        np.testing.assert_allclose(projection, wanted[view], atol=1e-5)


@pytest.mark.parametrize("replicas", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_it_trains_on_crops_of_two_sizes(replicas):
    model = build(models.SwAV, {**SWAV, "views": crops()}, replicas=replicas)
    logs = train(model, 3)
    assert all(np.isfinite(log["swav"]) for log in logs)
    # Whatever the start, codes cannot be predicted better than by chance yet.
    assert logs[0]["swav"] > 0.8 * math.log(6)


# --- the model -----------------------------------------------------------------------------------


@pytest.mark.parametrize("replicas", [1, 2, pytest.param(4, marks=pytest.mark.slow)])
def test_prototypes_have_unit_length_after_every_step_on_every_replica(replicas):
    model = build(models.SwAV, SWAV, replicas=replicas)
    before = np.asarray(model.scorer.vectors)
    for step in range(3):
        train(model, 1, first=step)
        value = model.scorer.vectors.value
        copies = [np.asarray(part) for part in getattr(value, "values", [value])]
        assert len(copies) == replicas
        for copy in copies:
            np.testing.assert_allclose(np.linalg.norm(copy, axis=0), 1, atol=1e-5)
            assert np.array_equal(copy, copies[0])
    assert not np.allclose(before, copies[0], atol=1e-4)


def test_foreign_prototypes_are_normalized_before_the_forward_pass():
    plain, long = build(models.SwAV, SWAV), build(models.SwAV, SWAV)
    long.scorer.vectors.assign(5 * plain.scorer.vectors)
    assert train(plain, 1)[0]["loss"] == pytest.approx(train(long, 1)[0]["loss"], rel=1e-4)


@pytest.mark.parametrize("replicas", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_frozen_prototypes_do_not_move_and_move_afterwards(replicas):
    from strategies import scope

    with scope(replicas):
        optimizer = keras.optimizers.AdamW(0.05, weight_decay=0.5)
    kwargs = {**SWAV, "freeze_steps": 2}
    model = build(models.SwAV, kwargs, replicas=replicas, optimizer=optimizer)
    before, head = np.asarray(model.scorer.vectors), np.asarray(model.projector.weights[0])
    train(model, 2)
    np.testing.assert_array_equal(model.scorer.vectors, before)
    assert not np.allclose(model.projector.weights[0], head, atol=1e-3)
    train(model, 1, first=2)
    assert not np.allclose(model.scorer.vectors, before, atol=1e-3)


def queue_weights(model, monkeypatch, steps):
    """Whether the queue took part, step by step, each of 16 rows."""
    seen = []
    loss = losses.swav

    def spy(given, **options):
        seen.append(float(options["queue_weight"]))
        return loss(given, **options)

    monkeypatch.setattr(losses, "swav", spy)
    model.compile(keras.optimizers.SGD(0.01), run_eagerly=True)
    train(model, steps)
    return seen


@pytest.mark.parametrize(
    ("size", "start", "wanted"),
    [(32, 0, [0, 0, 1, 1]), (24, 0, [0, 0, 1, 1]), (16, 0, [0, 1, 1, 1]), (16, 3, [0, 0, 0, 1])],
)
def test_the_queue_is_used_once_it_is_full_and_started(size, start, wanted, monkeypatch):
    model = build(models.SwAV, {**SWAV, "queue_size": size, "queue_start": start})
    assert queue_weights(model, monkeypatch, 4) == wanted


def test_the_queue_holds_the_projections_of_earlier_batches():
    model = build(models.SwAV, {**SWAV, "queue_size": 16})
    before = [np.asarray(queue.vectors) for queue in model.queues]
    train(model, 1)
    for old, queue in zip(before, model.queues, strict=True):
        assert not np.isclose(old, queue.vectors).any(axis=1).all()
        np.testing.assert_allclose(np.linalg.norm(queue.vectors, axis=1), 1, atol=1e-5)
    assert not np.allclose(*[queue.vectors for queue in model.queues])
    stored = [np.asarray(queue.vectors) for queue in model.queues]
    model.evaluate(tf.data.Dataset.from_tensors(images()), verbose=0)
    for old, queue in zip(stored, model.queues, strict=True):
        np.testing.assert_array_equal(old, queue.vectors)


def test_a_full_queue_changes_the_loss():
    """Same weights, same views: only what the codes are balanced over differs."""
    small, large = (build(models.SwAV, {**SWAV, "queue_size": 16}) for _ in range(2))
    large.queued.assign(16)
    assert train(small, 1)[0]["loss"] != pytest.approx(train(large, 1)[0]["loss"], rel=1e-3)


def test_half_a_queue_and_frozen_prototypes_survive_a_file(tmp_path):
    kwargs = {**SWAV, "queue_size": 40, "freeze_steps": 3}
    model = build(models.SwAV, kwargs)
    train(model, 2)
    model.save(tmp_path / "swav.keras")
    loaded = keras_ssl.load_model(tmp_path / "swav.keras")
    assert int(loaded.queued) == int(model.queued) == 32
    ours, theirs = [], []
    for step in (2, 3):
        before = np.asarray(loaded.scorer.vectors)
        ours += train(model, 1, first=step)
        theirs += train(loaded, 1, first=step)
        assert np.array_equal(before, loaded.scorer.vectors) == (step == 2)
    assert_goes_on_alike(ours, theirs)
    np.testing.assert_allclose(model.scorer.vectors, loaded.scorer.vectors, atol=1e-6)


def test_the_views_of_the_paper_fit_a_network_for_large_images():
    inputs = keras.Input((224, 224, 3))
    pooled = keras.layers.GlobalAveragePooling2D()(keras.layers.Conv2D(4, 3, 4)(inputs))
    model = models.SwAV(keras.Model(inputs, pooled), projector=(8, 4), prototypes=5)
    assert model.views.sizes == [(224, 224)] * 2 + [(96, 96)] * 6
    assert smooth_encoder().input_shape[1] == SIZE
