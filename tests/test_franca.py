# SPDX-License-Identifier: Apache-2.0
"""Franca: nested levels, balanced teachers, who predicts whom, and its limits."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from model_test import (
    SMALL_RATE,
    build,
    check_jit,
    check_precision,
    check_replicas,
    images,
    light_views,
    small_transformer,
    smooth_encoder,
    train,
)

import keras_ssl
from keras_ssl import layers, losses, masking, models, views

pytestmark = pytest.mark.usefixtures("without_graphs")

SMALL = {
    "projector": (8,),
    "prototypes": 12,
    "levels": (6, 12),
    "momentum": 0.9,
    "freeze_steps": 0,
}
ALWAYS = {**SMALL, "masking": masking.InverseBlockMasking(probability=1.0)}
NEVER = {**SMALL, "masking": masking.InverseBlockMasking(probability=0.0)}


def normal(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype("float32")


def multi_crop(small=3):
    crop = views.Pipeline([views.RandomResizedCrop(8, area=(0.1, 0.4))])
    return views.MultiCrop([(light_views().first, 2), (crop, small)])


def made_by(model, rows=6):
    return model.make_views(tf.constant(images(rows)))


def entropies(targets, logits, temperature=0.1):
    """Cross-entropy of every row, in float64."""
    logits = np.asarray(logits, "float64") / temperature
    logits -= logits.max(axis=-1, keepdims=True)
    logs = logits - np.log(np.sum(np.exp(logits), axis=-1, keepdims=True))
    return -np.sum(np.asarray(targets, "float64") * logs, axis=-1)


def balanced(logits, temperature=0.07, turns=3):
    """Sinkhorn-Knopp as it is written down: prototypes, then samples, to equal mass."""
    found = np.exp(np.asarray(logits, "float64") / temperature)
    for _ in range(turns):
        found /= found.sum(axis=0, keepdims=True)
        found /= found.sum(axis=1, keepdims=True)
    return found


# --- the loss ----------------------------------------------------------------------------------


def levels_of(seed):
    return [[normal(4, k, seed=seed + v) for v in range(3)] for k in (3, 6)]


@pytest.mark.parametrize("pairs", ["different", "all", [(2, 0)]], ids=str)
@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_levels_add_up(pairs, reduction):
    students = levels_of(0)
    targets = [[np.asarray(tf.nn.softmax(x)) for x in level[:2]] for level in levels_of(5)]
    options = {"temperature": 0.3, "pairs": pairs, "reduction": reduction}
    parts = [
        float(losses.self_distillation(s, t, **options))
        for s, t in zip(students, targets, strict=True)
    ]
    both = float(losses.nested_distillation(students, targets, **options))
    assert both == pytest.approx(sum(parts), rel=1e-6)
    one = float(losses.nested_distillation(students[1:], targets[1:], **options))
    assert one == pytest.approx(parts[1], rel=1e-6) and parts[0] > 0.1


def test_no_gradient_reaches_the_targets_of_any_level():
    students = [[tf.constant(x) for x in level] for level in levels_of(0)]
    targets = [[tf.nn.softmax(x) for x in level[:2]] for level in levels_of(5)]
    with tf.GradientTape() as tape:
        tape.watch([students, targets])
        loss = losses.nested_distillation(students, targets)
    towards = tape.gradient(loss, [students, targets])
    assert all(np.abs(g).max() > 0 for level in towards[0] for g in level)
    assert all(g is None for level in towards[1] for g in level)


@pytest.mark.parametrize("wrong", [([], []), (1, 2), ("levels", 3), (None, None)], ids=str)
def test_unequal_levels_are_named(wrong):
    students = levels_of(0) if wrong[0] in (1, "levels") else wrong[0]
    targets = levels_of(0)[:1] if wrong[1] == 2 else wrong[1]
    with pytest.raises(ValueError, match="as many levels"):
        losses.nested_distillation(students, targets)


# --- heads -------------------------------------------------------------------------------------


def test_projections_that_are_slices_are_the_slices():
    options = {"prototypes": 16, "widths": (6, 5), "seed": 0}
    sliced = layers.NestedPrototypeHead((2, 8), **options)
    projected = layers.NestedPrototypeHead((2, 8), projected=True, **options)
    x = normal(3, 8)
    sliced(x), projected(x)
    for level, head in zip(projected.projections, projected.heads, strict=True):
        assert np.abs(level.kernel).max() > 0 and head.built
        level.kernel.assign(np.eye(8, level.units))
    for ours, theirs in zip(sliced(x), projected(x), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-6)


def test_one_level_of_all_features_is_a_plain_head():
    nested = layers.NestedPrototypeHead((8,), 16, (6, 5), seed=0)
    plain = layers.PrototypeHead(
        (6, 5), 16, normalize=False, trainable_gain=True, last_activation=True
    )
    x = normal(3, 8)
    nested(x), plain(x)
    plain.set_weights(nested.heads[0].get_weights())
    np.testing.assert_allclose(nested(x)[0], plain(x), atol=1e-6)


def test_a_narrow_level_gives_no_gradient_to_later_features():
    head, x = layers.NestedPrototypeHead((2, 4, 8), 16, (6, 5), seed=0), tf.constant(normal(3, 8))
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(x)
        sums = [tf.reduce_sum(level**2) for level in head(x)]
    for width, total in zip((2, 4, 8), sums, strict=True):
        reached = np.abs(np.asarray(tape.gradient(total, x))).max(axis=0) > 0
        assert reached.tolist() == [True] * width + [False] * (8 - width)


# --- the objective -----------------------------------------------------------------------------


@pytest.mark.parametrize("small", [0, 3])
def test_the_loss_is_the_papers(small):
    """DINOv2's terms, of local and of joint global crops, the masked patches and KoLeo."""
    crops = {"views": multi_crop(small)} if small else {}
    model = build(models.Franca, {**ALWAYS, **crops})
    made = made_by(model)
    found = model.compute_losses(made, training=False)
    crops, masks = made["views"], [np.asarray(m).reshape(6, 16) for m in made["masks"]]
    hidden = [
        model.masked_tokens([crop, tf.cast(mask, "float32")])
        for crop, mask in zip(crops[:2], made["masks"], strict=True)
    ]
    shown = [np.asarray(model.teacher_encoder(crop)) for crop in crops[:2]]
    features = [tokens[:, 0] for tokens in hidden]
    local = [model.student_network()(crop)[:, 0] for crop in crops[2:]]
    mask = np.concatenate(masks)
    terms = 2 * small + 2
    class_token = patches = 0.0
    for level in range(2):
        both = np.concatenate([model.teacher_projector(x[:, 0])[level] for x in shown])
        targets = np.split(balanced(both), 2)
        for feature in local:
            logits = model.projector(feature)[level]
            class_token += sum(entropies(t, logits).mean() for t in targets) / terms
        logits = np.concatenate([model.projector(x)[level] for x in features])
        swapped = np.concatenate(targets[::-1])
        class_token += entropies(swapped, logits).mean() * 2 / terms
        # Only masked patches enter the balance.
        student = np.concatenate([model.patch_projector(x[:, 1:])[level] for x in hidden])[mask]
        teacher = [model.teacher_patch_projector(x[:, 1:])[level] for x in shown]
        entropy = entropies(balanced(np.concatenate(teacher)[mask]), student)
        weights = 1 / mask.sum(axis=1).repeat(mask.sum(axis=1))
        patches += np.sum(weights * entropy) / len(mask)
    assert float(found["class_token"]) == pytest.approx(class_token, rel=1e-4)
    assert float(found["patches"]) == pytest.approx(patches, rel=1e-4)
    spread = 0.1 * sum(float(losses.koleo(feature)) for feature in features)
    assert float(found["koleo"]) == pytest.approx(spread, rel=1e-4)
    # What is watched are the prototypes of the widest level.
    widest = balanced(model.teacher_projector(shown[0][:, 0])[1])
    np.testing.assert_allclose(model.prototype_probabilities(crops[0]), widest, atol=1e-5)


