# SPDX-License-Identifier: Apache-2.0
"""MMC: three terms, each its parent's, and the whole in NumPy."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from model_test import build, images, light_views, small_transformer, train
from scipy.special import log_softmax, softmax

from keras_ssl import callbacks, losses, masking, models, tokens
from keras_ssl.views import MultiCrop

HEADS = {"projector": (16, 8), "predictor": (16, 8), "patch_projector": (8,), "prototypes": 12}
SMALL = {**HEADS, "momentum": 0.9, "freeze_steps": 0}
ALWAYS = {**SMALL, "masking": masking.BlockMasking((0.2, 0.6), 1.0)}
NEVER = {**SMALL, "masking": masking.BlockMasking(probability=0.0)}


def seen_by(model, rows=6):
    return model.make_views(tf.constant(images(rows)))


def moved(kwargs, **options):
    """A model whose mask token, decoder, centre and teacher are not as they start."""
    model = build(models.MMC, kwargs, **options)
    rng = np.random.default_rng(3)
    for weight in model.weights:
        if weight.dtype == "float32" and not weight.path.endswith(("variance", "batches")):
            weight.assign_add(0.1 * rng.normal(size=weight.shape))
    return model


# --- each term is its parent's ----------------------------------------------------------------


def test_patches_are_ibots():
    model = moved(ALWAYS)
    others = {name: value for name, value in ALWAYS.items() if name != "predictor"}
    parent = build(models.IBOT, {**others, "projector": (8,)})
    for mine, theirs in [
        (model.masked_tokens, parent.masked_tokens),
        (model.patch_projector, parent.patch_projector),
        (model.teacher_encoder, parent.teacher_encoder),
        (model.teacher_patch_projector, parent.teacher_patch_projector),
        (model.patch_center, parent.patch_center),
    ]:
        theirs.set_weights(mine.get_weights())
    made = seen_by(model)
    want = parent.compute_losses(made, training=False)["patches"]
    found = model.compute_losses(made, training=False)["patches"]
    assert float(found) == pytest.approx(float(want), rel=1e-5)
    for either in (model, parent):
        either.compute_losses(made, training=True)
        either.patch_center.move()
    assert np.any(model.patch_center.value != 0)
    np.testing.assert_allclose(model.patch_center.value, parent.patch_center.value, atol=1e-6)


def test_class_tokens_without_masks_are_moco_v3s():
    model = moved(NEVER)
    heads = {name: getattr(model, name) for name in ("projector", "predictor")}
    parent = build(
        models.MoCoV3, {**heads, "temperature": 0.2}, encoder=small_transformer(name="other")
    )
    parent.encoder.set_weights(model.encoder.get_weights())
    teacher = model.teacher_encoder.network.get_weights()
    parent.teacher_encoder.network.set_weights(teacher)
    parent.teacher_projector.set_weights(model.teacher_projector.get_weights())
    made = seen_by(model)
    want = parent.compute_losses(made["views"], training=True)["info_nce"]
    found = model.compute_losses(made, training=True)["info_nce"]
    assert float(found) == pytest.approx(float(want), rel=1e-4)


def test_pixels_are_simmims():
    model = moved(ALWAYS)
    made = seen_by(model)
    total = covered = 0.0
    for view, mask in zip(made["views"], made["masks"], strict=True):
        hidden = model.masked_tokens([view, tf.cast(mask, "float32")])[:, 1:]
        grid = tf.reshape(model.decoder(hidden), (6, 4, 4, -1))
        errors = np.abs(np.asarray(tokens.unpatchify(grid, (4, 4))) - np.asarray(view))
        pixels = np.repeat(np.repeat(np.asarray(mask), 4, 1), 4, 2)[..., None]
        total, covered = total + np.sum(errors * pixels), covered + np.sum(pixels)
    found = model.compute_losses(made, training=False)["pixels"]
    assert float(found) == pytest.approx(total / (covered + 1e-5) / 3, rel=1e-4)


# --- the whole in float64 NumPy ---------------------------------------------------------------


def mlp(x, layer):
    """Linear maps, batch norms of batch statistics and activations, from the weights."""
    for part in layer.blocks:
        if isinstance(part, keras.layers.Dense):
            x = x @ np.asarray(part.kernel, "float64")
            x = x + (np.asarray(part.bias, "float64") if part.use_bias else 0.0)
        elif isinstance(part, keras.layers.BatchNormalization):
            x = (x - x.mean(0)) / np.sqrt(x.var(0) + part.epsilon)
            x = x * np.asarray(part.gamma) if part.scale else x
            x = x + np.asarray(part.beta) if part.center else x
        else:
            assert part.activation is keras.activations.relu
            x = np.maximum(x, 0.0)
    return x


def unit(x, axis=-1):
    return x / np.linalg.norm(x, axis=axis, keepdims=True)


def logits(x, head):
    assert len(head.widths) == 1, "a deeper head has GELUs"
    kernel = unit(np.asarray(head.last.direction, "float64"), 0) * np.asarray(head.last.gain)
    return unit(mlp(x, head.mlp)) @ kernel


def test_the_whole_is_its_numpy_form():
    # Class tokens of one block are so alike that batch norm makes much of float32's rounding.
    options = {"encoder": small_transformer(depth=2)}
    model = moved({**ALWAYS, "term_weights": (0.5, 2.0, 3.0), "patch_temperature": 0.07}, **options)
    made = seen_by(model)
    center = np.array(model.patch_center.value)
    found = model.compute_losses(made, training=True)
    queries, keys, pixels, patches = [], [], [], []
    for view, mask in zip(made["views"], made["masks"], strict=True):
        hidden = np.asarray(model.masked_tokens([view, tf.cast(mask, "float32")]), "float64")
        shown = np.asarray(model.teacher_encoder(view), "float64")
        queries.append(unit(mlp(mlp(hidden[:, 0], model.projector), model.predictor)))
        keys.append(unit(mlp(shown[:, 0], model.teacher_projector.network)))
        drawn = hidden[:, 1:] @ np.asarray(model.decoder.kernel) + np.asarray(model.decoder.bias)
        cut = np.asarray(view).reshape(6, 4, 4, 4, 4, 3).transpose(0, 1, 3, 2, 4, 5)
        student = log_softmax(logits(hidden[:, 1:], model.patch_projector) / 0.1, axis=-1)
        target = logits(shown[:, 1:], model.teacher_patch_projector.network) - center
        entropy = -np.sum(softmax(target / 0.07, axis=-1) * student, axis=-1)
        for row, where in enumerate(np.asarray(mask).reshape(6, 16)):
            pixels += list(np.abs(drawn[row] - cut[row].reshape(16, 48))[where].reshape(-1))
            patches.append(entropy[row][where].mean() if where.any() else 0.0)
    pairs = (queries[0], keys[1]), (queries[1], keys[0])
    contrast = [-np.mean(np.diag(log_softmax(q @ k.T / 0.2, axis=1))) for q, k in pairs]
    want = {"pixels": 0.5 * np.mean(pixels), "patches": 2.0 * np.mean(patches)}
    want["info_nce"] = 3.0 * 2 * 0.2 * sum(contrast)
    for name, value in want.items():
        assert float(found[name]) == pytest.approx(value, rel=1e-4), name


# --- who sees what, and what learns ----------------------------------------------------------


def test_the_student_does_not_see_what_is_masked():
    model = moved(ALWAYS)
    made = seen_by(model)
    for view, mask in enumerate(made["masks"]):
        pixels = np.repeat(np.repeat(np.asarray(mask), 4, 1), 4, 2)[..., None]
        other = dict(made, views=list(made["views"]))
        other["views"][view] = made["views"][view] + pixels.astype("float32")
        one, two = (m["views"][view] for m in (made, other))
        weight = tf.cast(mask, "float32")
        assert np.array_equal(
            model.masked_tokens([one, weight]), model.masked_tokens([two, weight])
        )
        assert not np.array_equal(model.teacher_encoder(one), model.teacher_encoder(two))
        # What it is asked changes.
        before, after = (model.compute_losses(m, training=False) for m in (made, other))
        assert all(float(before[name]) != float(after[name]) for name in model.loss_terms)


def test_without_masks_only_class_tokens_are_asked():
    model = build(models.MMC, NEVER)
    made = seen_by(model)
    with tf.GradientTape() as tape:
        found = model.compute_losses(made, training=True)
        total = sum(found.values())
    assert float(found["pixels"]) == float(found["patches"]) == 0.0
    assert float(found["info_nce"]) > 0.0
    gradients = tape.gradient(total, [v.value for v in model.trainable_variables])
    for variable, gradient in zip(model.trainable_variables, gradients, strict=True):
        assert gradient is None or np.all(np.isfinite(gradient)), variable.path


def test_gradients_reach_the_student_and_not_the_teacher():
    model = moved(ALWAYS)
    made = seen_by(model)
    teachers = [v for teacher, _ in model.teachers() for v in teacher.variables]
    with tf.GradientTape() as tape:
        tape.watch([v.value for v in teachers])
        total = sum(model.compute_losses(made, training=False).values())
    mine = [v.value for v in model.trainable_variables]
    into, past = tape.gradient(total, [mine, [v.value for v in teachers]])
    assert len(teachers) > 20 and all(gradient is None for gradient in past)
    for variable, gradient in zip(model.trainable_variables, into, strict=True):
        assert gradient is not None and np.any(gradient), variable.path
    followed = {id(student) for _, student in model.teachers()}
    assert id(model.predictor) not in followed and id(model.decoder) not in followed


@pytest.mark.slow
def test_teachers_follow_after_the_step():
    model = build(models.MMC, SMALL)
    pairs = model.teachers()
    assert len(pairs) == 3
    old = [np.array(teacher.network.weights[0]) for teacher, _ in pairs]
    train(model, 1)
    for (teacher, student), before in zip(pairs, old, strict=True):
        want = 0.9 * before + 0.1 * np.asarray(student.weights[0])
        np.testing.assert_allclose(teacher.network.weights[0], want, rtol=1e-5, atol=1e-6)


@pytest.mark.slow
def test_prototypes_are_those_of_patches():
    model = build(models.MMC, {**SMALL, "freeze_steps": 1})
    assert model.prototypes == model.get_config()["prototypes"] == 12
    direction = np.array(model.patch_projector.last.direction)
    train(model, 1)
    assert np.array_equal(model.patch_projector.last.direction, direction)
    train(model, 1, first=1)
    assert not np.array_equal(model.patch_projector.last.direction, direction)
    view = seen_by(model, 20)["views"][0]
    found = model.prototype_probabilities(view)
    # The second image shows its second patch, the 18th too.
    images = np.arange(20)
    shown = np.asarray(model.teacher_encoder(view))[images, 1 + images % 16]
    logits = model.teacher_patch_projector(tf.constant(shown))
    want = losses.centered_softmax(logits, model.patch_center.value, 0.04)
    assert found.shape == (20, 12)
    np.testing.assert_allclose(found, want, atol=1e-5)


@pytest.mark.slow
def test_batch_norms_of_the_heads_see_all_replicas():
    logs, moving = [], []
    for replicas in (1, 2):
        model = build(models.MMC, SMALL, replicas=replicas)
        logs.append(train(model, 1)[0])
        moving.append([np.array(v) for v in model.weights if "moving_variance" in v.path])
    # Rounding errors are blown up by batch norms: class tokens differ by hundredths only.
    assert logs[0] == pytest.approx(logs[1], rel=1e-3)
    assert len(moving[0]) == 4 + 2
    for one, two in zip(*moving, strict=True):
        np.testing.assert_allclose(one, two, rtol=1e-3)


@pytest.mark.slow
def test_registers_and_other_pooling():
    encoder = small_transformer(registers=2, pooling="mean")
    model = build(models.MMC, SMALL, encoder=encoder)
    assert np.isfinite(train(model, 1)[0]["loss"])
    monitor = callbacks.RepresentationMonitor(images(16))
    model.fit(images(16), batch_size=16, verbose=0, callbacks=[monitor])
    assert len(monitor.assignments) == 2


def test_other_than_two_views_are_refused():
    with pytest.raises(ValueError, match="exactly two views"):
        build(models.MMC, {**SMALL, "views": MultiCrop([(light_views().first, 3)])})
    with pytest.raises(ValueError, match="class_token=True"):
        build(models.MMC, SMALL, encoder=small_transformer(class_token=False))


# --- pixels ------------------------------------------------------------------------------------


def test_l1_of_known_errors():
    mask = np.array([[1, 0], [1, 1], [0, 0]])
    errors = np.array([[1.0, 9.0], [2.0, 6.0], [9.0, 9.0]])[..., None] * np.ones(5)
    x = np.random.default_rng(0).normal(size=(3, 2, 5))
    # Tokens weigh alike, not images.
    assert float(losses.token_error(x - errors, x, mask, "l1")) == pytest.approx(3.0, rel=1e-6)
    assert float(losses.token_error(x + 1, x, 0 * mask, "l1")) == 0.0
    with pytest.raises(ValueError, match="token_error of kind .l1. expects"):
        losses.token_error(x, x[:, :, :4], mask, "l1")
    with pytest.raises(ValueError, match="token_error of kind .l1. expects"):
        losses.token_error(x, x, mask[:, :1], "l1")
