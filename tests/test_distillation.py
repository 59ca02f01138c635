# SPDX-License-Identifier: Apache-2.0
"""Self-distillation: centre, temperatures, freezing, heads, and how a collapse looks."""

import math
import warnings as warnings_module

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import ops
from model_test import build, images, light_views, train, weights
from strategies import strategy

from keras_ssl import callbacks, evaluation, layers, losses, models, optimizers, schedules, views

SMALL = {"projector": (8,), "prototypes": 12, "momentum": 0.9, "freeze_steps": 0}


def normal(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype("float32")


# --- losses ----------------------------------------------------------------------------------


def test_even_teacher_and_student_give_ln_k():
    even = [np.zeros((4, 50), "float32")] * 2
    assert float(losses.dino(even, even, np.zeros(50))) == pytest.approx(math.log(50), abs=1e-5)


def test_one_prototype_for_all_gives_zero():
    sharp = [np.eye(1, 50, dtype="float32").repeat(4, axis=0) * 20] * 2
    assert float(losses.dino(sharp, sharp, np.zeros(50))) == pytest.approx(0.0, abs=1e-5)
    # What centring is for: the same logits of all are no information.
    centred = float(losses.dino(sharp, sharp, sharp[0][0]))
    assert centred > 3


def test_a_crop_is_not_compared_with_itself():
    a, b, c = (normal(4, 6, seed=seed) for seed in range(3))
    center = normal(6, seed=5)

    def entropy(student, teacher):
        logits = tf.nn.softmax((teacher - center) / 0.04)
        return float(tf.reduce_mean(tf.nn.softmax_cross_entropy_with_logits(logits, student / 0.1)))

    pairs = [(b, a), (c, a), (a, b), (c, b)]
    want = np.mean([entropy(student, teacher) for student, teacher in pairs])
    assert float(losses.dino([a, b, c], [a, b], center)) == pytest.approx(want, rel=1e-5)


def test_no_gradient_reaches_the_teacher():
    student, teacher = tf.constant(normal(4, 6)), tf.constant(normal(4, 6, seed=1))
    with tf.GradientTape() as tape:
        tape.watch([student, teacher])
        loss = losses.dino([student, student], [teacher, teacher], tf.zeros(6))
    towards = tape.gradient(loss, [student, teacher])
    assert np.abs(towards[0]).max() > 0 and towards[1] is None


def test_patches_are_a_mean_over_masked_ones_then_images():
    student, teacher = normal(3, 4, 5), normal(3, 4, 5, seed=1)
    mask = np.array([[1, 0, 1, 0], [0, 0, 0, 0], [0, 1, 0, 0]], bool)
    target = np.asarray(tf.nn.softmax(teacher))
    entropies = -np.sum(target * np.asarray(tf.nn.log_softmax(student / 0.1)), axis=-1)
    want = (entropies[0, [0, 2]].mean() + 0.0 + entropies[2, 1]) / 3
    weight = losses.masked_token_weights(mask)
    assert float(losses.patch_distillation(student, target, weight)) == pytest.approx(
        want, rel=1e-5
    )
    nothing = losses.masked_token_weights(np.zeros((3, 4)))
    assert float(losses.patch_distillation(student, target, nothing)) == 0.0


def test_koleo_of_even_points_and_duplicates():
    # Four corners of a square on the circle: each is sqrt(2) from its nearest.
    square = np.array([[1, 0], [0, 1], [-1, 0], [0, -1]], "float32") * 3
    assert float(losses.koleo(square)) == pytest.approx(-math.log(math.sqrt(2)), abs=1e-5)
    twice = tf.constant(np.concatenate([square, square]))
    with tf.GradientTape() as tape:
        tape.watch(twice)
        loss = losses.koleo(twice)
    assert 10 < float(loss) < 20 and np.all(np.isfinite(tape.gradient(loss, twice)))
    with pytest.raises(ValueError, match="at least 2"):
        losses.koleo(square[:1])


def test_koleo_layer_adds_its_term_in_training_only():
    layer, x = layers.KoLeo(0.5), normal(6, 4)
    assert np.array_equal(layer(x, training=True), x)
    assert float(layer.losses[0]) == pytest.approx(0.5 * float(losses.koleo(x)))
    layer = layers.KoLeo(0.5)
    layer(x)
    assert not layer.losses
    with pytest.raises(ValueError, match="at least 0"):
        layers.KoLeo(-1.0)


@pytest.mark.parametrize(
    "wrong",
    [
        lambda a: losses.self_distillation([a], [a]),
        lambda a: losses.self_distillation([a, a], [a], pairs="some"),
        lambda a: losses.self_distillation([a, a], [a], reduction="max"),
        lambda a: losses.self_distillation([a, a], [a[:, :2]]),
        lambda a: losses.centered_softmax(a, 0.0, temperature=0),
        lambda a: losses.patch_distillation(a, a, a),
    ],
)
def test_wrong_inputs(wrong):
    with pytest.raises(ValueError):
        wrong(normal(4, 3))


# --- layers ----------------------------------------------------------------------------------


def test_centre_takes_up_what_was_observed_when_it_moves():
    center = layers.Center(3, momentum=0.8)
    first, second = normal(4, 3), normal(2, 5, 3, seed=1)
    center.observe(first)
    center.observe(second)
    assert not np.any(center.value)
    center.move(False)
    assert not np.any(center.value)
    center.move(True)
    mean = (first.mean(axis=0) + second.mean(axis=(0, 1))) / 2
    np.testing.assert_allclose(center.value, 0.2 * mean, rtol=1e-5)
    center.move(True)
    np.testing.assert_allclose(center.value, 0.2 * mean, rtol=1e-5)
    np.testing.assert_allclose(center(first), first - 0.2 * mean, rtol=1e-5)
    with pytest.raises(ValueError, match=r"\[0, 1\]"):
        layers.Center(3, 1.5)


def test_centre_is_that_of_all_replicas():
    devices, rows = strategy(2), normal(8, 3)
    with devices.scope():
        center = layers.Center(3, momentum=0.0)
    parts = devices.experimental_distribute_values_from_function(
        lambda context: tf.constant(rows[4 * context.replica_id_in_sync_group :][:4])
    )

    def step(part):
        center.observe(part)
        center.move()

    tf.function(lambda part: devices.run(step, args=(part,)), autograph=False)(parts)
    for local in devices.experimental_local_results(center.value.value):
        np.testing.assert_allclose(local, rows.mean(axis=0), atol=1e-6)


def test_weight_norm_has_columns_of_its_gain():
    layer = layers.WeightNorm(5, seed=0)
    layer(normal(2, 3))
    np.testing.assert_allclose(np.linalg.norm(layer.kernel, axis=0), 1.0, rtol=1e-6)
    layer.direction.assign(7.0 * layer.direction)
    np.testing.assert_allclose(np.linalg.norm(layer.kernel, axis=0), 1.0, rtol=1e-6)
    assert [v.name for v in layer.trainable_variables] == ["direction"]
    free = layers.WeightNorm(5, trainable_gain=True)
    free(normal(2, 3))
    assert len(free.trainable_variables) == 2


def test_logits_of_the_head_are_cosines():
    head = layers.PrototypeHead((16, 8), 6, seed=0)
    x = normal(4, 10)
    logits = np.asarray(head(x))
    assert np.abs(logits).max() <= 1 + 1e-6 and logits.shape == (4, 6)
    bottleneck = np.asarray(head.mlp(x))
    np.testing.assert_allclose(
        logits,
        bottleneck
        / np.linalg.norm(bottleneck, axis=1, keepdims=True)
        @ np.asarray(head.last.kernel),
        atol=1e-6,
    )
    tokens = np.asarray(head(np.stack([x, x], axis=1)))
    np.testing.assert_allclose(tokens[:, 1], logits, atol=1e-6)


def test_a_head_with_batch_norm_takes_tokens_as_rows():
    head = layers.PrototypeHead((16, 8), 6, batch_norm=True, seed=0)
    x = normal(4, 5, 10)
    rows = np.asarray(head(x.reshape(20, 10), training=True))
    np.testing.assert_allclose(head(x, training=True), rows.reshape(4, 5, 6), atol=1e-6)


@pytest.mark.parametrize("projected", [False, True])
def test_nested_head(projected):
    head = layers.NestedPrototypeHead((2, 4, 8), 32, (6, 5), projected=projected, seed=0)
    x, other = normal(3, 8), normal(3, 8)
    other[:, 4:] += 1.0
    first, second = head(x), head(other)
    assert [tuple(y.shape) for y in first] == [(3, 8), (3, 16), (3, 32)]
    # The paper's slices: the narrow levels do not see the later features.
    same = [np.allclose(a, b, atol=1e-7) for a, b in zip(first, second, strict=True)]
    assert same == ([False] * 3 if projected else [True, True, False])
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(head))
    assert np.array_equal(again(x)[2], first[2])
    with pytest.raises(ValueError, match="does not end in its width"):
        layers.NestedPrototypeHead((2, 4))(x)
    with pytest.raises(ValueError, match="rising"):
        layers.NestedPrototypeHead((4, 4, 8))