@pytest.mark.slow
def test_small_crops_train():
    model = build(models.Franca, {**SMALL, "views": multi_crop()})
    assert np.isfinite(train(model, 1)[0]["loss"])
    by_level = model.project_views(made_by(model)["views"])
    assert [len(level) for level in by_level] == [5, 5]
    assert [tuple(level[0].shape) for level in by_level] == [(6, 6), (6, 12)]


def test_one_level_is_dinov2s_objective():
    kwargs = {**ALWAYS, "levels": (12,), "masking": masking.BlockMasking((0.1, 0.5), 1.0)}
    model = build(models.Franca, {**kwargs, "normalize": True})
    assert model.projector.heads[0].normalize and model.patch_projector.heads[0].normalize
    made = made_by(model)
    found = model.compute_losses(made, training=False)
    students, both = [], []
    for crop, mask in zip(made["views"], made["masks"], strict=True):
        hidden = model.masked_tokens([crop, tf.cast(mask, "float32")])
        students.append(model.projector.heads[0](hidden[:, 0]))
        both.append(model.teacher_projector.network.heads[0](model.teacher_encoder(crop)[:, 0]))
    targets = tf.split(balanced(tf.concat(both, 0)), 2)
    want = losses.self_distillation(students, targets)
    assert float(found["class_token"]) == pytest.approx(float(want), rel=1e-4)


