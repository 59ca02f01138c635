# SPDX-License-Identifier: Apache-2.0
"""What is particular to the contrastive methods: queues, order of events, limits of losses."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from model_test import batch_for, build, images, light_views, smooth_encoder, train
from strategies import scope
from test_models import SMALL

from keras_ssl import layers, losses, models


def rows(count=8, width=6, seed=0, views=2):
    draws = np.random.default_rng(seed).normal(size=(views, count, width))
    return [tf.constant(view, "float32") for view in draws]


def value(x):
    return float(np.asarray(x))


# --- losses ------------------------------------------------------------------------------


def test_nt_xent_is_the_softplus_of_dcl_for_every_anchor():
    # With two images of two views each, one anchor at a time.
    for seed in range(3):
        z = rows(2, seed=seed)
        unit = np.concatenate([np.asarray(losses.normalize(v)) for v in z])
        logits = unit @ unit.T / 0.3
        np.fill_diagonal(logits, -np.inf)
        positive = logits[np.arange(4), [2, 3, 0, 1]]
        everything = np.log(np.exp(logits).sum(1))
        others = np.log(np.exp(logits).sum(1) - np.exp(positive))
        decoupled, coupled = others - positive, everything - positive
        np.testing.assert_allclose(coupled, np.log1p(np.exp(decoupled)), rtol=1e-6)
        assert value(losses.dcl(z, temperature=0.3)) == pytest.approx(decoupled.mean(), rel=1e-5)
        assert value(losses.nt_xent(z, temperature=0.3)) == pytest.approx(coupled.mean(), rel=1e-5)


def test_the_weight_of_dclw_has_mean_one_and_prefers_far_pairs():
    from keras_ssl.losses.dcl import pair_weight

    similarity = tf.constant([0.9, 0.1, -0.5, 0.4])
    weight = np.asarray(pair_weight(similarity, 0.5))
    assert weight.mean() == pytest.approx(1.0)
    assert list(np.argsort(weight)) == [0, 3, 1, 2]
    z = rows()
    wide = value(losses.dclw(z, sigma=1e6))
    assert wide == pytest.approx(value(losses.dcl(z)), rel=1e-4)


def test_info_nce_with_orthogonal_negatives_has_a_closed_form():
    eye = np.eye(6, dtype="float32")
    found = losses.info_nce(eye[:1], eye[:1], queue=eye[1:], temperature=0.5)
    assert value(found) == pytest.approx(np.log(1 + 5 * np.exp(-2.0)), rel=1e-6)
    decoupled = losses.info_nce(eye[:1], eye[:1], queue=eye[1:], temperature=0.5, decoupled="dcl")
    assert value(decoupled) == pytest.approx(np.log(5.0) - 2.0, rel=1e-6)


def test_moco_v3_is_two_cross_entropies_times_twice_the_temperature():
    q, k = rows(views=2), rows(views=2, seed=1)
    one = losses.info_nce(q[0], k[1], temperature=0.2)
    two = losses.info_nce(q[1], k[0], temperature=0.2)
    whole = losses.moco_v3(q, k, temperature=0.2)
    assert value(whole) == pytest.approx(0.4 * (value(one) + value(two)), rel=1e-6)
    with tf.GradientTape() as tape:
        tape.watch(k)
        whole = losses.moco_v3(q, k)
    assert all(g is None for g in tape.gradient(whole, k))


def test_neighbours_that_are_the_projections_themselves_give_info_nce():
    z, p = rows(), rows(seed=1)
    queue = layers.Queue(16, 6)
    queue.vectors.assign(np.concatenate([np.asarray(losses.normalize(v)) for v in z]))
    found = losses.nnclr([queue(v) for v in z], p, temperature=0.3)
    one = losses.info_nce(z[0], p[1], temperature=0.3)
    two = losses.info_nce(z[1], p[0], temperature=0.3)
    assert value(found) == pytest.approx((value(one) + value(two)) / 2, rel=1e-6)


@pytest.mark.parametrize("positives", ["outside", "inside"])
def test_sup_con_without_labels_is_nt_xent(positives):
    z = rows(views=3)
    settings = {"temperature": 0.3, "positives": positives}
    bare = losses.sup_con(z, base_temperature=None, **settings)
    assert value(bare) == pytest.approx(value(losses.nt_xent(z, **settings)), rel=1e-6)
    unlabelled = losses.sup_con(z, labels=[-1] * 8, base_temperature=None, **settings)
    assert value(unlabelled) == value(bare)


def test_sup_con_ignores_the_order_of_rows_and_lonely_anchors():
    z, labels = rows(views=1), np.array([0, 0, 1, 1, 1, 2, 3, -1])
    order = np.random.default_rng(0).permutation(8)
    first = losses.sup_con(z, labels)
    second = losses.sup_con([tf.gather(z[0], order)], labels[order])
    assert value(first) == pytest.approx(value(second), rel=1e-5)
    lonely = losses.sup_con(z, np.arange(8))
    assert value(lonely) == 0.0
    with tf.GradientTape() as tape:
        tape.watch(z)
        lonely = losses.sup_con(z, np.arange(8), positives="inside")
    assert value(lonely) == 0.0 and np.all(np.isfinite(tape.gradient(lonely, z)[0]))


def test_a_class_pulls_together_what_nt_xent_pushes_apart():
    z = rows(4)
    labels = np.zeros(4, int)

    def pull(loss):
        with tf.GradientTape() as tape:
            tape.watch(z)
            total = loss()
        step = tape.gradient(total, z)[0]
        moved = losses.normalize(z[0] - 0.5 * step)
        return value(tf.reduce_mean(moved @ tf.transpose(moved)))

    together = pull(lambda: losses.sup_con(z, labels, temperature=0.5))
    apart = pull(lambda: losses.nt_xent(z, temperature=0.5))
    assert together > apart


def test_attraction_weighs_far_views_and_repulsion_near_images():
    z = rows(views=4)
    unit = np.stack([np.asarray(losses.normalize(v)) for v in z])
    square = ((unit[:, None] - unit[None]) ** 2).sum(-1)
    even = value(losses.cacr_attraction(z, temperature=0.0))
    assert even == pytest.approx(square.sum(1).mean() / 3, rel=1e-5)
    assert even < value(losses.cacr_attraction(z)) < value(losses.cacr_attraction(z, temperature=9))
    farthest = value(losses.cacr_attraction(z, temperature=1e4))
    assert farthest == pytest.approx(square.max(1).mean(), rel=1e-4)
    across = ((unit[0][:, None] - unit[1][None]) ** 2).sum(-1)
    np.fill_diagonal(across, np.inf)
    hardest = value(losses.cacr_repulsion(z[:2], temperature=1e4))
    assert hardest == pytest.approx(-across.min(1).mean(), rel=1e-4)


@pytest.mark.parametrize(
    ("action", "message"),
    [
        (lambda: losses.cacr_momentum(rows(), rows()[0], cost="l1"), "cost is"),
        (lambda: losses.dcl(rows(views=3)), "exactly two views"),
        (lambda: losses.info_nce(rows()[0], rows(7)[1]), "shapes must be equal"),
        (lambda: losses.info_nce(*rows(), decoupled="half"), "decoupled is one of"),
        (lambda: losses.nnclr(rows(), rows(), negatives="all"), "negatives is"),
        (lambda: losses.sup_con(rows(), labels=[0, 1]), "one label per row"),
        (lambda: losses.moco_v3(rows(views=3), rows(views=3)), "exactly two views"),
        (lambda: layers.Queue(0, 4), "at least 1"),
    ],
)
def test_mistakes_are_named(action, message):
    with pytest.raises(ValueError, match=message):
        action()


# --- the queue -----------------------------------------------------------------------------


def test_a_queue_holds_the_newest_rows_after_wrapping_around():
    queue = layers.Queue(10, 3, seed=0)
    stream = np.arange(28 * 3, dtype="float32").reshape(28, 3)
    for start in range(0, 28, 4):
        queue.enqueue(tf.constant(stream[start : start + 4]))
    assert int(queue.pointer) == 28 % 10
    held = {tuple(row) for row in np.asarray(queue.vectors)}
    assert held == {tuple(row) for row in stream[-10:]}


def test_a_batch_longer_than_the_queue_leaves_its_end():
    queue = layers.Queue(3, 2, seed=0)
    queue.enqueue(tf.reshape(tf.range(10.0), (5, 2)))
    assert {tuple(r) for r in np.asarray(queue.vectors)} == {(4.0, 5.0), (6.0, 7.0), (8.0, 9.0)}


def test_a_queue_starts_with_unit_vectors_of_its_seed():
    first, second, other = (np.asarray(layers.Queue(5, 4, seed=s).vectors) for s in (1, 1, 2))
    np.testing.assert_allclose(np.linalg.norm(first, axis=1), 1.0, rtol=1e-5)
    assert np.array_equal(first, second) and not np.array_equal(first, other)


def test_replicas_fill_the_queue_in_one_order():
    with scope(2) as strategy:
        queue = layers.Queue(12, 2, seed=0)
    data = tf.reshape(tf.range(16.0), (8, 2))

    def step(context):
        start = context.replica_id_in_sync_group * 4
        return data[start : start + 4]

    local = strategy.experimental_distribute_values_from_function(step)
    tf.function(lambda x: strategy.run(queue.enqueue, args=(x,)), autograph=False)(local)
    for part in strategy.experimental_local_results(queue.vectors.value):
        assert np.array_equal(np.asarray(part)[:8], np.asarray(data))


# --- the models --------------------------------------------------------------------------


@pytest.mark.parametrize("cls", [models.MoCoV2, models.MoCoV3], ids=lambda c: c.__name__)
def test_the_key_encoder_moves_before_the_forward_pass(cls):
    model = build(cls, SMALL[cls])
    student = [np.asarray(v) for v in model.encoder.trainable_variables]
    train(model, 1)
    teacher = [v for v in model.teacher_encoder.network.weights if "moving" not in v.path]
    # The first step moves it towards itself, before the student has moved.
    for before, mine in zip(student, teacher, strict=True):
        np.testing.assert_allclose(mine, before, atol=1e-7)
    after_one = [np.asarray(v) for v in model.encoder.trainable_variables]
    train(model, 1, first=1)
    for before, after, mine in zip(student, after_one, teacher, strict=True):
        np.testing.assert_allclose(mine, 0.9 * before + 0.1 * after, atol=1e-6)


def test_micro_batches_move_the_key_encoder_once():
    optimizer = keras.optimizers.SGD(0.1, gradient_accumulation_steps=2)
    model = build(models.MoCoV2, SMALL[models.MoCoV2], optimizer=optimizer)
    train(model, 3)
    teacher = np.asarray(model.teacher_encoder.network.weights[0])
    train(model, 1, first=3)
    assert np.array_equal(np.asarray(model.teacher_encoder.network.weights[0]), teacher)


def test_keys_enter_the_queue_after_the_loss_and_not_in_evaluation():
    model = build(models.MoCoV2, {**SMALL[models.MoCoV2], "momentum": 1.0})
    before = np.asarray(model.queue.vectors)
    model.evaluate(images(16), verbose=0)
    assert np.array_equal(np.asarray(model.queue.vectors), before)
    train(model, 1)
    after = np.asarray(model.queue.vectors)
    assert int(model.queue.pointer) == 16
    assert np.array_equal(after[16:], before[16:])
    assert not np.any(np.all(after[:16] == before[:16], axis=1))
    np.testing.assert_allclose(np.linalg.norm(after, axis=1), 1.0, rtol=1e-5)


@pytest.mark.parametrize("cls", [models.MoCoV2, models.NNCLR, models.SimCLR])
def test_decoupled_losses_are_options_of_the_others(cls):
    logs = {}
    for decoupled in (None, "dcl", "dclw"):
        model = build(cls, {**SMALL[cls], "decoupled": decoupled})
        (loss,) = model.losses_of(tf.constant(images()), training=False).values()
        logs[decoupled] = value(loss)
    assert logs["dcl"] < logs[None] and len(set(logs.values())) == 3


def test_the_symmetric_form_enqueues_both_views():
    model = build(models.MoCoV2, {**SMALL[models.MoCoV2], "symmetric": True})
    train(model, 1)
    assert int(model.queue.pointer) == 32


def test_labels_pull_only_where_they_are_given():
    model = build(models.SupCon, SMALL[models.SupCon])
    pictures, _ = batch_for(model)
    losses_of = {}
    for name, labels in {"none": np.full(16, -1), "two": np.arange(16) % 2}.items():
        losses_of[name] = model.evaluate(pictures, labels, verbose=0, return_dict=True)["loss"]
    assert losses_of["none"] != losses_of["two"]
    alone = model.evaluate(pictures, np.arange(16), verbose=0, return_dict=True)["loss"]
    assert losses_of["none"] == pytest.approx(alone, rel=1e-6)
    with pytest.raises(ValueError, match="uses labels but the data yields none"):
        model.fit(pictures, verbose=0)


# --- split batch normalization ---------------------------------------------------------------


def test_split_batch_norm_normalises_every_part_by_itself():
    x = np.random.default_rng(0).normal(size=(12, 5, 5, 3)).astype("float32")
    split = layers.SplitBatchNormalization(splits=3, momentum=0.9, epsilon=1e-5)
    plain = [keras.layers.BatchNormalization(momentum=0.9, epsilon=1e-5) for _ in range(3)]
    found = split(x, training=True)
    wanted = [norm(x[i * 4 : i * 4 + 4], training=True) for i, norm in enumerate(plain)]
    np.testing.assert_allclose(found, np.concatenate(wanted), atol=1e-5)
    for name in ("moving_mean", "moving_variance"):
        average = np.mean([np.asarray(getattr(norm, name)) for norm in plain], axis=0)
        np.testing.assert_allclose(np.asarray(getattr(split, name)), average, atol=1e-6)
    np.testing.assert_allclose(
        split(x), (x - np.asarray(split.moving_mean)) / np.sqrt(split.moving_variance + 1e-5), 1e-4
    )
    with pytest.raises(ValueError, match="cannot be divided"):
        split(x[:10], training=True)


def test_a_split_copy_keeps_weights_and_inference():
    encoder = smooth_encoder()
    copy = layers.split_batch_norm(encoder, 4)
    x = np.random.default_rng(0).normal(size=(8, 16, 16, 3)).astype("float32")
    np.testing.assert_allclose(encoder(x), copy(x), atol=1e-6)
    assert not np.allclose(encoder(x, training=True), copy(x, training=True))


def test_moco_with_split_statistics_trains_saves_and_refuses_replicas(tmp_path):
    import keras_ssl

    options = {**SMALL[models.MoCoV2], "batch_norm": "split", "splits": 4}
    model = build(models.MoCoV2, options)
    train(model, 2)
    model.save(tmp_path / "split.keras")
    loaded = keras_ssl.load_model(tmp_path / "split.keras")
    assert train(model, 1, first=2) == train(loaded, 1, first=2)
    with pytest.raises(ValueError, match="imitates several devices"):
        model.check_replicas(2)
    with pytest.raises(ValueError, match="batch_norm is"):
        models.MoCoV2(smooth_encoder(), views=light_views(), batch_norm="shuffle", queue_size=8)
