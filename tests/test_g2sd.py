# SPDX-License-Identifier: Apache-2.0
"""G2SD: a small MAE learns from a large one, then a classifier from a fine-tuned one."""

import importlib

import keras
import numpy as np
import pytest
import tensorflow as tf
from model_test import small_transformer
from strategies import scope
from test_fine_tune import pictures, transformer, tune
from test_teacher_methods import (
    assert_frozen,
    everything,
    floats,
    log_softmax,
    smooth_l1,
    values,
    whitened,
)

from keras_ssl import backbones, evaluation, losses, masking, models, tokens
from keras_ssl.core import distribution
from keras_ssl.evaluation import _distilled, _fine_tune_model
from keras_ssl.optimizers import layer_decay_scales

pytestmark = pytest.mark.usefixtures("without_graphs")

SEED = distribution.fixed_seed(3)
GLOROT = {"kernel_initializer": "glorot_uniform"}


# --- the generic stage ---


def mae(seed=7, decoder=(16, 3, 2), **options):
    encoder = small_transformer(**{"width": 16, "seed": seed, **GLOROT, **options})
    return models.MAE(encoder, decoder=decoder, views=None, seed=seed)


def g2sd(encoder=None, teacher=None, **options):
    encoder = encoder or small_transformer(**GLOROT)
    settings = {"decoder": (12, 2, 2), "teacher_block": 2, "views": None, "seed": 1, **options}
    return models.G2SD(encoder, teacher or mae(), **settings)


def loss_of(model, x, plan):
    return float(model.compute_losses({"inputs": x, "plan": plan}, False)["features"])


def plan_of(model, x):
    return model.plan_for(x, model.encoder, SEED)


def test_a_student_that_is_its_teacher_has_nothing_to_learn():
    teacher, x = mae(), floats()
    whitening = keras.layers.LayerNormalization(center=False, scale=False, epsilon=1e-6)
    model = g2sd(teacher.encoder, teacher, decoder=(16, 2, 2), predictor=whitening)
    plan = plan_of(model, x)
    assert loss_of(model, x, plan) > 1e-2
    own = model.decoder
    for mine, theirs in zip(
        (own.embed, *own.blocks), (teacher.decoder.embed, *teacher.decoder.blocks), strict=False
    ):
        mine.set_weights(theirs.get_weights())
    own.mask_token.assign(teacher.decoder.mask_token)
    assert loss_of(model, x, plan) < 1e-12
    # The teacher goes one block too far.
    assert loss_of(g2sd(teacher.encoder, teacher, teacher_block=3), x, plan) > 1e-2


@pytest.mark.parametrize("supervise", ["all", "hidden"])
def test_the_generic_stage_in_float64(supervise):
    teacher, x = mae(registers=2), floats()
    model = g2sd(teacher=teacher, supervise=supervise)
    plan = plan_of(model, x)
    taught = teacher.decoder.hidden(teacher.encoder.encode(x, plan), plan, (4, 4), 2)
    mine = model.decoder.hidden(model.encoder.encode(x, plan), plan, (4, 4))
    assert taught.shape == (4, 3 + 16, 16) and mine.shape == (4, 1 + 16, 12)
    taught, mine = np.asarray(taught, "float64"), np.asarray(mine, "float64")
    # No registers; the kept patches stand in front of the hidden ones.
    taught = np.delete(taught, [1, 2], axis=1)
    first, last = (([*map(np.asarray, m.weights)]) for m in model.predictor.layers)
    inner = np.asarray(keras.ops.gelu(mine @ first[0] + first[1], approximate=False))
    mine = inner @ last[0] + last[1]
    skip = 5 if supervise == "hidden" else 0
    want = smooth_l1(mine[:, skip:], whitened(taught, 1e-6)[:, skip:], beta=2.0)
    assert loss_of(model, x, plan) == pytest.approx(want, rel=1e-5)