# --- DINO ------------------------------------------------------------------------------------


def multi_crop():
    large = light_views().first
    small = views.Pipeline([views.RandomResizedCrop(8, area=(0.1, 0.4)), views.HorizontalFlip()])
    return views.MultiCrop([(large, 2), (small, 3)])


def test_small_crops_train_and_the_teacher_sees_large_ones():
    model = build(models.DINO, {**SMALL, "views": multi_crop()})
    seen = []
    network = model.teacher_encoder.network
    call, network.call = network.call, lambda x, **k: (seen.append(tuple(x.shape)), call(x, **k))[1]
    made = model.make_views(tf.constant(images(4)))
    model.compute_losses(made, training=False)
    assert seen == [(8, 16, 16, 3)]
    assert [tuple(view.shape[1:3]) for view in made] == [(16, 16)] * 2 + [(8, 8)] * 3
    assert np.isfinite(train(model, 1)[0]["loss"])


def test_the_loss_uses_the_centre_before_this_batch():
    model = build(models.DINO, {**SMALL, "center_momentum": 0.5})
    logits = []
    project = model.target_projections
    model.target_projections = lambda v, t=False: logits.append(project(v, t)) or logits[-1]
    made = model.make_views(tf.constant(images()))
    first = float(model.compute_losses(made, training=True)["dino"])
    assert float(model.compute_losses(made, training=False)["dino"]) == pytest.approx(
        first, rel=0.2
    )
    assert not np.any(model.center.value)
    model.center.move()
    mean = np.mean(np.concatenate(logits[0]), axis=0)
    np.testing.assert_allclose(model.center.value, 0.5 * mean, atol=1e-6)


