# SPDX-License-Identifier: Apache-2.0
"""Latent prediction: which blocks are seen and predicted, and what a prediction depends on."""

import json
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from model_test import images, one_view, samples, small_tokens, small_transformer

import keras_ssl
from keras_ssl import callbacks, masking, models, targets, tokens
from keras_ssl.core import distribution

pytestmark = pytest.mark.usefixtures("without_graphs")

SEED = distribution.fixed_seed(3)
GOLDEN = Path(__file__).parent / "golden"
BLOCKS = {"blocks": 2, "least": 2, "attempts": 2}


def encoder(**options):
    return small_transformer(**{"class_token": False, **options})


def ijepa(network=None, **options):
    defaults = {"masking": masking.MultiBlockMasking(**BLOCKS), "predictor": (12, 1, 2)}
    defaults |= {"views": None, "watch": 0, "seed": 0}
    return models.IJEPA(network or encoder(), **{**defaults, **options})


def floats(rows=4):
    return images(rows).astype("float32") / 255.0


def loss_of(model, x, plan):
    return float(model.compute_losses({"inputs": x, "plan": plan}, False)["prediction"])


# --- masks ---


def statistics(layer, grid, rows=100, steps=100):
    """Of rows · steps draws: tokens of contexts and blocks, sides of these and where they end."""

    @tf.function(jit_compile=True, autograph=False)
    def draw(seed):
        plan = layer.plan(rows, grid, seed)
        return plan.mask, plan.decode, plan.asked

    found = {name: [] for name in ("seen", "covered", "overlap", "sides", "last")}
    for step in range(steps):
        mask, ids, asked = (np.asarray(x) for x in draw(distribution.fixed_seed(step)))
        seen = 1.0 - mask
        taken = np.zeros((rows, layer.blocks, seen.shape[1]))
        np.put_along_axis(taken, ids, asked.astype(float), axis=2)
        # Filled up places are token 0, whose flag the last of them decides.
        first = (ids == 0) & asked
        taken[..., 0] = first.any(-1)
        maps = taken.reshape(rows, layer.blocks, *grid)
        down, along = maps.any(3), maps.any(2)
        sides = np.stack([down.sum(-1), along.sum(-1)], axis=-1)
        assert np.array_equal(sides.prod(-1), asked.sum(-1)), "blocks are no rectangles"
        assert np.ptp(sides.reshape(-1, 2), axis=0).tolist() == [0, 0], "sizes differ in a step"
        found["seen"].append(seen.sum(1))
        found["covered"].append(taken.any(1).sum(1))
        found["overlap"].append((seen * taken.any(1)).sum(1))
        found["sides"].append(sides[0, 0])
        found["last"].append(max(np.nonzero(down)[2].max(), np.nonzero(along)[2].max()))
    assert draw.experimental_get_tracing_count() == 1
    return {name: np.array(values) for name, values in found.items()}


@pytest.mark.slow
def test_ten_thousand_draws_are_those_of_the_released_sampler():
    with np.load(GOLDEN / "jepa_ijepa_masks.npz") as file:
        wanted, cfg = file["ref_stats"], json.loads(str(file["meta"]))["cfg"]
    layer, grid = masking.MultiBlockMasking(context=0.9, edge=False), (14, 14)
    assert (layer.blocks, layer.least) == (cfg["npred"], cfg["min_keep"])
    found = statistics(layer, grid)
    # Columns: context after the cut to the least of three, block, overlap, last row and column.
    errors = wanted.std(axis=0) / np.sqrt(len(wanted))
    block = found["sides"].prod(-1)
    least = found["seen"][:, :99].reshape(-1, 3).min(axis=1)
    for got, column in ((least, 0), (block, 1), (found["covered"], 5)):
        spread = np.hypot(errors[column], np.std(block) * 0.1 if column == 1 else errors[column])
        assert abs(got.mean() - wanted[:, column].mean()) < 4 * spread, column
    assert found["overlap"].max() == wanted[:, 2].max() == 0
    assert found["last"].max() == wanted[:, 3:5].max() == 12
    assert found["seen"].min() > layer.least
    assert set(np.unique(block)) <= {30, 35, 36, 40} and 30 <= block.min() < block.max() <= 40