def test_prototypes_of_every_level_share_the_teachers_batch():
    model = build(models.Franca, {**SMALL, "sinkhorn_iterations": 50})
    crops = [tf.constant(normal(32, 16, 16, 3, seed=seed)) for seed in (0, 1)]
    for level in model.target_projections(crops):
        # Far from even before.
        logits = 3.0 * (tf.concat(level, 0) + np.linspace(0, 0.2, level[0].shape[1]))
        found = np.asarray(model.balanced(logits))
        np.testing.assert_allclose(found.sum(axis=1), 1.0, rtol=1e-4)
        np.testing.assert_allclose(found.sum(axis=0), 64 / found.shape[1], rtol=0.05)
        assert np.asarray(tf.nn.softmax(logits / 0.07)).sum(axis=0).std() > 1.0


def test_without_masks_the_patches_add_nothing():
    model = build(models.Franca, NEVER)
    made = made_by(model)
    with tf.GradientTape() as tape:
        found = model.compute_losses(made, training=True)
        total = sum(found.values())
    gradients = tape.gradient(total, model.trainable_variables)
    assert float(found["patches"]) == 0.0 and float(found["class_token"]) > 0.1
    assert all(np.all(np.isfinite(g)) for g in gradients if g is not None)
    assert all(np.isfinite(v) for v in train(model, 2)[-1].values())


def test_room_for_more_masked_patches_changes_nothing():
    made, found = None, []
    for most in (0.65, 1.0):
        model = build(models.Franca, {**SMALL, "masking": masking.InverseBlockMasking((0.1, most))})
        made = made or made_by(model)
        found.append(model.compute_losses(made, training=False))
    for name, value in found[0].items():
        assert float(value) == pytest.approx(float(found[1][name]), rel=1e-5), name
    assert float(found[0]["patches"]) > 0


def test_permuting_the_batch_changes_nothing():
    model = build(models.Franca, ALWAYS)
    made = made_by(model, 16)
    order = np.random.default_rng(0).permutation(16)
    moved = {name: [tf.gather(x, order) for x in parts] for name, parts in made.items()}
    first, second = (model.compute_losses(x, training=False) for x in (made, moved))
    for name in first:
        assert float(first[name]) == pytest.approx(float(second[name]), rel=1e-4), name


def test_the_student_learns_and_the_teacher_follows():
    model = build(models.Franca, ALWAYS)
    with tf.GradientTape() as tape:
        total = sum(model.compute_losses(made_by(model), training=True).values())
    teachers = [teacher for teacher, _ in model.teachers()]
    assert len(teachers) == 3
    frozen = [v for teacher in teachers for v in teacher.network.variables]
    assert all(g is None for g in tape.gradient(total, [v.value for v in frozen]))
    start = [np.array(v) for v in frozen]
    train(model, 1)
    students = [v for _, student in model.teachers() for v in student.variables]
    for before, mine, theirs in zip(start, frozen, students, strict=True):
        np.testing.assert_allclose(mine, 0.9 * before + 0.1 * np.array(theirs), atol=1e-6)


