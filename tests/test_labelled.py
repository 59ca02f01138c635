# SPDX-License-Identifier: Apache-2.0
"""Hydra and SLA: methods that see labels."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from model_test import batch_for, build, images, light_views, one_view, smooth_encoder, train
from test_models import SMALL

from keras_ssl import layers, losses, models, views


def value(x):
    return float(np.asarray(x))


def unit(x):
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


# --- SimLAP ------------------------------------------------------------------------------------


def simlap_by_hand(z, gates, labels, partners, temperature):
    """The sheet of the loss, pair by pair in float64, with the gated keys written out."""
    queries = unit(gates * z)
    keys = unit(gates[:, None] * z[None])
    logits = np.einsum("id,ijd->ij", queries, keys) / temperature
    total, count = 0.0, 0
    for i, row in enumerate(logits):
        others = (labels != labels[i]) & (labels != partners[i])
        negatives = np.exp(row[others]).sum()
        for j in np.flatnonzero(labels == partners[i]):
            total += np.log(np.exp(row[j]) + negatives) - row[j]
            count += 1
    return total / count


@pytest.mark.parametrize(("rows", "width", "seed"), [(12, 7, 0), (9, 20, 1)])
def test_simlap_is_what_the_sheet_says(rows, width, seed):
    rng = np.random.default_rng(seed)
    z, gates = rng.normal(size=(rows, width)), rng.uniform(size=(rows, width))
    labels, partners = rng.integers(0, 4, rows), rng.integers(0, 4, rows)
    found = losses.simlap(z, gates, labels, partners, temperature=0.3)
    assert value(found) == pytest.approx(simlap_by_hand(z, gates, labels, partners, 0.3), rel=1e-5)


def test_unit_gates_and_classes_of_two_are_sup_con():
    z = np.random.default_rng(0).normal(size=(10, 6))
    labels = np.repeat(np.arange(5), 2)
    ones = np.ones_like(z)
    found = losses.simlap(z, ones, labels, labels, temperature=0.2, include_self=False)
    wanted = losses.sup_con([z], labels, temperature=0.2, base_temperature=None)
    assert value(found) == pytest.approx(value(wanted), rel=1e-5)
    with_self = losses.simlap(z, ones, labels, labels, temperature=0.2)
    assert value(with_self) < value(found)


def test_rows_without_label_take_no_part():
    rng = np.random.default_rng(0)
    z, gates = rng.normal(size=(8, 5)), rng.uniform(size=(8, 5))
    labels, partners = np.array([0, 1, 2, 0, 1, 2, -1, -1]), np.array([1, 2, 0, 2, 0, 1, -1, -1])
    known = losses.simlap(z[:6], gates[:6], labels[:6], partners[:6])
    assert value(losses.simlap(z, gates, labels, partners)) == pytest.approx(value(known), rel=1e-6)


def test_a_batch_without_positives_or_negatives_stays_finite():
    z = tf.random.stateless_normal((4, 3), (0, 1))
    for labels, partners in (([0, 0, 1, 1], [2, 2, 2, 2]), ([0, 0, 1, 1], [1, 1, 0, 0])):
        with tf.GradientTape() as tape:
            tape.watch(z)
            loss = losses.simlap(z, tf.ones_like(z), labels, partners)
        assert value(loss) == pytest.approx(0.0, abs=1e-6)
        assert np.all(np.isfinite(tape.gradient(loss, z)))


def test_a_closed_gate_hides_features():
    z = np.random.default_rng(0).normal(size=(6, 4))
    labels, partners = np.arange(6) % 3, (np.arange(6) + 1) % 3
    gates = np.tile([1.0, 1.0, 0.0, 0.0], (6, 1))
    other = np.concatenate([z[:, :2], np.random.default_rng(1).normal(size=(6, 2))], axis=1)
    first, second = (losses.simlap(x / 1.0, gates, labels, partners) for x in (z, other))
    assert value(first) == pytest.approx(value(second), rel=1e-5)


def test_a_gate_does_not_depend_on_the_order_of_its_pair():
    first, second = np.array([0, 3, 2]), np.array([1, 3, 0])
    for combine in ("mean", "product"):
        gate = layers.PairGate(4, 6, hidden=(8, 16), combine=combine, seed=0)
        found = np.asarray(gate(first, second))
        np.testing.assert_allclose(found, gate(second, first), rtol=1e-6)
        assert found.shape == (3, 6) and np.all((found > 0) & (found < 1))
        assert not np.allclose(found[0], found[1])


# --- Hydra -------------------------------------------------------------------------------------


@pytest.mark.parametrize("pairs", ["arbitrary", "identical", "distinct"])
def test_partners(pairs):
    model = build(models.Hydra, {**SMALL[models.Hydra], "pairs": pairs})
    labels = tf.constant([0, 1, 2, 3, 3, -1, 2, 2] * 8)
    found = np.asarray(model.partners(labels, tf.constant([1, 2])))
    known = np.asarray(labels) >= 0
    if pairs == "identical":
        assert np.array_equal(found, labels)
    elif pairs == "arbitrary":
        assert np.array_equal(np.sort(found), np.sort(labels)) and not np.array_equal(found, labels)
    else:
        assert np.all(found[known] != np.asarray(labels)[known]) and np.all(found[~known] == -1)
        assert set(found[known]) == {0, 1, 2, 3}


@pytest.mark.parametrize("joint", [False, True])
def test_the_classifier_trains_the_encoder_only_when_asked(joint):
    model = build(models.Hydra, {**SMALL[models.Hydra], "joint": joint})
    made = model.make_views((tf.constant(images()), tf.constant(np.arange(16) % 4)))
    with tf.GradientTape() as tape:
        loss = model.compute_losses(made, True)["classification"]
    gradients = tape.gradient(loss, model.encoder.trainable_variables)
    assert all((g is not None) == joint for g in gradients)


def test_hydra_classifies():
    model = build(models.Hydra, SMALL[models.Hydra])
    train(model, 1)
    assert model.classify(images(3)).shape == (3, 4)


# --- SLA ---------------------------------------------------------------------------------------


def test_one_transform_is_plain_cross_entropy():
    logits = np.random.default_rng(0).normal(size=(6, 5))
    labels = np.array([0, 4, 2, 2, 1, 3])
    wanted = keras.losses.sparse_categorical_crossentropy(labels, logits, from_logits=True)
    found = losses.sla(logits, labels, transforms=1)
    assert value(found) == pytest.approx(float(np.mean(wanted)), rel=1e-6)
    np.testing.assert_allclose(losses.sla_aggregate(logits, transforms=1), logits, rtol=1e-6)


def test_unlabelled_rows_are_left_out_of_the_mean():
    logits = np.random.default_rng(0).normal(size=(5, 4)).astype("float32")
    labels = np.array([2, -1, 0, -1, 3])
    seen = labels >= 0
    for loss, extra in ((losses.classification, {}), (losses.sla, {"transforms": 1})):
        wanted = value(loss(logits[seen], labels[seen], **extra))
        assert value(loss(logits, labels, **extra)) == pytest.approx(wanted, rel=1e-6)
        assert value(loss(logits, np.full(5, -1), **extra)) == 0.0


def test_the_joint_loss_knows_class_and_transform():
    labels, classes, count = np.array([1, 0, 2]), 3, 4
    logits = np.full((12, 12), -50.0)
    for image, label in enumerate(labels):
        for transform in range(count):
            logits[image * count + transform, label * count + transform] = 50.0
    assert value(losses.sla(logits, labels, transforms=count)) == pytest.approx(0.0, abs=1e-6)
    summed = losses.sla(logits + 1, (labels + 1) % classes, transforms=count, summed=True)
    mean = losses.sla(logits + 1, (labels + 1) % classes, transforms=count)
    assert value(summed) == pytest.approx(count * value(mean))
    aggregated = np.asarray(losses.sla_aggregate(logits, transforms=count))
    assert np.array_equal(aggregated.argmax(1), labels)


def test_only_the_single_classifier_is_distilled():
    joint = tf.random.stateless_normal((8, 12), (0, 1))
    single = tf.random.stateless_normal((2, 3), (0, 2))
    with tf.GradientTape() as tape:
        tape.watch([joint, single])
        loss = losses.sla_distillation(joint, single, transforms=4, temperature=2.0)
    gradients = tape.gradient(loss, [joint, single])
    assert gradients[0] is None and np.any(gradients[1] != 0)
    same = losses.sla_aggregate(joint, transforms=4)
    assert value(losses.sla_distillation(joint, same, transforms=4)) == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("name", ["rotation", "rotation2", "color_perm", "rot_color_perm24"])
def test_transformations_are_those_of_numpy(name):
    batch = np.random.default_rng(0).normal(size=(3, 6, 6, 3)).astype("float32")
    layer = views.LabelAugmentation(name)
    made = np.asarray(layer(batch)).reshape(3, layer.count, 6, 6, 3)
    assert np.array_equal(made[:, 0], batch)
    for index, (turns, order) in enumerate(layer.members):
        wanted = np.rot90(batch, turns, axes=(1, 2))[..., list(order)]
        assert np.array_equal(made[:, index], wanted)
    assert len({copy.tobytes() for copy in made[0]}) == layer.count


def test_aggregated_inference_averages_over_the_transforms():
    model = build(models.SLA, SMALL[models.SLA])
    train(model, 1)
    batch = images(4)
    shown = model.views.preprocess(batch)
    logits = 0.0
    for turn in range(4):
        turned = tf.constant(np.rot90(np.asarray(shown), turn, axes=(1, 2)).copy())
        logits = logits + np.asarray(model.projector(model.encoder(turned)))[:, turn::4] / 4
    np.testing.assert_allclose(model.classify(batch, aggregate=True), logits, atol=1e-5)
    assert model.classify(batch).shape == (4, 4)


@pytest.mark.parametrize("cls", [models.Hydra, models.SLA], ids=lambda c: c.__name__)
def test_labels_are_needed(cls):
    model = build(cls, SMALL[cls])
    pictures, _ = batch_for(model)
    with pytest.raises(ValueError, match="uses labels but the data yields none"):
        model.fit(pictures, verbose=0)


@pytest.mark.parametrize(
    ("action", "message"),
    [
        (lambda: losses.simlap(np.ones((4, 2)), np.ones((4, 3)), [0] * 4, [0] * 4), "must be eq"),
        (
            lambda: losses.simlap(np.ones((4, 2)), np.ones((4, 2)), [0] * 3, [0] * 4),
            "one label per row",
        ),
        (lambda: losses.sla(np.ones((4, 6)), [0, 1, 1], transforms=2), "2 row"),
        (lambda: losses.classification(np.ones(4), [0, 1, 1, 0]), "expects logits"),
        (lambda: layers.PairGate(1, 4), "at least 2 classes"),
        (lambda: layers.PairGate(4, 4, combine="sum"), "combine is one of"),
        (lambda: views.LabelAugmentation("flips"), "transforms is one of"),
        (lambda: views.LabelAugmentation("rotation")(np.ones((1, 4, 6, 3))), "square"),
        (lambda: views.LabelAugmentation("color_perm")(np.ones((1, 4, 4, 1))), "three colour"),
        (lambda: models.SLA(smooth_encoder(), 4, views=light_views()), "single view"),
        (lambda: models.Hydra(smooth_encoder(), 4, views=one_view(), pairs="all"), "pairs is one"),
    ],
)
def test_mistakes_are_named(action, message):
    with pytest.raises(ValueError, match=message):
        action()