def test_blocks_reach_all_places_and_contexts_are_cut_to_their_share():
    layer, grid = masking.MultiBlockMasking(), (8, 8)
    assert layer.visible(grid) == 32 and layer.most(grid) == 12
    found = statistics(layer, grid)
    assert found["last"].max() == 7
    assert found["seen"].max() == 32 and np.mean(found["seen"] == 32) < 0.1
    # Where small blocks leave no more than ten tokens, the context keeps what some would take.
    assert found["seen"].min() == 11 and 0 < np.mean(found["overlap"] > 0) < 0.01
    assert {tuple(sides) for sides in found["sides"]} <= {(3, 3), (3, 4), (4, 3)}


@pytest.mark.parametrize(
    ("options", "grid", "message"),
    [
        ({"blocks": 0}, None, "at least 1 block"),
        ({"context": 1.5}, None, r"share context in \(0, 1\]"),
        ({"scale": (0.2, 0.1)}, None, "scale is a range of rising positive numbers up to 1"),
        ({"aspect": (0.0, 1.0)}, None, "aspect is a range"),
        ({}, (4, 4), "contexts are blocks of 9 tokens.*more than least=10"),
        ({}, (8, 8, 8), "needs a grid .rows, columns."),
    ],
)
def test_blocks_that_cannot_be_are_named(options, grid, message):
    with pytest.raises(ValueError, match=message):
        masking.MultiBlockMasking(**options).visible(grid)


def test_a_picture_shows_what_is_seen_and_predicted():
    layer = masking.MultiBlockMasking(**BLOCKS)
    plan = layer.plan(3, (4, 4), distribution.fixed_seed(0))
    picture = np.asarray(masking.show(layer, (4, 4), rows=3, cell=4)).reshape(-1, 3)
    found = {
        tuple(colour): np.all(picture == colour, axis=1).sum()
        for colour in np.unique(picture, axis=0)
    }
    inside = (4 - 1) ** 2
    seen = int(np.sum(1 - np.asarray(plan.mask)))
    assert seen * inside <= found[(0, 121, 107)] <= seen * 16
    assert (92, 107, 192) in found and (255, 179, 0) not in found


def test_sets_become_rows():
    x = np.random.default_rng(0).normal(size=(2, 6, 3)).astype("float32")
    decode = np.array([[[0, 1], [4, 5]], [[2, 2], [3, 1]]], "int32")
    keep = np.array([[2], [0]], "int32")
    plan = masking.MaskPlan(np.ones((2, 6)), keep, decode=decode)
    alone = masking.each_alone(plan)
    assert np.array_equal(alone.decode, decode.reshape(4, 2))
    assert np.array_equal(alone.keep, [[2], [2], [0], [0]])
    assert np.array_equal(masking.asked_of(x, plan)[1], x[0, 4:6])
    assert np.array_equal(masking.asked_of(x[..., 0], plan)[2], x[1, [2, 2], 0])
    assert masking.each_alone(alone) is alone


# --- what is predicted from what ---


def predictions(model, x, plan):
    encoded = tf.repeat(model.encode(x, plan), plan.decode.shape[1], axis=0)
    made = model.predictor(encoded, plan=masking.each_alone(plan), grid=(4, 4))
    return np.asarray(made).reshape(len(x), plan.decode.shape[1], -1, made.shape[-1])


def test_a_prediction_depends_on_the_context_alone():
    model, x = ijepa(), floats()
    plan = model.plan_for(x, model.encoder, SEED)
    want, asked = predictions(model, x, plan), np.asarray(plan.asked)
    # Another second set, and another image where the context is not, filled up tokens included.
    other = plan._replace(decode=tf.concat([plan.decode[:, :1], 15 - plan.decode[:, 1:]], axis=1))
    hidden = np.asarray(tokens.spread(plan.mask, (4, 4), (4, 4)))
    assert not np.all(plan.shown)
    changed = np.where(hidden > 0, 0.5, x).astype("float32")
    for got in (predictions(model, x, other)[:, 0], predictions(model, changed, plan)[:, 0]):
        np.testing.assert_allclose(got[asked[:, 0]], want[:, 0][asked[:, 0]], atol=1e-5)
    seen = np.where(hidden > 0, x, 0.5).astype("float32")
    assert not np.allclose(predictions(model, seen, plan)[:, 0], want[:, 0], atol=1e-3)
    # Nor on what fills up a set.
    filled = plan._replace(
        decode=tf.concat([plan.decode, plan.decode * 0 + 5], axis=2),
        asked=tf.concat([plan.asked, tf.zeros_like(plan.asked)], axis=2),
    )
    got = predictions(model, x, filled)[:, :, : plan.decode.shape[2]]
    np.testing.assert_allclose(got[asked], want[asked], atol=1e-5)


