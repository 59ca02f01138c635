# SPDX-License-Identifier: Apache-2.0
"""SiT: what its parts are equal to alone, what reaches the teacher, and the turns."""

import numpy as np
import pytest
import tensorflow as tf
from model_test import images, light_views, one_view, small_transformer, train

from keras_ssl import layers, masking, models, views

CLEAN = {"share": 0.0, "alien_share": 0.0}


def head(batch_norm=False):
    last = "plain" if batch_norm else False
    return layers.MLP((16, 8), batch_norm=batch_norm, last_batch_norm=last, seed=2)


def sit(**options):
    registers = 1 if options.get("rotation_weight") else 0
    defaults = {"projector": head(), "views": light_views(), "seed": 0}
    return models.SiT(small_transformer(registers=registers), **{**defaults, **options})


def test_without_corruption_and_reconstruction_it_is_moco_v3_without_predictor():
    model = sit(masking=masking.GroupCorruption(**CLEAN), reconstruction_weight=0.0)
    moco = models.MoCoV3(
        small_transformer(), head(), None, temperature=0.2, views=light_views(), seed=0
    )
    made = model.make_views(images(8))
    assert np.array_equal(made["inputs"], made["corrupted"]) and not np.any(made["mask"])
    for training in (False, True):
        gradients = []
        for one, seen in ((model, made), (moco, tf.split(made["inputs"], 2))):
            with tf.GradientTape() as tape:
                terms = one.compute_losses(seen, training)
                loss = sum(terms.values())
            variables = [v.value for v in (*one.encoder.weights, *one.projector.weights)]
            gradients.append([loss, *tape.gradient(loss, variables)])
            assert terms.get("reconstruction", 0.0) == 0.0
        for ours, theirs in zip(*gradients, strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-6)


def test_its_reconstruction_is_gmml_on_the_last_block():
    model = sit(reconstruction_weight=3.0)
    gmml = models.GMML(small_transformer(), blocks=(1,), views=None, seed=0)
    made = model.make_views(images(8))
    want = float(gmml.compute_losses(made, False)["reconstruction"])
    got = float(model.compute_losses(made, False)["reconstruction"])
    assert got == pytest.approx(3.0 * want, rel=1e-6)
    assert model.blocks == (1,) and model.masking.fill == "zeros"


def test_the_student_sees_corrupted_views_and_the_teacher_clean_ones():
    model = sit(projector=head(batch_norm=True))
    made = model.make_views(images(8))
    contrast = float(model.compute_losses(made, False)["contrast"])
    for name, place in (("inputs", "corrupted"), ("corrupted", "inputs")):
        other = {**made, place: made[name]}
        assert float(model.compute_losses(other, False)["contrast"]) != contrast
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(made)
        loss = model.compute_losses(made, True)["contrast"]
    assert tape.gradient(loss, made["inputs"]) is None
    assert np.any(tape.gradient(loss, made["corrupted"]))


def test_the_teacher_follows_after_the_step():
    model = sit(momentum=0.9, batch_norm="copy")
    model.compile("sgd")
    pairs = [(t.network.weights, s.weights) for t, s in model.teachers()]
    assert len(pairs) == 2
    old = [[np.asarray(v) for v in teacher] for teacher, _ in pairs]
    train(model, 1)
    for (teacher, student), before in zip(pairs, old, strict=True):
        for mine, theirs, previous in zip(teacher, student, before, strict=True):
            want = 0.9 * previous + 0.1 * np.asarray(theirs)
            np.testing.assert_allclose(np.asarray(mine), want, rtol=1e-5, atol=1e-7)
    assert not any("teacher" in v.path for v in model.trainable_variables)


@pytest.mark.slow
def test_the_rotation_says_how_views_were_turned():
    model, plain = sit(rotation_weight=0.5), sit()
    assert plain.loss_terms == ("reconstruction", "contrast")
    assert model.loss_terms == ("reconstruction", "contrast", "rotation")
    x = images(16)
    turned = model.make_views(x)
    turns = np.asarray(turned["turns"])
    assert set(turns) == {0, 1, 2, 3} and not np.array_equal(turns[:16], turns[16:])
    # Turned back by hand they are the views themselves: crops are drawn alike.
    back = [np.rot90(v, -t) for v, t in zip(np.asarray(turned["inputs"]), turns, strict=True)]
    np.testing.assert_allclose(back, plain.make_views(x)["inputs"], atol=1e-6)
    wrong = {**turned, "turns": (turns + 1) % 4}
    found = [model.compute_losses(seen, False) for seen in (turned, wrong)]
    assert float(found[0]["rotation"]) != float(found[1]["rotation"])
    assert float(found[0]["contrast"]) == float(found[1]["contrast"])


def test_quarter_turns_are_those_of_numpy():
    x = np.random.default_rng(0).normal(size=(4, 6, 6, 3)).astype("float32")
    got = np.asarray(views.quarter_turns(x, np.arange(4)))
    assert all(np.array_equal(got[k], np.rot90(x[k], k)) for k in range(4))
    with pytest.raises(ValueError, match="must be square"):
        views.quarter_turns(x[:, :4], np.arange(4))


@pytest.mark.parametrize(
    ("encoder", "options", "message"),
    [
        ({}, {"views": one_view()}, "exactly two views"),
        ({}, {"views": None}, "exactly two views"),
        ({"class_token": False}, {}, "class_token=True"),
        ({}, {"rotation_weight": 1.0}, "registers=1"),
    ],
)
def test_mistakes_are_named(encoder, options, message):
    options = {"views": light_views(), **options}
    with pytest.raises(ValueError, match=message):
        models.SiT(small_transformer(**encoder), projector=(8,), **options)
