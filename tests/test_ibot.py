# SPDX-License-Identifier: Apache-2.0
"""iBOT: what is masked, who sees it, and what it is compared with."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from model_test import build, images, light_views, small_transformer, smooth_encoder, train

from keras_ssl import losses, masking, models, views

SMALL = {"projector": (8,), "prototypes": 12, "momentum": 0.9, "freeze_steps": 0}


def seen_by(model, rows=6):
    return model.make_views(tf.constant(images(rows)))


def test_large_crops_are_masked_each_in_its_own_way():
    model = build(models.IBOT, {**SMALL, "masking": masking.BlockMasking(probability=1.0)})
    made = seen_by(model)
    first, second = (np.asarray(mask) for mask in made["masks"])
    assert first.shape == (6, 4, 4) and first.any() and not np.array_equal(first, second)
    again = seen_by(model)["masks"][0]
    assert not np.array_equal(first, again)


def test_the_losses_are_dinos_and_that_of_masked_patches():
    options = {"masking": masking.BlockMasking(probability=1.0), "patch_temperature": 0.06}
    model = build(models.IBOT, {**SMALL, **options})
    made = seen_by(model)
    # Centres of two kinds, so that none stands for the other.
    centers = np.random.default_rng(0).normal(0.0, 0.02, (2, 12)).astype("float32")
    model.center.value.assign(centers[0])
    model.patch_center.value.assign(centers[1])
    found = model.compute_losses(made, training=False)
    students, patches, teachers, targets = [], [], [], []
    for crop, mask in zip(made["views"], made["masks"], strict=True):
        hidden = model.masked_tokens([crop, tf.cast(mask, "float32")])
        shown = model.teacher_encoder(crop)
        students.append(model.projector(hidden[:, 0]))
        patches.append(model.projector(hidden[:, 1:]))
        teachers.append(model.teacher_projector(shown[:, 0]))
        targets.append(model.teacher_projector(shown[:, 1:]))
    want = losses.dino(students, teachers, centers[0])
    assert float(found["class_token"]) == pytest.approx(float(want), rel=1e-4)
    parts = []
    for student, target, mask in zip(patches, targets, made["masks"], strict=True):
        p = tf.nn.softmax((target - centers[1]) / 0.06)
        entropy = -np.sum(p * tf.nn.log_softmax(student / 0.1), axis=-1)
        flat = np.asarray(mask).reshape(6, 16)
        rows = zip(entropy, flat, strict=True)
        parts += [row[hidden].mean() if hidden.any() else 0 for row, hidden in rows]
    assert float(found["patches"]) == pytest.approx(np.mean(parts), rel=1e-4)


def test_without_masks_the_patches_add_nothing_and_the_rest_is_dino():
    never = masking.BlockMasking(probability=0.0)
    model = build(models.IBOT, {**SMALL, "masking": never})
    made = seen_by(model)
    found = model.compute_losses(made, training=False)
    assert float(found["patches"]) == 0.0
    plain = build(models.DINO, SMALL, encoder=small_transformer())
    want = plain.compute_losses(made["views"], training=False)["dino"]
    assert float(found["class_token"]) == pytest.approx(float(want), rel=1e-5)


def test_the_student_does_not_see_what_is_masked():
    model = build(models.IBOT, SMALL)
    crop = np.asarray(seen_by(model)["views"][0])
    mask = np.zeros((6, 4, 4), "float32")
    mask[:, 1, 1] = 1
    other = crop.copy()
    other[:, 4:8, 4:8] += 1
    assert np.array_equal(model.masked_tokens([crop, mask]), model.masked_tokens([other, mask]))
    assert not np.array_equal(model.teacher_encoder(crop), model.teacher_encoder(other))


def test_both_centres_follow_their_own_logits():
    model = build(models.IBOT, {**SMALL, "center_momentum": 0.0, "patch_center_momentum": 0.0})
    made = seen_by(model)
    model.compute_losses(made, training=True)
    shown = model.teacher_encoder(tf.concat(made["views"], 0), training=True)
    model.center.move()
    model.patch_center.move()
    # All patches, not the masked ones alone.
    want = np.mean(model.teacher_projector(shown[:, 1:]), axis=(0, 1))
    np.testing.assert_allclose(model.patch_center.value, want, atol=1e-5)
    want = np.mean(model.teacher_projector(shown[:, 0]), axis=0)
    np.testing.assert_allclose(model.center.value, want, atol=1e-5)


def test_a_head_of_its_own_for_patches_trains_and_is_followed():
    model = build(models.IBOT, {**SMALL, "patch_projector": (6,), "freeze_steps": 1})
    start = np.array(model.patch_projector.trainable_variables[0])
    prototypes = np.array(model.patch_projector.last.direction)
    train(model, 1)
    # They stand still for the first step, as those of class tokens do.
    assert np.array_equal(model.patch_projector.last.direction, prototypes)
    train(model, 1, first=1)
    assert not np.array_equal(model.patch_projector.last.direction, prototypes)
    assert not np.array_equal(model.patch_projector.trainable_variables[0], start)
    teacher = model.teacher_patch_projector.network.weights[0]
    assert not np.array_equal(teacher, start)


@pytest.mark.slow
def test_small_crops_and_any_pooling():
    small = views.Pipeline([views.RandomResizedCrop(8, area=(0.1, 0.4))])
    crops = views.MultiCrop([(light_views().first, 2), (small, 2)])
    model = build(models.IBOT, {**SMALL, "views": crops}, encoder=small_transformer(pooling="mean"))
    assert np.isfinite(train(model, 1)[0]["loss"])
    view = seen_by(model)["views"][3]
    tokens = model.student_network()(view)
    np.testing.assert_allclose(model.encode_views([view])[0], tokens[:, 0], atol=1e-6)
    assert model.predict(images(4), verbose=0).shape == (4, 12)


def test_an_encoder_without_tokens_is_refused():
    with pytest.raises(ValueError, match="class_token=True"):
        build(models.IBOT, SMALL, encoder=smooth_encoder())
    with pytest.raises(ValueError, match="class_token=True"):
        build(models.IBOT, SMALL, encoder=small_transformer(class_token=False))


def test_it_waits_for_the_optimizer_under_accumulation():
    optimizer = keras.optimizers.SGD(0.1, gradient_accumulation_steps=2)
    model = build(models.IBOT, SMALL, optimizer=optimizer)
    train(model, 1)
    assert not np.any(model.patch_center.value)
    train(model, 1, first=1)
    assert np.any(model.patch_center.value)