def test_the_loss_counts_real_tokens_of_all_sets():
    model, x = ijepa(loss="l1"), floats()
    plan = model.plan_for(x, model.encoder, SEED)
    # Or the last norm would have normalised them already.
    model.teacher_encoder.norm.beta.assign(np.arange(12.0))
    every = np.asarray(model.teacher_encoder.token_model()(x), "float64")
    every -= every.mean(-1, keepdims=True)
    every /= np.sqrt((every**2).mean(-1, keepdims=True) + 1e-5)
    wanted = np.stack([row[ids] for row, ids in zip(every, np.asarray(plan.decode), strict=True)])
    errors = np.abs(predictions(model, x, plan) - wanted).mean(-1)
    want = errors[np.asarray(plan.asked)].mean()
    assert loss_of(model, x, plan) == pytest.approx(want, rel=1e-5)


@keras.saving.register_keras_serializable("tests")
class Identity(keras.layers.Layer):
    """Predicts what it was given, where nothing is hidden."""

    values = 12

    def call(self, inputs, plan, grid, training=False):
        return targets.standardized(tokens.tokens_at(inputs, plan.decode))


def test_what_knows_the_latents_has_no_loss():
    model, x = ijepa(predictor=Identity()), floats()
    plan = model.plan_for(x, model.encoder, SEED)
    every = np.broadcast_to(np.arange(16, dtype="int32"), (4, 16))
    whole = plan._replace(mask=0 * plan.mask, keep=every, shown=None)
    assert loss_of(model, x, whole) < 1e-9
    model.teacher_encoder.norm.beta.assign(np.arange(12.0))
    assert loss_of(model, x, whole) > 0.01


def test_no_gradient_reaches_the_teacher_and_it_follows():
    model, x = ijepa(momentum=0.9), floats(8)
    plan = model.plan_for(x, model.encoder, SEED)
    with tf.GradientTape() as tape:
        tape.watch([v.value for v in model.teacher.variables])
        loss = model.compute_losses({"inputs": x, "plan": plan}, True)["prediction"]
    found = tape.gradient(loss, [v.value for v in model.teacher.variables])
    assert found and all(gradient is None for gradient in found)
    model.compile(keras.optimizers.SGD(0.5))
    before = [np.asarray(v) for v in model.teacher.variables]
    history = model.fit(x, batch_size=8, verbose=0).history
    assert set(history) == {"loss", "prediction"}
    pairs = zip(before, model.teacher_encoder.variables, model.encoder.variables, strict=True)
    for old, new, student in pairs:
        np.testing.assert_allclose(new, 0.9 * old + 0.1 * np.asarray(student), atol=1e-6)
    # What is handed over is the teacher's.
    tokens_of = model.teacher_encoder.token_model()(x)
    np.testing.assert_allclose(model(x), np.mean(tokens_of, axis=1), atol=1e-5)
    assert not np.allclose(model(x), model.encoder(x), atol=1e-3)
    alone = model.standalone_encoder(dtype="float32")
    np.testing.assert_allclose(alone(x), model(x), atol=1e-5)


def test_a_frozen_teacher_of_another_width_stays(tmp_path):
    teacher, x = encoder(width=8, seed=7), floats(8)
    model = models.JointEmbeddingPredictive(
        encoder(), masking.MultiBlockMasking(**BLOCKS), (12, 1, 2), teacher, watch=0, seed=0
    )
    assert model.momentum is None and model.predictor.values == 8
    np.testing.assert_array_equal(model(x), model.encoder(x))
    model.compile(keras.optimizers.SGD(0.5))
    before = [np.asarray(v) for v in model.teacher.variables]
    model.fit(x, batch_size=8, verbose=0)
    now = model.teacher.variables
    assert all(np.array_equal(a, b) for a, b in zip(before, now, strict=True))
    model.save(tmp_path / "model.keras")
    again = keras_ssl.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(again(x), model(x))
    found = [m.evaluate(x, batch_size=8, verbose=0) for m in (model, again)]
    assert found[0] == found[1]