@pytest.mark.slow
def test_prototypes_of_both_heads_stand_still_at_first():
    model = build(models.Franca, {**ALWAYS, "freeze_steps": 1})
    lasts = [h.last for head in (model.projector, model.patch_projector) for h in head.heads]
    start = [np.array(last.direction) for last in lasts]
    train(model, 1)
    assert all(np.array_equal(a, b.direction) for a, b in zip(start, lasts, strict=True))
    train(model, 1, first=1)
    assert not any(np.array_equal(a, b.direction) for a, b in zip(start, lasts, strict=True))


@pytest.mark.slow
def test_a_given_head_serves_class_tokens_and_patches():
    head = layers.NestedPrototypeHead((4, 12), 9, (8,), normalize=True, seed=0)
    model = build(models.Franca, {**ALWAYS, "projector": head, "levels": None})
    assert model.levels == (4, 12) and model.prototypes == 9 and model.patch_projector is None
    assert np.isfinite(train(model, 1)[0]["loss"])


@pytest.mark.slow
def test_projected_heads_are_saved_with_the_model(tmp_path):
    model = build(models.Franca, {**ALWAYS, "projected": True})
    train(model, 1)
    assert len(model.projector.projections) == 2
    model.save(tmp_path / "model.keras")
    loaded = keras_ssl.load_model(tmp_path / "model.keras")
    assert loaded.projected and loaded.levels == (6, 12)
    assert not set(loaded.get_config()) & {"center_momentum", "patch_temperature"}
    view = made_by(model)["views"][0]
    got, want = (m.prototype_probabilities(view) for m in (loaded, model))
    np.testing.assert_allclose(got, want, atol=1e-6)


def test_the_usual_levels_are_the_papers():
    model = build(models.Franca, {"projector": (8,), "prototypes": 24})
    # 12 / 16 is no width.
    assert model.levels == (1, 3, 6, 12)
    encoder = small_transformer(width=32)
    model = build(models.Franca, {"projector": (8,), "prototypes": 64}, encoder=encoder)
    assert model.levels == (2, 4, 8, 16, 32)
    assert [head.prototypes for head in model.projector.heads] == [4, 8, 16, 32, 64]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"levels": (6, 10)}, "does not end in its width"),
        ({"levels": (12, 6)}, "rising"),
        ({"levels": (2, 12), "prototypes": 8}, "at least|2 at the narrowest"),
        ({"projector": keras.layers.Dense(3)}, "NestedPrototypeHead"),
        ({"center_momentum": 0.9}, "has no center_momentum"),
        ({"patch_temperature": 0.04}, "has no patch_temperature"),
    ],
)
def test_mistakes_are_named(wrong, message):
    with pytest.raises(ValueError, match=message):
        build(models.Franca, {**SMALL, **wrong})


def test_an_encoder_without_class_token_is_refused():
    for encoder in (smooth_encoder(), small_transformer(class_token=False)):
        with pytest.raises(ValueError, match="class_token=True"):
            build(models.Franca, SMALL, encoder=encoder)


@pytest.mark.slow
def test_balance_and_patches_are_those_of_all_replicas():
    # KoLeo is each device's own, as released. With cold temperatures rounding errors grow.
    soft = {"student_temperature": 0.5, "teacher_temperature": 0.2}
    check_replicas(models.Franca, {**SMALL, **soft, "term_weights": (1.0, 1.0, 0.0)})


@pytest.mark.slow
def test_compilation_and_half_precision():
    plain = train(build(models.Franca, SMALL, rate=SMALL_RATE), 2)
    check_jit(models.Franca, SMALL, plain)
    for dtype in ("mixed_bfloat16", "mixed_float16"):
        check_precision(models.Franca, SMALL, dtype, plain)