def test_both_see_the_same_patches():
    model, x = g2sd(), floats()
    plan = plan_of(model, x)
    hidden = np.asarray(tokens.spread(plan.mask, (4, 4), (4, 4)))
    noise = np.random.default_rng(0).uniform(size=x.shape).astype("float32")
    assert loss_of(model, np.where(hidden > 0, noise, x), plan) == loss_of(model, x, plan)
    assert loss_of(model, np.where(hidden > 0, x, noise), plan) != loss_of(model, x, plan)


def test_scheduled_masks_count_every_place_once():
    model, x = g2sd(), floats()
    few = masking.plan_in_order(everything().keep, 5)
    kept = masking.plan_in_order(everything().keep, 9)
    # Nine are gathered of which four are hidden; those and the others are asked for.
    asked = np.ones((4, 11), bool)
    same = kept._replace(
        mask=few.mask, decode=few.decode, shown=np.arange(9)[None] < 5 + np.zeros((4, 1), int)
    )
    same = same._replace(asked=asked, weight=asked.astype("float32"))
    assert loss_of(model, x, same) == pytest.approx(loss_of(model, x, few), rel=1e-5)


@pytest.mark.slow
def test_the_teacher_of_g2sd_stands_still():
    model, x = g2sd(), floats(8)
    before = [values(part.network) for part in model.teacher]
    model.compile(keras.optimizers.Adam(0.01))
    seen = model.fit(x, batch_size=8, epochs=8, verbose=0).history["loss"]
    assert seen[-1] < 0.9 * seen[0]
    for part, old in zip(model.teacher, before, strict=True):
        assert_frozen(model, part.network, old)


def test_a_decoder_may_stop_early_and_give_tokens():
    whole = tokens.TransformerDecoder(5, 12, 2, 2, seed=0)
    bare = tokens.TransformerDecoder(0, 12, 2, 2, seed=0)
    x = np.random.default_rng(0).normal(size=(4, 1 + 5, 8)).astype("float32")
    plan = masking.plan_in_order(everything().keep, 5)
    for decoder in (whole, bare):
        decoder.build(x.shape)
    states = whole.hidden(x, plan, (4, 4))
    np.testing.assert_allclose(
        whole(x, plan=plan, grid=(4, 4)), whole.head(whole.norm(states[:, 6:])), atol=1e-6
    )
    assert len(bare.weights) == len(whole.weights) - 4
    bare.embed.set_weights(whole.embed.get_weights())
    bare.mask_token.assign(whole.mask_token)
    np.testing.assert_allclose(bare(x, plan=plan, grid=(4, 4)), states[:, 6:], atol=1e-6)
    np.testing.assert_allclose(bare(x, plan=plan, grid=(4, 4), seen=True), states[:, 1:], atol=1e-6)
    assert not np.allclose(whole.hidden(x, plan, (4, 4), 1), states)
    with pytest.raises(ValueError, match="values and a depth of at least 0"):
        tokens.TransformerDecoder(-1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"teacher": small_transformer()}, "needs a trained MAE, or its .encoder, decoder."),
        ({"teacher": models.SimMIM(small_transformer(), unit=(4, 4), views=None)}, "needs a train"),
        ({"teacher_block": 4}, "teacher_block=4 is no block of the teacher's decoder, .* 3"),
        ({"supervise": "visible"}, "supervise must be one of"),
        ({"decoder": tokens.TransformerDecoder(7, 12, 1, 2)}, "predicts values=7"),
        ({"decoder": tokens.TransformerDecoder(0, 12, 1, 2, window=(2, 2))}, "student's decoder"),
        ({"decoder": tokens.CrossSelfDecoder(0, 12, 1, 2)}, "has a window or a memory"),
        (
            {
                "masking": masking.ScheduledMasking(
                    masking.RandomMasking(), (0.5, 0.1), least=0.25, most=0.75
                )
            },
            "this one replaces them",
        ),
    ],
)
def test_what_does_not_fit_g2sd_is_named(options, message):
    with pytest.raises(ValueError, match=message):
        g2sd(**options)