def test_masked_models_predict_blocks_one_by_one_too():
    model, x = (
        models.MAE(encoder(), masking.MultiBlockMasking(**BLOCKS), (12, 1, 2), views=None, seed=0),
        floats(),
    )
    plan = model.plan_for(x, model.encoder, SEED)
    whole = float(model.compute_losses({"inputs": x, "plan": plan}, False)["reconstruction"])
    parts = []
    for index in range(2):
        named = {n: getattr(plan, n)[:, index] for n in ("decode", "weight", "asked")}
        views = {"inputs": x, "plan": plan._replace(**named)}
        parts.append(float(model.compute_losses(views, False)["reconstruction"]))
    assert whole == pytest.approx(np.mean(parts), rel=1e-5)


# --- video ---


def test_tubes_are_those_of_the_released_sampler():
    with np.load(GOLDEN / "jepa_vjepa_masks.npz") as file:
        wanted, meta = file["ref_stats"], json.loads(str(file["meta"]))
    grid, rows = tuple(meta["grid"]), 99
    errors = wanted.std(axis=0) / np.sqrt(len(wanted))
    for family, cfg in enumerate(meta["cfg_masks"]):
        layer = masking.MultiTubeMasking(
            cfg["num_blocks"], cfg["spatial_scale"], context=1.0, predicted=1.0
        )
        draw = tf.function(lambda seed, layer=layer: layer.plan(rows, grid, seed), autograph=False)
        seen = []
        for step in range(60):
            plan = draw(distribution.fixed_seed(step))
            mask, ids, asked = (np.asarray(x) for x in (plan.mask, plan.decode, plan.asked))
            frames = mask.reshape(rows, *grid)
            assert np.array_equal(frames[:, 0], frames[:, 1]), "blocks do not run through"
            # What is not seen is predicted, all of it.
            assert np.array_equal(np.sort(ids[:, 0], axis=1), np.tile(np.arange(98), (rows, 1)))
            assert np.array_equal(np.take_along_axis(mask, ids[:, 0], 1), asked[:, 0])
            seen.append((1.0 - mask).sum(1))
        seen = np.array(seen)
        assert seen.min() > 0
        pairs = ((seen, 2 * family), (98 - seen, 2 * family + 1))
        for numbers, column in pairs:
            # As the released code cuts them: to the least of three.
            least = numbers.reshape(-1, 3).min(axis=1)
            spread = np.hypot(errors[column], least.std() / np.sqrt(60))
            assert abs(least.mean() - wanted[:, column].mean()) < 4 * spread, (family, column)


def test_contexts_end_before_the_latest_frames_and_are_cut():
    layer = masking.MultiTubeMasking(1, (0.2, 0.2), context=0.25, predicted=0.5, latest=0.5)
    plan = layer.plan(16, (4, 4, 4), SEED)
    assert plan.keep.shape == (16, 16) and plan.decode.shape == (16, 1, 32)
    mask, keep = np.asarray(plan.mask), np.asarray(plan.keep)
    assert np.all(mask.reshape(16, 4, 16)[:, 2:] == 1.0) and np.all(np.asarray(plan.shown))
    assert np.all(keep < 32) and np.all((1 - mask).sum(1) == 16)
    taken = np.take_along_axis(mask, np.asarray(plan.decode)[:, 0], 1)
    assert np.all(taken == 1.0) and np.all(np.asarray(plan.asked))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: masking.MultiTubeMasking(0), "at least 1 block"),
        (lambda: masking.MultiTubeMasking(predicted=0.0), "shares in"),
        (lambda: masking.MultiTubeMasking(frames=(0.0, 1.0)), "frames is a range"),
        (lambda: masking.MultiTubeMasking().visible((4, 4)), "frames, rows, columns"),
        (lambda: masking.MultiTubeMasking(1, (1.0, 1.0)).visible((2, 2, 2)), "leave nothing"),
        (lambda: masking.SeveralMaskings([]), "at least one strategy"),
    ],
)
def test_tubes_that_cannot_be_are_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()


TUBES = [masking.MultiTubeMasking(n, (s, s), attempts=1) for n, s in ((2, 0.2), (1, 0.5))]


def vjepa(**options):
    place = options.pop("positions", models.VJEPA.positions)
    width = options.pop("width", 16)
    network = small_tokens("VJEPA", width, positions=place)
    defaults = {"masking": masking.SeveralMaskings(TUBES), "predictor": (width, 1, 2)}
    return models.VJEPA(network, **{**defaults, "watch": 0, "seed": 0, **options})