@pytest.mark.parametrize(
    "optimizer",
    [
        lambda: optimizers.AdamW(0.01, weight_decay=0.5),
        lambda: keras.optimizers.SGD(0.1, momentum=0.9, weight_decay=0.1),
    ],
)
def test_the_last_layer_stands_still_at_first(optimizer):
    model = build(models.DINO, {**SMALL, "freeze_steps": 2}, optimizer=optimizer())
    start = np.array(model.projector.last.direction)
    bottleneck = np.array(model.projector.mlp.trainable_variables[0])
    train(model, 2)
    assert np.array_equal(model.projector.last.direction, start)
    assert not np.array_equal(model.projector.mlp.trainable_variables[0], bottleneck)
    train(model, 1, first=2)
    assert not np.array_equal(model.projector.last.direction, start)


def test_the_teachers_temperature_follows_the_optimizers_step():
    rise = schedules.LinearWarmup(0.04, 0.08, 4)
    model = build(models.DINO, {**SMALL, "teacher_temperature": rise})
    assert float(model.now(model.teacher_temperature)) == pytest.approx(0.04)
    train(model, 2)
    assert float(model.now(model.teacher_temperature)) == pytest.approx(0.06)
    fixed = build(models.DINO, {**SMALL, "teacher_temperature": 0.06})
    fixed.set_weights(model.get_weights())
    batch = model.make_views(tf.constant(images()))
    assert float(model.compute_losses(batch, False)["dino"]) == pytest.approx(
        float(fixed.compute_losses(batch, False)["dino"]), rel=1e-5
    )


def test_centre_waits_for_the_optimizer_under_accumulation():
    optimizer = keras.optimizers.SGD(0.1, gradient_accumulation_steps=2)
    model = build(models.DINO, SMALL, optimizer=optimizer)
    train(model, 1)
    assert not np.any(model.center.value) and float(model.center.batches) == 1
    train(model, 1, first=1)
    assert np.any(model.center.value) and float(model.center.batches) == 0


def test_centre_teacher_and_prototypes_are_equal_on_all_replicas():
    model = build(models.DINO, SMALL, replicas=2)
    train(model, 2)
    local = model.distribute_strategy.experimental_local_results
    for variable in (model.center.value, *model.teacher_projector.network.weights):
        one, two = local(variable.value)
        assert np.array_equal(one, two)


def test_permuting_the_batch_changes_nothing():
    model = build(models.DINO, SMALL)
    made = model.make_views(tf.constant(images()))
    order = np.random.default_rng(0).permutation(16)
    shuffled = [tf.gather(view, order) for view in made]
    first, second = (float(model.compute_losses(v, False)["dino"]) for v in (made, shuffled))
    assert first == pytest.approx(second, rel=1e-5)


def test_evaluation_moves_nothing():
    model = build(models.DINO, SMALL)
    before = weights(model)
    model.evaluate(images(16), verbose=0)
    after = weights(model)
    assert all(np.array_equal(before[name], after[name]) for name in before)


def test_dino_refuses_one_view():
    one = views.MultiCrop([(light_views().first, 1)])
    with pytest.raises(ValueError, match="compares views"):
        build(models.DINO, {**SMALL, "views": one})