def test_a_teacher_of_another_grid_is_named():
    encoder = backbones.VisionTransformer("tiny", (16, 16, 3), 8, width=12, depth=1, heads=2)
    with pytest.raises(ValueError, match=r"a grid of \(2, 2\) .* the student one of \(4, 4\)"):
        g2sd(teacher=models.MAE(encoder, 0.5, (12, 2, 2), views=None))


# --- the specific stage ---


def probabilities(x):
    return np.exp(log_softmax(np.asarray(x, "float64")))


def test_hard_distillation_in_float64():
    rng = np.random.default_rng(0)
    own, imitation, taught = rng.normal(size=(3, 6, 4))
    labels = rng.dirichlet(np.ones(4), 6)
    smooth = 0.9 * labels + 0.1 / 4
    answers = np.eye(4)[taught.argmax(1)]
    wants = [-(y * log_softmax(x)).sum(1).mean() for y, x in ((smooth, own), (answers, imitation))]
    options = {"label_smoothing": 0.1}
    got = losses.hard_distillation(own, imitation, labels, taught, **options)
    assert float(got) == pytest.approx(np.mean(wants), rel=1e-5)
    got = losses.hard_distillation(own, imitation, labels, taught, share=0.25, **options)
    assert float(got) == pytest.approx(0.75 * wants[0] + 0.25 * wants[1], rel=1e-5)
    with pytest.raises(ValueError, match="teacher_logits"):
        losses.hard_distillation(own, imitation, labels, taught[:, :3])


@pytest.mark.parametrize("temperature", [1.0, 2.0])
def test_nkd_in_float64(temperature):
    rng = np.random.default_rng(0)
    student, taught = 3 * rng.normal(size=(2, 6, 4))
    labels = np.arange(6) % 4
    s, t = probabilities(student), probabilities(taught)
    want = []
    for row, label in enumerate(labels):
        others = np.arange(4) != label
        a, b = (probabilities(x[row, others] / temperature) for x in (taught, student))
        rest = (a * np.log(b)).sum()
        want.append(-t[row, label] * np.log(s[row, label]) - 1.5 * temperature**2 * rest)
    got = losses.nkd(student, taught, labels, temperature=temperature, alpha=1.5)
    assert float(got) == pytest.approx(np.mean(want), rel=1e-5)
    soft = losses.nkd(student, taught, 0.4 + np.eye(4)[labels], temperature=temperature, alpha=1.5)
    assert float(got) == float(soft)


def stripes(rows=24):
    """Bytes with stripes across or along, which tells the class."""
    x, labels = np.random.default_rng(0).integers(0, 100, (rows, 8, 8, 1)), np.arange(rows) % 2
    x[labels == 0, ::2] += 100
    x[labels == 1, :, ::2] += 100
    return x.astype("uint8"), labels


@pytest.fixture(scope="module")
def taught():
    """A classifier of two classes of small pictures."""
    tf.config.run_functions_eagerly(True)
    tuned = tune(transformer(seed=3, depth=1, **GLOROT), stripes(), epochs=4, base_rate=0.3)
    tf.config.run_functions_eagerly(False)
    return tuned


SPECIFIC = {"recipe": "g2sd", "base_rate": 0.3}