def clips(rows=4):
    return samples(models.VJEPA, rows)


def test_each_mask_has_its_token_and_all_weigh_the_same():
    model, x = vjepa(), clips()
    plans = model.plan_for(x, model.encoder, SEED)
    assert len(plans) == 2 and model.predictor.mask_token.shape == (2, 16)
    assert not np.any(model.predictor.mask_token)
    whole = loss_of(model, x, plans)
    first = loss_of(model, x, plans[:1])
    model.predictor.mask_token.assign(np.array([[0.0], [1.0]]) * np.arange(16.0))
    assert loss_of(model, x, plans[:1]) == first and loss_of(model, x, plans) != whole


def test_the_hinge_is_that_of_predictions():
    x = clips()
    plain, hinged = vjepa(), vjepa(variance_weight=0.5)
    plans = plain.plan_for(x, plain.encoder, SEED)
    found = hinged.compute_losses({"inputs": x, "plan": plans}, False)
    assert set(found) == {"prediction", "variance"} == set(hinged.loss_terms)
    assert float(found["prediction"]) == loss_of(plain, x, plans)
    deviations = []
    for number, plan in enumerate(plans):
        alone = masking.each_alone(plan)
        made = np.asarray(
            hinged.predictor(
                hinged.encode(x, plan), plan=alone, grid=hinged.encoder.grid, kind=number
            )
        )
        real = np.asarray(alone.asked)
        rows = [row[flags] for row, flags in zip(made, real, strict=True)]
        deviations.append([np.sqrt(row.var(axis=0, ddof=1) + 1e-4) for row in rows])
    want = 0.5 * np.maximum(1 - np.mean(deviations, axis=0), 0).mean()
    assert float(found["variance"]) == pytest.approx(want, rel=1e-4)


@pytest.mark.parametrize("legacy", [False, True])
def test_rotary_positions_of_neighbours(legacy):
    layer = tokens.RotaryPositions(20, pairs="neighbours", legacy=legacy)
    angles = np.asarray(layer(np.zeros((1, 3, 3, 3, 20))))
    assert angles.shape == (2, 27, 20)
    # Of 20 features each axis has 6, two are not turned.
    assert np.all(angles[0, :, 18:] == 1.0) and np.all(angles[1, :, 18:] == 0.0)
    rng = np.random.default_rng(0)
    query, key = (np.repeat(rng.normal(size=(1, 20)), 27, 0).astype("float32") for _ in range(2))
    turned = [np.asarray(tokens.rotate(x, angles)) for x in (query, key)]
    scores = turned[0] @ turned[1].T
    # One step along every axis from the first token, and from the middle.
    same = abs(scores[0, 13] - scores[13, 26]) < 1e-4
    lengths = np.allclose(np.linalg.norm(turned[0], axis=1), np.linalg.norm(query[0]), atol=1e-4)
    assert same == lengths == (not legacy)


def test_the_predictor_turns_as_the_encoder_does():
    x, place = clips(), {"pairs": "neighbours", "legacy": True}
    # Two pairs for each axis: of one alone both have the same angle anyhow.
    model = vjepa(positions=place, width=24)
    assert model.predictor.rotary == {**place, "grid": (2, 4, 4), "base": 10000.0}
    assert model.encoder.positions.legacy and model.teacher_encoder.positions.legacy
    # A token of zeros asks for nothing, wherever it stands.
    start = np.random.default_rng(0).normal(size=(2, 24))
    model.predictor.mask_token.assign(start)
    plans = model.plan_for(x, model.encoder, SEED)
    other = vjepa(positions={"pairs": "neighbours"}, width=24)
    other.set_weights(model.get_weights())
    assert loss_of(model, x, plans) != loss_of(other, x, plans)
    # Where a token stands decides what is predicted there.
    plan = masking.each_alone(plans[0])
    made = np.asarray(model.predictor(model.encode(x, plans[0]), plan=plan, grid=(2, 4, 4)))
    assert np.ptp(made[0, :3], axis=0).max() > 1e-4
    turned = {n: getattr(plan, n)[:, ::-1] for n in ("decode", "asked", "weight")}
    again = model.predictor(model.encode(x, plans[0]), plan=plan._replace(**turned), grid=(2, 4, 4))
    np.testing.assert_allclose(np.asarray(again)[:, ::-1], made, atol=1e-5)
    with pytest.raises(ValueError, match="'halves' or 'neighbours'"):
        tokens.RotaryPositions(12, pairs="both")


