# SPDX-License-Identifier: Apache-2.0
"""Masked models that learn from frozen teachers."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from model_test import images, small_transformer

from keras_ssl import backbones, layers, losses, masking, models
from keras_ssl.core import distribution

pytestmark = pytest.mark.usefixtures("without_graphs")

SEED = distribution.fixed_seed(3)


def two_blocks(**options):
    """A small transformer with a level for each of two."""
    return small_transformer(**{"depth": 2, **options})


def floats(rows=4):
    return images(rows).astype("float32") / 255.0


def everything(rows=4, tokens=16):
    """A plan that shows all tokens, in another order for every sample."""
    order = [np.random.default_rng(row).permutation(tokens) for row in range(rows)]
    return masking.plan_in_order(np.stack(order).astype("int32"), tokens)


def whitened(x, epsilon=1e-5):
    x = np.asarray(x, "float64")
    centred = x - x.mean(-1, keepdims=True)
    return centred / np.sqrt(x.var(-1, keepdims=True) + epsilon)


def smooth_l1(a, b, beta=1.0):
    d = np.abs(np.asarray(a, "float64") - b)
    return np.where(d < beta, 0.5 * d**2 / beta, d - 0.5 * beta).mean()


def values(network):
    return [np.asarray(v) for v in network.variables]


def assert_frozen(model, teacher, before):
    """A teacher's variables are the same bit for bit, and none of the optimizer's."""
    for old, new in zip(before, values(teacher), strict=True):
        assert np.array_equal(old, new)
    own = {id(v) for v in model.trainable_variables}
    assert not own & {id(v) for v in teacher.variables}


# --- MaskAlign ---


def mask_align(encoder=None, teacher=None, **options):
    options = {"views": None, "seed": 1, "levels": 2, **options}
    teacher = teacher or two_blocks(width=8, seed=7)
    return models.MaskAlign(encoder or two_blocks(), teacher, **options)


def with_plan(model, x, plan):
    """The views of a step with another plan than the one drawn."""
    levels = model.taught(model.target.outputs(x), plan)
    return {"inputs": x, "plan": plan, "levels": levels}


def alignment(model, x, plan):
    return float(model.compute_losses(with_plan(model, x, plan), False)["alignment"])


def test_a_student_that_is_its_teacher_is_aligned():
    encoder, x = two_blocks(kernel_initializer="glorot_uniform"), floats()
    model = mask_align(encoder, encoder, head="norm_linear")
    plan = everything()
    apart = alignment(model, x, plan)
    for head in model.alignment.heads:
        # As the whitening of the teacher.
        head.layers[0].epsilon = 1e-5
        head.layers[-1].kernel.assign(np.eye(12))
    mixed = alignment(model, x, plan)
    model.alignment.mixture.assign(np.eye(2))
    assert alignment(model, x, plan) < 1e-10 < 1e-6 < mixed < apart
    other = with_plan(model, x, plan) | {"plan": plan._replace(keep=plan.keep[:, ::-1])}
    assert float(model.compute_losses(other, False)["alignment"]) > 1e-3


def test_alignment_in_float64():
    model, x = mask_align(two_blocks(depth=3), two_blocks(depth=3, seed=7)), floats()
    model.alignment.mixture.assign(np.random.default_rng(0).normal(size=(2, 3)))
    views = model.make_views(x)
    keep = np.asarray(views["plan"].keep)
    assert keep.shape == (4, 4)
    states = [np.asarray(s, "float64") for s in model.encoder.hidden_states(x, views["plan"])]
    teacher = model.teacher.network.hidden_states(x, blocks=(2, 3))
    wanted = []
    for level, (row, head) in enumerate(
        zip(np.asarray(model.alignment.mixture, "float64"), model.alignment.heads, strict=True)
    ):
        mixed = sum(weight * state for weight, state in zip(row, states, strict=True))
        kernel, bias = (np.asarray(v, "float64") for v in head.weights)
        taught = np.take_along_axis(np.asarray(teacher[level])[:, 1:], keep[..., None], 1)
        taught = whitened(np.concatenate([np.asarray(teacher[level])[:, :1], taught], axis=1))
        wanted.append(2 * smooth_l1(mixed @ kernel + bias, taught))
    got = float(model.compute_losses(views, False)["alignment"])
    assert got == pytest.approx(np.mean(wanted), rel=1e-5)


def test_visible_patches_are_drawn_by_the_attention_of_the_teacher():
    encoder = two_blocks(positions="rotary", width=16, registers=1, seed=7)
    model, x = mask_align(teacher=encoder), floats(2)
    scores = model.importance(x, model.target.outputs(x))
    maps = np.asarray(encoder.attention_maps(x)).mean(1).reshape(2, 16)
    np.testing.assert_allclose(np.exp(scores), maps, rtol=1e-4)
    # Of 6000 draws the share in which a patch comes first is its share of the attention.
    many = np.repeat(np.log(np.arange(1.0, 17.0))[None], 6000, axis=0).astype("float32")
    plan = model.plan_for(np.repeat(x[:1], 6000, axis=0), model.encoder, SEED, scores=many)
    first = np.bincount(np.asarray(plan.keep)[:, 0], minlength=16) / 6000
    np.testing.assert_allclose(first, np.arange(1.0, 17.0) / 136, atol=0.015)


@pytest.mark.slow
def test_the_teacher_of_mask_align_stands_still():
    model, x = mask_align(), floats(8)
    before = values(model.teacher.network)
    norm = values(model.encoder.norm)
    model.compile(keras.optimizers.Adam(0.01, weight_decay=0.1))
    losses_seen = model.fit(x, batch_size=8, epochs=6, verbose=0).history["loss"]
    assert losses_seen[-1] < losses_seen[0]
    assert_frozen(model, model.teacher.network, before)
    # The last norm is nobody's: neither gradient nor decay move it.
    assert all(np.array_equal(a, b) for a, b in zip(norm, values(model.encoder.norm), strict=True))
    batch = tf.constant(x)
    with tf.GradientTape() as tape:
        tape.watch([v.value for v in model.teacher.network.weights])
        loss = model.compute_losses(model.make_views(batch), True)["alignment"]
    assert not any(tape.gradient(loss, [v.value for v in model.teacher.network.weights]))


def test_a_teacher_may_want_other_samples():
    x, network = floats(), two_blocks(seed=7)
    plain = mask_align(teacher=network)
    scaled = keras.Sequential([keras.Input((16, 16, 3)), keras.layers.Rescaling(3.0), network])
    model = mask_align(teacher=scaled)
    plan = everything()
    found = model.taught(model.target.outputs(x), plan)
    for mine, want in zip(found, plain.taught(plain.target.outputs(3 * x), plan), strict=True):
        np.testing.assert_allclose(mine, want, atol=1e-5)
    np.testing.assert_allclose(model.target.attention(x), plain.target.attention(3 * x), atol=1e-6)
    half = backbones.VisionTransformer("tiny", (8, 8, 3), 2, width=8, depth=2, heads=2)
    small = keras.Sequential([keras.Input((16, 16, 3)), keras.layers.Resizing(8, 8), half])
    assert np.isfinite(alignment(mask_align(teacher=small), x, plan))


def test_teachers_of_any_depth_and_tokens_in_front():
    x, plan = floats(), everything()
    deep = two_blocks(depth=3, registers=2, seed=7)
    model = mask_align(teacher=deep, fusion="mean", levels=3, head="mlp")
    assert model.alignment.mixture.shape == (3, 2)
    assert model.taught(model.target.outputs(x), plan)[0].shape == (4, 17, 12)
    bare = two_blocks(depth=3, class_token=False, pooling="mean", seed=7)
    model = mask_align(teacher=bare, fusion="mean", masking=masking.RandomMasking(0.5))
    assert model.taught(model.target.outputs(x), plan)[0].shape == (4, 16, 12)
    assert np.isfinite(alignment(model, x, plan))


def test_tokens_that_are_gathered_but_hidden_do_not_count():
    model, x = mask_align(), floats()
    few, many = (masking.plan_in_order(everything().keep, n) for n in (5, 9))
    ignored = many._replace(mask=few.mask, shown=np.arange(9)[None] < 5 + np.zeros((4, 1), "int32"))
    assert alignment(model, x, ignored) == pytest.approx(alignment(model, x, few), rel=1e-5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"teacher": two_blocks(depth=3)}, "has 3, the student 2"),
        ({"teacher": two_blocks(depth=3), "fusion": "none"}, "fusion='none' gives each"),
        ({"levels": 3}, "levels=3 is no number of the teacher's 2"),
        ({"teacher": keras.Sequential([keras.Input((16, 16, 3))])}, "made of blocks"),
        ({"teacher": two_blocks(class_token=False, pooling="mean")}, "no class token"),
        ({"fusion": "sum"}, "fusion in"),
        (
            {"teacher": backbones.VisionTransformer("tiny", (16, 16, 3), 8, depth=2)},
            r"has tokens \(2, 2\) .* grid is \(4, 4\)",
        ),
    ],
)
def test_teachers_that_do_not_fit_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        mask_align(**options)


def test_mixtures_start_at_each_levels_own_block():
    states = [np.full((2, 3, 4), float(n), "float32") for n in range(1, 4)]
    for fusion, want in (("linear", [2.06, 3.06]), ("mean", [2.0, 2.0]), ("none", [2.0, 3.0])):
        layer = layers.DynamicAlignment(4, 2, fusion)
        layer.build([(2, 3, 4)] * 3)
        for head in layer.heads:
            head.layers[-1].kernel.assign(np.eye(4))
        found = [float(np.asarray(x).mean()) for x in layer(states)]
        assert found == pytest.approx(want, rel=1e-5)
    with pytest.raises(ValueError, match="4 levels of a teacher have no block each"):
        layers.DynamicAlignment(4, 4).build([(2, 3, 4)] * 3)


# --- Hybrid Distillation ---


def hybrid(encoder=None, teacher=None, relation_teacher=None, **options):
    options = {"views": None, "seed": 1, **options}
    return models.HybridDistillation(
        encoder or small_transformer(depth=4),
        teacher or small_transformer(width=8, seed=7),
        relation_teacher or small_transformer(width=16, depth=4, seed=8),
        **options,
    )


def log_softmax(x):
    x = x - x.max(-1, keepdims=True)
    return x - np.log(np.exp(x).sum(-1, keepdims=True))


def relation_kl(students, teachers, heads, relations):
    """The divergence in float64; layers of `[queries, keys, values]`, each `(B, N, C)`."""
    found = []
    for student, teacher in zip(students, teachers, strict=True):
        for first, second in relations:
            logs = []
            for parts in (student, teacher):
                parts = [np.asarray(x, "float64") for x in parts]
                rows, tokens, width = parts[0].shape
                x, y = (
                    parts["qkv".index(n)].reshape(rows, tokens, heads, -1) for n in (first, second)
                )
                scores = np.einsum("bnhc,bmhc->bhnm", x, y) / np.sqrt(width / heads)
                logs.append(log_softmax(scores))
            mine, wanted = logs
            found.append((np.exp(wanted) * (wanted - mine)).sum(-1).mean())
    return np.mean(found)


def test_relations_in_float64():
    rng = np.random.default_rng(0)
    students, teachers = rng.normal(size=(2, 3, 4, 5, 6)), rng.normal(size=(2, 3, 4, 5, 12))
    for heads, relations in ((1, losses.token_relations.RELATIONS), (3, ("qk", "vv"))):
        want = relation_kl(students, teachers, heads, relations)
        got = losses.token_relation_kl(students, teachers, heads=heads, relations=relations)
        assert float(got) == pytest.approx(want, rel=1e-5)


def test_relations_do_not_change_when_all_parts_turn_together():
    rng = np.random.default_rng(0)
    students, teachers = rng.normal(size=(1, 3, 4, 5, 6)), rng.normal(size=(1, 3, 4, 5, 12))
    turn, _ = np.linalg.qr(rng.normal(size=(6, 6)))
    plain, turned = (
        float(losses.token_relation_kl(x, teachers, relations=("qk", "vv")))
        for x in (students, students @ turn)
    )
    assert plain == pytest.approx(turned, rel=1e-5) and plain > 0.1
    assert float(losses.token_relation_kl(students, students @ turn)) == pytest.approx(0, abs=1e-6)
    # Of two heads the first alone must not turn into the second.
    mixed = float(losses.token_relation_kl(students @ turn, teachers, heads=2))
    assert mixed != pytest.approx(float(losses.token_relation_kl(students, teachers, heads=2)))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"relations": ("qx",)}, "relations are some of"),
        ({"heads": 4}, "4 heads do not divide a width of 6"),
        ({"teachers": np.zeros((1, 3, 2, 4, 6))}, "the student has 5 and the teacher 4"),
        ({"teachers": np.zeros((2, 3, 2, 5, 6))}, "received 1 and 2"),
    ],
)
def test_relations_that_do_not_fit_are_named(change, message):
    tokens = np.zeros((1, 3, 2, 5, 6))
    arguments = {"students": tokens, "teachers": tokens, **change}
    with pytest.raises(ValueError, match=message):
        losses.token_relation_kl(arguments.pop("students"), arguments.pop("teachers"), **arguments)


def test_relations_of_queries_and_keys_are_the_attention():
    for options in ({}, {"positions": "rotary", "width": 16}):
        block = small_transformer(**options).blocks[0]
        width = options.get("width", 12)
        x = np.random.default_rng(0).normal(size=(2, 17, width)).astype("float32")
        angles = None
        if options:
            encoder = small_transformer(**options)
            angles = encoder.first_tokens(floats(2))[1]["angles"]
        query, key, _ = (np.asarray(p) for p in block.projections(x, angles))
        query, key = (p.reshape(2, 17, 2, -1) for p in (query, key))
        scores = np.einsum("bnhc,bmhc->bhnm", query, key) / np.sqrt(width / 2)
        want = np.exp(log_softmax(scores))
        np.testing.assert_allclose(block.attention_weights(x, angles=angles), want, atol=1e-6)


def test_a_student_that_is_both_teachers_has_nothing_to_learn():
    options = {"depth": 2, "kernel_initializer": "glorot_uniform"}
    encoder, turned = (small_transformer(seed=seed, **options) for seed in (0, 3))
    x = floats()
    identity = keras.layers.LayerNormalization(center=False, scale=False, epsilon=1e-5)
    options = {"head": identity, "relation_blocks": (1, 2)}
    model = hybrid(encoder, encoder, encoder, drop_before=(), **options)
    found = model.compute_losses(model.make_views(x), False)
    assert float(found["features"]) < 1e-9 and abs(float(found["relations"])) < 1e-6
    # Among fewer tokens even the same network relates them otherwise.
    dropping = hybrid(encoder, encoder, encoder, drop_before=(2,), **options)
    found = dropping.compute_losses(dropping.make_views(x), False)
    assert float(found["features"]) > 1e-9
    model = hybrid(encoder, turned, turned, drop_before=(), **options)
    found = model.compute_losses(model.make_views(x), False)
    assert float(found["features"]) > 0.01 and float(found["relations"]) > 0.01


def test_hybrid_distillation_in_float64():
    """All of it from the student's states and both teachers' outputs."""
    options = {"depth": 4, "kernel_initializer": "glorot_uniform"}
    encoder, x = small_transformer(**options), floats()
    teacher = small_transformer(width=8, seed=7, registers=1)
    related = small_transformer(width=16, seed=8, registers=2, **options)
    model = hybrid(
        encoder, teacher, related, relation_blocks=(1, 4), drop_before=(3, 4), alpha=0.5, beta=2.0
    )
    found = model.compute_losses(model.make_views(x), False)
    last, ids, relations = model.student(x)
    assert [part[1].shape for part in relations] == [(4, 16), (4, 7)] and ids.shape == (4, 7)
    states = np.asarray(encoder.hidden_states(x, blocks=(2,))[0], "float64")[:, 1:]
    unit = states / np.linalg.norm(states, axis=-1, keepdims=True)
    alike = np.einsum("bnc,bmc->bnm", unit, unit).mean(-1)
    assert set(np.argsort(alike[0])[:11]) >= set(np.asarray(ids)[0])

    def taken(x, front, which):
        x, which = np.asarray(x, "float64"), np.asarray(which)[..., None]
        return np.concatenate([x[:, :1], np.take_along_axis(x[:, front:], which, 1)], axis=1)

    kernel, bias = (np.asarray(v, "float64") for v in model.head.weights)
    wanted = whitened(taken(teacher.token_model()(x), 2, ids))
    want = 2 * smooth_l1(np.asarray(last, "float64") @ kernel + bias, wanted)
    assert float(found["features"]) == pytest.approx(want, rel=1e-5)
    parts = related.projections(x, (1, 4))
    wanted = [
        [taken(p, 3, which) for p in layer]
        for layer, (_, which) in zip(parts, relations, strict=True)
    ]
    want = 0.5 * relation_kl([p for p, _ in relations], wanted, 2, ("qk", "vv"))
    assert float(found["relations"]) == pytest.approx(want, rel=1e-4)


def test_without_alpha_features_alone_are_distilled():
    x = floats()
    plain, both = hybrid(alpha=0.0), hybrid()
    found = [m.compute_losses(m.make_views(x), False) for m in (plain, both)]
    assert float(found[0]["features"]) == float(found[1]["features"])
    assert float(found[0]["relations"]) == 0.0 < float(found[1]["relations"])
    # Not even computed.
    assert plain.make_views(x)["relations"] == [] and plain.student(x)[2] == []


def test_dropped_patches_no_longer_matter():
    for options in ({}, {"positions": "rotary", "width": 16, "registers": 1}):
        encoder, x = small_transformer(depth=4, **options), floats()
        tokens, blocks = encoder.first_tokens(x)
        front = encoder.prefix.count
        ids = np.stack([np.random.default_rng(row).permutation(16)[:6] for row in range(4)])
        some, few = encoder.keep_tokens(tokens, blocks, ids.astype("int32"))
        again = np.tile(np.array([[4, 1, 2]], "int32"), (4, 1))
        fewest, rest = encoder.keep_tokens(some, few, again)
        direct, known = encoder.keep_tokens(tokens, blocks, np.take_along_axis(ids, again, 1))
        assert fewest.shape[1] == front + 3 and np.array_equal(fewest, direct)
        for block in encoder.blocks:
            fewest, direct = block(fewest, **rest), block(direct, **known)
        np.testing.assert_allclose(fewest, direct, atol=1e-6)


def test_the_teachers_of_hybrid_distillation_stand_still():
    glorot = {"depth": 4, "kernel_initializer": "glorot_uniform"}
    related = small_transformer(width=16, seed=8, **glorot)
    model, x = hybrid(small_transformer(**glorot), relation_teacher=related), floats(8)
    networks = [model.teacher.network, model.relation_teacher.network]
    before = [values(network) for network in networks]
    model.compile(keras.optimizers.Adam(0.01))
    seen = model.fit(x, batch_size=8, epochs=6, verbose=0).history
    for term in model.loss_terms:
        assert seen[term][-1] < seen[term][0]
    for network, old in zip(networks, before, strict=True):
        assert_frozen(model, network, old)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"relation_blocks": (5,)}, "student .* has 4 blocks, and relations are wanted of .5,."),
        ({"relation_teacher": small_transformer()}, "relation teacher .* has 1 blocks"),
        ({"relation_teacher_blocks": (1, 2)}, "each learns from one of"),
        ({"relation_heads": 5}, "relation_heads=5 does not divide the student's width 12"),
        (
            {
                "relation_teacher": keras.Sequential(
                    [keras.Input((16, 16, 3)), keras.layers.AveragePooling2D(4)]
                )
            },
            "relation_teacher must be",
        ),
        ({"relations": ("kq", "xx")}, "relations are some of"),
        ({"drop_before": (5,)}, "drop_before=5 is no block of the student's 4"),
        ({"drop": 0.95}, "leaves no visible token"),
        (
            {"teacher": backbones.VisionTransformer("tiny", (16, 16, 3), 8, depth=1)},
            r"has tokens \(2, 2\) .* grid is \(4, 4\)",
        ),
    ],
)
def test_what_does_not_fit_hybrid_distillation_is_named(options, message):
    with pytest.raises(ValueError, match=message):
        hybrid(**options)