def test_a_vision_transformer_drops_paths_in_the_student_alone():
    from keras_ssl import backbones

    encoder = backbones.VisionTransformer(
        "tiny", (16, 16, 3), 4, width=12, depth=2, heads=2, drop_path=0.5, seed=0
    )
    model = build(models.DINO, SMALL, encoder=encoder)
    x = ops.convert_to_tensor(images().astype("float32") / 255)
    (one,), (two,) = (model.target_projections([x], training=True) for _ in range(2))
    assert np.array_equal(one, two)
    assert not np.array_equal(model.project(x, True), model.project(x, True))
    assert np.isfinite(train(model, 2)[-1]["loss"])


# --- collapse --------------------------------------------------------------------------------


def monitored(**options):
    """The warnings of 60 steps."""
    optimizer = keras.optimizers.Adam(3e-3)
    kwargs = {**SMALL, "projector": (32, 16), "prototypes": 64, **options}
    model = build(models.DINO, kwargs, optimizer=optimizer)
    monitor = callbacks.RepresentationMonitor(images(32, seed=9), every_steps=10, warmup_steps=20)
    data = tf.data.Dataset.from_tensor_slices(images(64)).batch(16).repeat()
    with warnings_module.catch_warnings():
        warnings_module.simplefilter("ignore")
        history = model.fit(data, steps_per_epoch=60, verbose=0, callbacks=[monitor]).history
    told = [" ".join(signs) for _, name, signs in monitor.warned if name == "assignment"]
    return " ".join(told), history


@pytest.mark.slow
def test_a_warm_teacher_collapses_to_the_even_distribution_and_is_named():
    told, history = monitored(teacher_temperature=1.0)
    assert "uniform collapse" in told and "ln K = 4.16" in told and "one-hot" not in told
    assert history["loss"][-1] == pytest.approx(math.log(64), rel=0.05)
    assert history["assignment_entropy"][-1] > 0.98


@pytest.mark.slow
def test_without_centring_one_prototype_takes_all_and_is_named():
    told, history = monitored(center_momentum=1.0, teacher_temperature=0.02, momentum=0.5)
    assert "one-hot collapse" in told and "uniform" not in told
    assert history["prototype_entropy"][-1] < 0.05


@pytest.mark.slow
def test_a_healthy_teacher_is_not_warned_of():
    told, history = monitored(momentum=0.99)
    assert not told
    assert history["prototype_entropy"][-1] > 0.05 and history["assignment_entropy"][-1] < 0.98


# --- pictures --------------------------------------------------------------------------------


def test_patches_of_one_kind_have_one_colour():
    kinds = np.array([[0, 0, 1], [2, 2, 1]])
    tokens = np.eye(8, dtype="float32")[kinds][None] * 5 + 1
    colours = evaluation.patch_colours(np.concatenate([tokens, tokens[:, ::-1]]))
    assert colours.shape == (2, 2, 3, 3) and colours.min() == 0 and colours.max() == 1
    for kind in range(3):
        assert np.ptp(colours[0][kinds == kind], axis=0).max() < 1e-2
    assert np.abs(colours[0, 0, 0] - colours[0, 1, 0]).max() > 0.5
    np.testing.assert_allclose(colours[0], colours[1, ::-1], atol=1e-2)
    with pytest.raises(ValueError, match="three features"):
        evaluation.patch_colours(tokens[..., :2])


def test_token_pictures_reach_the_board(tmp_path):
    from keras_ssl import backbones

    sizes = {"width": 12, "depth": 2, "heads": 2, "seed": 0}
    model = build(
        models.DINO, SMALL, encoder=backbones.VisionTransformer("tiny", (16, 16, 3), 4, **sizes)
    )
    picture = evaluation.token_picture(model.encoder, images(3), model.views.preprocess)
    # Image, mean, two heads, colours; a line of one pixel around each.
    assert picture.shape == (3 * 98, 5 * 98, 3) and picture.dtype == "uint8"
    assert len(np.unique(picture[1:97, 99:195].reshape(-1, 3), axis=0)) == 16
    watcher = callbacks.TokenPictures(images(3), tmp_path, every=2)
    data = tf.data.Dataset.from_tensors(images(16))
    model.fit(data, epochs=2, verbose=0, callbacks=[watcher])
    read = tf.compat.v1.train.summary_iterator
    events = [event for path in tmp_path.iterdir() for event in read(str(path))]
    steps = [e.step for e in events for value in e.summary.value if value.tag == "tokens"]
    assert steps == [0, 2]
    other = build(models.DINO, SMALL)
    with pytest.raises(ValueError, match="class token"):
        other.fit(data, verbose=0, callbacks=[callbacks.TokenPictures(images(3), tmp_path)])
    with pytest.raises(ValueError, match="every is 0"):
        callbacks.TokenPictures(images(3), tmp_path, every=0)