# --- few features for a group of latents ---


def sparse(**options):
    defaults = {"masking": masking.MultiBlockMasking(**BLOCKS), "predictor": (12, 1, 2)}
    defaults |= {"views": None, "watch": 0, "seed": 0, "groups": 3}
    return models.SparseJEPA(encoder(), **{**defaults, **options})


def test_without_weight_it_is_ijepa_to_the_bit():
    found = []
    for model in (ijepa(), sparse(sparsity=0.0)):
        model.compile(keras.optimizers.SGD(0.5, momentum=0.9))
        for step in range(2):
            model.fit(images(8, seed=step), batch_size=8, verbose=0)
        found.append(model.get_weights())
    assert all(np.array_equal(a, b) for a, b in zip(*found, strict=True))


def test_columns_of_groups_are_counted_by_their_lengths():
    model, x = sparse(sparsity=0.3), floats()
    plan = model.plan_for(x, model.encoder, SEED)
    kernel = model.predictor.head.kernel
    value = np.random.default_rng(0).normal(size=(12, 12)).astype("float32")
    value[3, 4:8] = 0.0
    kernel.assign(value)
    with tf.GradientTape() as tape:
        found = model.compute_losses({"inputs": x, "plan": plan}, True)["sparsity"]
    lengths = np.sqrt((value.reshape(12, 3, 4) ** 2).sum(-1))
    assert float(found) == pytest.approx(0.3 * lengths.sum(), rel=1e-5)
    # Latents 0 to 3 are the first group; a column of zeros has no direction.
    want = 0.3 * value.reshape(12, 3, 4) / np.maximum(lengths, 1e-9)[..., None]
    np.testing.assert_allclose(tape.gradient(found, kernel.value), want.reshape(12, 12), atol=1e-5)


def test_short_columns_become_zero_by_proximal_steps():
    model = sparse(sparsity=1.0, proximal=True)
    kernel = model.predictor.head.kernel
    value = np.full((12, 12), 1e-3, "float32")
    value[:, 8:] = 2.0
    kernel.assign(value)
    model.compile(keras.optimizers.SGD(0.5))
    assert model.fit(floats(8), batch_size=8, verbose=0).history["sparsity"][0] > 12.0
    kernel = np.asarray(kernel).reshape(12, 3, 4)
    assert np.all(kernel[:, :2] == 0.0)
    # Of a length of 4 a half is gone, whatever the gradient of predictions adds.
    np.testing.assert_allclose(np.linalg.norm(kernel[:, 2], axis=-1), 3.5, atol=0.3)
    with pytest.raises(ValueError, match="12 latents into groups of equal size.*groups=5"):
        sparse(groups=5)


# --- region after region ---


def dseq(**options):
    defaults = {"masking": masking.MultiBlockMasking(**BLOCKS), "predictor": (12, 1, 2)}
    defaults |= {"views": None, "watch": 0, "seed": 0, "least": 0.1}
    return models.DSeqJEPA(encoder(class_token=True, pooling="mean"), **{**defaults, **options})


def test_regions_part_the_grid_and_contexts_grow():
    saliency = np.random.default_rng(0).normal(size=(50, 64)).astype("float32")
    regions = np.asarray(masking.salient_regions(saliency, (8, 8), 4, 0.05))
    assert regions.shape == (50, 4, 64) and np.all(regions.sum(1) == 1.0)
    seen, asked = (np.asarray(x) for x in masking.region_sequence(regions))
    assert np.all(np.diff(seen, axis=1) >= 0) and np.all(seen * asked == 0)
    sizes, first = regions.sum(2), regions[:, :-1]
    assert np.all((sizes[:, :-1] == 0) | (sizes[:, :-1] >= 0.05 * 64))
    means = (first * saliency[:, None]).sum(2) / np.maximum(sizes[:, :-1], 1)
    means = np.where(sizes[:, :-1] > 0, means, -np.inf)
    assert np.all(np.sort(means, axis=1)[:, ::-1] == means)