@pytest.mark.slow
def test_a_classifier_learns_from_a_teacher(taught, tmp_path, eagerly):
    encoder, (x, y) = transformer(width=8, **GLOROT), stripes()
    before = values(taught.model)
    tuned = tune(encoder, (x, y), teacher=taught, epochs=4, **SPECIFIC)
    assert tuned.history["loss"][-1] < tuned.history["loss"][0]
    assert tuned.recipe.distillation == "hard"
    assert all(np.array_equal(a, b) for a, b in zip(before, values(taught.model), strict=True))
    logits = tuned.model.predict(x, verbose=0)
    assert tuned.accuracy == np.mean(logits.argmax(1) == y) > 0.9
    inner = tuned.model.layers[-1]
    heads = [inner.get_layer(name).output for name in ("head", "distillation_head")]
    found = keras.Model(inner.input, heads)(x / np.float32(255.0))
    np.testing.assert_allclose(logits, sum(np.asarray(h) for h in found) / 2, atol=1e-5)
    paths = [v.path for v in inner.trainable_variables]
    module = importlib.import_module("keras_ssl.evaluation.fine_tune")
    optimizer = module._optimizer(tuned.recipe, inner, 3)
    optimizer.build(inner.trainable_variables)
    spared = [v.path for v in inner.trainable_variables if not optimizer.is_decayed(v)]
    assert "distillation_token/token" in spared and "distillation_head/kernel" in paths
    tuned.model.save(tmp_path / "tuned.keras")
    loaded = keras.models.load_model(tmp_path / "tuned.keras")
    np.testing.assert_allclose(loaded.predict(x, verbose=0), logits, atol=1e-6)


def test_with_nkd_the_class_token_answers(taught, eagerly):
    encoder, (x, y) = transformer(width=8), pictures()
    tuned = tune(encoder, (x, y), teacher=taught.model, distillation="nkd", **SPECIFIC)
    inner = tuned.model.layers[-1]
    own = keras.Model(inner.input, inner.get_layer("head").output)(x / np.float32(255.0))
    np.testing.assert_allclose(tuned.model.predict(x, verbose=0), own, atol=1e-5)


def heads_of(encoder, kind="hard", outputs=2, pooling="class", teacher=None):
    options = {"pooling": pooling, "drop_path": None, "seed": 0, "distilled": True}
    model = _fine_tune_model.classifier([], encoder, (8, 8), outputs, **options)
    if teacher is None:
        teacher = keras.Sequential(
            [keras.Input((8, 8, 1)), keras.layers.Flatten(), keras.layers.Dense(outputs)]
        )
    return _distilled.Distilled(model, teacher, kind, 0.1)


@pytest.mark.parametrize("kind", ["hard", "nkd"])
def test_the_loss_of_a_step_is_that_of_both_heads(kind):
    model = heads_of(transformer(), kind)
    x = np.random.default_rng(0).uniform(size=(4, 8, 8, 1)).astype("float32")
    y = np.eye(2)[[0, 1, 1, 0]].astype("float32")
    both = model(x)
    assert both.shape == (4, 2, 2)
    own, imitation, answers = both[:, 0], both[:, 1], model.frozen(x)
    want = losses.nkd(own, answers, y)
    if kind == "hard":
        want = losses.hard_distillation(own, imitation, y, answers, label_smoothing=0.1)
    assert float(model.compute_loss(x, y, both)) == pytest.approx(float(want), rel=1e-6)
    assert not {id(v) for v in model.trainable_variables} & {id(v) for v in model.frozen.variables}


@pytest.mark.parametrize("positions", ["learned", "rotary"])
@pytest.mark.parametrize("pooling", ["class", "mean"])
def test_a_distillation_token_is_one_more_token(positions, pooling):
    encoder = transformer(positions=positions, registers=1, **GLOROT)
    model = heads_of(encoder, pooling=pooling)
    token = model.get_layer("distillation_token")
    for name in ("head", "distillation_head"):
        model.get_layer(name).kernel.assign(np.random.default_rng(1).normal(size=(16, 2)))
    x = np.random.default_rng(0).uniform(size=(2, 8, 8, 1)).astype("float32")
    first = np.asarray(model(x))
    token.token.assign(token.token + np.arange(16.0))
    # All tokens attend to it.
    assert (np.abs(np.asarray(model(x)) - first).max(axis=(0, 2)) > 1e-3).all()
    scales = layer_decay_scales(model, 0.5)
    names = ["distillation_token/token", "distillation_head/kernel", "head/kernel"]
    assert [scales[name] for name in names] == [1.0] * 3
    assert scales["prefix/class_token"] == 0.125