def test_connected_sets_follow_every_bend():
    lines = ["#######", "......#", "#####.#", "#.....#", "#.#####", "#......", ".######"]
    flags = np.array([[c == "#" for c in "".join(lines)]])
    labels = np.asarray(masking.components(flags, (7, 7)))
    assert set(np.unique(labels)) == {0, 35, 49} and np.all((labels > 0) == flags)
    apart = np.array([[1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0]], bool)
    assert np.asarray(masking.components(apart, (4, 4))).max(1) == 14
    assert len(np.unique(masking.components(apart, (4, 4)))) == 4


def test_without_regions_it_is_ijepa_and_two_regions_are_one_prediction():
    network = encoder(class_token=True, pooling="mean")
    plain, without = ijepa(network), dseq(sequence=0.0)
    x = floats()
    views = without.make_views(x)
    want = loss_of(plain, x, views["plan"])
    assert float(without.compute_losses(views, False)["prediction"]) == pytest.approx(want, 1e-6)
    both, always = dseq(sequence=0.5, regions=2), dseq(sequence=1.0, regions=2)
    for model in (plain, both, always):
        model.teacher_encoder.prefix.tokens[0].assign(np.arange(12.0)[None, None])
    views = always.make_views(x)
    want = loss_of(plain, x, views["regions"])
    assert float(always.compute_losses(views, False)["prediction"]) == pytest.approx(want, rel=1e-5)
    # By chance one of both counts.
    found = {
        chosen: float(both.compute_losses({**views, "chosen": chosen}, False)["prediction"])
        for chosen in (0.0, 1.0)
    }
    assert found[1.0] == pytest.approx(want, rel=1e-5)
    assert found[0.0] == pytest.approx(loss_of(plain, x, views["plan"]), rel=1e-5)


def test_regions_are_the_teachers_and_predictions_do_not_see_them():
    model, x = dseq(regions=3, sequence=1.0, context=1.0, predicted=1.0), floats(8)
    network = model.teacher_encoder
    states = network.hidden_states(x, blocks=[1])[0]
    token = np.asarray(network.prefix.tokens[0])[0, 0]
    want = np.asarray(network.norm(states))[:, 1:] @ token / np.sqrt(12)
    np.testing.assert_allclose(model.saliency(states), want, atol=1e-6)
    # Two spots, the first the brighter one.
    spots = np.zeros((8, 16), "float32")
    spots[:, [0, 1]], spots[:, [10, 11]] = 1.0, 0.9
    model.saliency = lambda tokens: spots
    plan = model.make_views(x)["regions"]
    assert plan.keep.shape[0] == plan.decode.shape[0] == 16
    seen = 1.0 - np.asarray(plan.mask)
    asked = np.zeros((16, 16))
    for row, (ids, real) in enumerate(zip(plan.decode[:, 0], plan.asked[:, 0], strict=True)):
        asked[row, np.asarray(ids)[np.asarray(real)]] = 1.0
    assert np.all(seen * asked == 0) and asked.sum() > 0
    first, second = seen.reshape(8, 2, 16).swapaxes(0, 1)
    assert np.array_equal(second, first + asked.reshape(8, 2, 16)[:, 0])
    assert np.all(second + asked.reshape(8, 2, 16)[:, 1] == 1.0)
    hidden = np.asarray(tokens.spread(plan.mask, (4, 4), (4, 4)))
    again = np.repeat(x, 2, axis=0)
    changed = np.where(hidden > 0, 0.5, again).astype("float32")
    for one, other in zip(model.encode(again, plan), model.encode(changed, plan), strict=True):
        np.testing.assert_allclose(one[0], other[0], atol=1e-5)
    part = dseq(regions=3).make_views(x)["regions"]
    assert part.keep.shape == (16, int(16 * 0.6)) and part.decode.shape == (16, 1, 12)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"regions": 1}, "at least 2 regions"),
        ({"block": 2}, "a block of the encoder's 1"),
        ({"least": 0.0}, "shares in"),
    ],
)
def test_regions_that_cannot_be_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        dseq(**options)
    with pytest.raises(ValueError, match="compares patches with the class token"):
        models.DSeqJEPA(encoder(), masking.MultiBlockMasking(**BLOCKS), (12, 1, 2), views=None)


# --- a teacher that learns pixels first ---


def salt(**options):
    defaults = {"teacher": small_tokens("SALT", 8, seed=7), "teacher_decoder": (12, 1, 2)}
    defaults |= {"masking": masking.SeveralMaskings(TUBES), "predictor": (12, 1, 2), "watch": 0}
    return models.SALT(small_tokens("SALT"), **{**defaults, "seed": 0, **options})


def test_one_call_teaches_freezes_and_learns(tmp_path, monkeypatch):
    model, x, teach, taught = salt(), clips(8), models.SALT._teach, []

    def teach_and_look(self, *args, **kwargs):
        teach(self, *args, **kwargs)
        taught.append(self.teacher.network.get_weights())

    monkeypatch.setattr(models.SALT, "_teach", teach_and_look)
    model.compile(keras.optimizers.SGD(0.5))
    before = model.teacher.network.get_weights()
    student = model.encoder.get_weights()
    model.fit(x, batch_size=8, epochs=5, verbose=0)
    assert len(model.teacher_history.epoch) == 1 and len(model.history.epoch) == 5
    assert "reconstruction" in model.teacher_history.history
    now = model.teacher.network.get_weights()
    assert sum(not np.array_equal(a, b) for a, b in zip(before, now, strict=True)) > 10
    pairs = zip(student, model.encoder.get_weights(), strict=True)
    assert all(not np.array_equal(a, b) for a, b in pairs)
    model.save(tmp_path / "model.keras")
    again = keras_ssl.load_model(tmp_path / "model.keras")
    again.fit(x, batch_size=8, verbose=0)
    assert len(taught) == 1
    for network in (model.teacher.network, again.teacher.network):
        kept = zip(taught[0], network.get_weights(), strict=True)
        assert all(np.array_equal(a, b) for a, b in kept)
    np.testing.assert_array_equal(model(x), model.encoder(x))


def test_predicting_nothing_costs_what_latents_are_large():
    model, x = salt(), clips()
    model.predictor.head.kernel.assign(np.zeros((12, 8)))
    plans = model.plan_for(x, model.encoder, SEED)
    latents = model.target(x)
    means = []
    for plan in plans:
        wanted = np.abs(np.asarray(masking.asked_of(latents, plan))).mean(-1)
        means.append(wanted[np.asarray(masking.each_alone(plan).asked)].mean())
    assert loss_of(model, x, plans) == pytest.approx(np.mean(means), rel=1e-5)
    with pytest.raises(ValueError, match="SALT's teacher learns from hidden tokens"):
        salt(teacher=keras.layers.Dense(3))


# --- collapse ---


@pytest.mark.slow
def test_a_collapse_is_noticed_without_asking():
    """A decay that leaves nothing of what a patch holds beside its place."""
    model = ijepa(encoder(positions="sincos"), momentum=0.5, watch=32)
    model.compile(keras.optimizers.SGD(0.01, weight_decay=10.0), run_eagerly=False)
    with pytest.warns(callbacks.representation_monitor.CollapseWarning, match="feature std"):
        found = model.fit(images(64), batch_size=64, epochs=100, verbose=0).history
    assert found["feature_std"][-1] < 0.2 * found["feature_std"][0]
    assert set(found) >= {"rank_me", "prediction"}


def test_who_watches_already_is_not_doubled():
    monitor = callbacks.RepresentationMonitor(images(8))
    model = ijepa(watch=8)
    assert model._monitor(images(8), [monitor]) == []
    assert len(model._monitor(images(8), [])[0].images) == 8
    assert model._monitor((part for part in [images(8)]), []) == []


# --- mistakes ---


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"network": small_transformer}, "asks nothing of a class token.*pools it"),
        ({"network": lambda: encoder(tokens=True)}, "pools nothing"),
        ({"masking": masking.BlockMasking()}, "gets its context only; BlockMasking replaces"),
        ({"masking": None}, "contexts are blocks of 9 tokens"),
        ({"momentum": None}, "would predict a network that never learns"),
        ({"momentum": 1.5}, r"must lie in \[0, 1\]"),
        ({"loss": "cross_entropy"}, "do not go together"),
        ({"loss": "l3"}, "one of .'l2'"),
    ],
)
def test_mistakes_are_named(options, message):
    network = options.pop("network", encoder)()
    with pytest.raises(ValueError, match=message):
        ijepa(network, **options)


def test_views_are_crops_alone():
    from keras_ssl import views

    for shape in ((32, 32, 3), (224, 224, 3)):
        crop, normalize = views.get("ijepa", shape).pipelines[0].transforms
        assert crop.area == (0.3, 1.0) and type(normalize).__name__ == "Normalize"
    assert ijepa(views=one_view()).views is not None