def test_teachers_are_asked_about_batches_as_they_are(taught):
    x = pictures()[0]
    want = taught.model.predict(x, verbose=0)
    batch = x.astype("float32") / 255.0
    for teacher in (taught, taught.model):
        found = _distilled.on_batches(teacher, (8, 8), 1, 2)(batch)
        np.testing.assert_allclose(found, want, atol=1e-4)
    # Another model of bytes, of another size.
    raw = keras.Input((4, 4, 1), dtype="uint8")
    total = keras.layers.Flatten()(keras.layers.Rescaling(1.0)(raw))
    brightness = keras.Model(raw, keras.layers.Dense(2, kernel_initializer="ones")(total))
    flat = np.full((3, 8, 8, 1), 100, "uint8")
    found = _distilled.on_batches(brightness, (8, 8), 1, 2)(flat / np.float32(255.0))
    np.testing.assert_allclose(found, 1600.0, rtol=1e-5)


def test_what_a_teacher_cannot_do_is_named(taught):
    encoder = transformer(width=8)
    with pytest.raises(ValueError, match="learns from a fine-tuned classifier: give teacher="):
        tune(encoder, recipe="g2sd")
    with pytest.raises(ValueError, match=r"gives \(None, 2\), expected logits of the 3 classes"):
        x, _ = pictures()
        tune(encoder, (x, np.arange(len(x)) % 3), teacher=taught)
    with pytest.raises(TypeError, match="teacher is a fine-tuned classifier"):
        tune(encoder, teacher="mae")
    with pytest.raises(ValueError, match="has no tokens. Give a backbones.VisionTransformer"):
        flat = keras.Sequential([keras.Input((8, 8, 1)), keras.layers.Flatten()])
        tune(flat, recipe="cnn", teacher=taught)
    with pytest.raises(ValueError, match="A teacher says one class"):
        tune(encoder, recipe="thorax", teacher=taught)
    with pytest.raises(ValueError, match="distillation is 'soft', expected one of"):
        tune(encoder, teacher=taught, distillation="soft")


def test_the_specific_stage_is_that_of_the_released_command():
    recipe = evaluation.FINE_TUNE_RECIPES["g2sd"]
    assert (recipe.epochs, recipe.base_rate, recipe.layer_decay) == (200, 1e-3, 0.75)
    assert (recipe.mixup, recipe.cutmix, recipe.erase, recipe.drop_path) == (0.8, 1.0, 0.25, 0.0)
    assert (recipe.pooling, recipe.distillation) == ("class", "hard")


@pytest.mark.slow
def test_two_replicas_learn_from_a_teacher_alike():
    runs = []
    for replicas, jit in ((1, False), (2, False), (1, True)):
        with scope(replicas):
            teacher = tune(transformer(seed=3, depth=1), base_rate=0.1)
            options = {"flip": 0.5, "mixup": 0.8, "recipe": "g2sd", "base_rate": 0.1}
            runs.append(tune(transformer(width=8), teacher=teacher, jit_compile=jit, **options))
    for run in runs[1:]:
        np.testing.assert_allclose(run.history["loss"], runs[0].history["loss"], rtol=1e-4)
        assert run.accuracy == runs[0].accuracy


@pytest.mark.slow
def test_both_stages_in_one_call_each(eagerly):
    x, y = pictures(16, size=16, channels=3)
    student = g2sd()
    student.compile(keras.optimizers.Adam(1e-3))
    student.fit(x, batch_size=8, verbose=0)
    teacher = tune(student, (x, y), recipe="vit")
    tuned = tune(student, (x, y), recipe="g2sd", teacher=teacher)
    assert tuned.model.predict(x, verbose=0).shape == (16, 2)
