# SPDX-License-Identifier: Apache-2.0
"""CAE: who sees what, where gradients end, and codes that are found before training."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from model_test import images, one_view, small_transformer
from scipy.special import log_softmax

from keras_ssl import masking, models, targets, tokens
from keras_ssl.core import batches, distribution

pytestmark = pytest.mark.usefixtures("without_graphs")
SEED = distribution.fixed_seed(3)
GRID = (4, 4)


def floats(rows=4, seed=0):
    return images(rows, seed).astype("float32") / 255.0


def adapted(classes=5):
    target = targets.PatchCodeTarget((4, 4), classes, seed=0)
    target.adapt(floats(8, seed=1))
    return target


def cae(target=None, **options):
    # Single patches: blocks are drawn in loops.
    defaults = {"regressor": (2, 2), "decoder": (1, 2), "masking": 0.5, "views": None, "seed": 0}
    target = adapted() if target is None else target
    return models.CAE(small_transformer(), target, **{**defaults, **options})


def seen(model, x):
    return {"inputs": x, "plan": model.plan_for(x, model.encoder, SEED)}


def terms(model, views):
    return {n: float(v) for n, v in model.compute_losses(views, False).items()}


def parts(model, views):
    """Latents and predictions of the hidden patches."""
    where = {"plan": views["plan"], "grid": GRID}
    latents = model.regressor(model.encode(views["inputs"], views["plan"]), **where)
    return latents, model.decoder(latents, **where)


# --- who sees what ---


def test_hidden_pixels_change_what_is_wanted_and_nothing_else():
    model, x = cae(), floats()
    views = seen(model, x)
    hidden = np.asarray(tokens.spread(views["plan"].mask, GRID, (4, 4)))
    assert hidden.mean() == 0.5
    for place in (hidden, 1 - hidden):
        other = {**views, "inputs": np.where(place > 0, x[::-1], x).astype("float32")}
        pairs = [(model.encode(v["inputs"], v["plan"]), *parts(model, v)) for v in (views, other)]
        same = [np.array_equal(a, b) for a, b in zip(*pairs, strict=True)]
        aims = [model.alignment_target(v["inputs"], v["plan"]) for v in (views, other)]
        assert same == [place is hidden] * 3
        assert np.array_equal(*aims) == (place is not hidden)
        assert terms(model, views) != terms(model, other)


def test_no_gradient_reaches_the_latents_that_are_to_be_met():
    model, x = cae(), tf.constant(floats())
    views = seen(model, x)
    hidden = np.asarray(tokens.spread(views["plan"].mask, GRID, (4, 4)))
    with tf.GradientTape() as tape:
        tape.watch(x)
        loss = model.compute_losses({**views, "inputs": x}, True)["alignment"]
    gradient = np.asarray(tape.gradient(loss, x))
    assert np.all(gradient * hidden == 0) and np.any(gradient * (1 - hidden))


def test_both_losses_are_their_formulas():
    model, x = cae(alignment_weight=3.0), floats()
    views = seen(model, x)
    latents, logits = (np.asarray(part, "float64") for part in parts(model, views))
    plan = views["plan"]
    # The encoder on the hidden patches as the only ones.
    alone = model.encoder.encode(x, plan._replace(keep=plan.hidden))[:, 1:]
    codes = np.asarray(tokens.tokens_at(model.target(x), plan.hidden))
    logs = np.take_along_axis(log_softmax(logits, -1), codes[..., None], -1)
    found = terms(model, views)
    assert found["alignment"] == pytest.approx(3.0 * np.mean((latents - alone) ** 2), rel=1e-5)
    assert found["reconstruction"] == pytest.approx(-logs.mean(), rel=1e-5)
    assert logits.shape == (4, 8, 5) and model.decoder.values == 5


def test_the_class_token_takes_no_part_in_the_regression():
    model, x = cae(), floats()
    plan = seen(model, x)["plan"]
    encoded = np.array(model.encode(x, plan))
    want = model.regressor(encoded, plan=plan, grid=GRID)
    encoded[:, 0] += 1.0
    assert np.array_equal(model.regressor(encoded, plan=plan, grid=GRID), want)


@keras.saving.register_keras_serializable("cae_test")
def half(step):
    return 0.5


def test_a_scheduled_ratio_equals_that_ratio():
    """What is gathered but hidden, and asked but visible, has no influence."""
    strategy = masking.ScheduledMasking(
        masking.RandomMasking(), half, least=0.25, most=0.75, rest="ignore"
    )
    model, x = cae(masking=strategy), floats()
    plan = strategy.plan(4, GRID, SEED, step=0)
    assert plan.keep.shape == (4, 12) and plan.decode.shape == (4, 12)
    order = np.concatenate([plan.keep, plan.hidden], axis=1)
    plain = masking.plan_in_order(order, 8)
    found = [terms(model, {"inputs": x, "plan": p}) for p in (plan, plain)]
    assert found[0] == pytest.approx(found[1], rel=1e-5)


def test_a_part_of_the_hidden_patches_is_regressed():
    model, x = cae(decode=0.5), floats()
    views = seen(model, x)
    assert views["plan"].decode.shape == (4, 4)
    assert parts(model, views)[0].shape == (4, 4, 12)
    assert model.alignment_target(x, views["plan"]).shape == (4, 4, 12)
    assert all(np.isfinite(value) for value in terms(model, views).values())


def test_pixels_may_be_wanted_and_shown():
    model, x = cae("pixels", loss="l2"), floats(2)
    found = model.reconstruct(x)
    assert found["reconstruction"].shape == x.shape
    visible = np.asarray(found["masked"]) == np.asarray(x)
    assert np.array_equal(np.asarray(found["reconstruction"])[visible], x[visible])


# --- codes ---


def test_fit_finds_the_codes_of_its_data_once():
    model, x = cae(targets.PatchCodeTarget((4, 4), 5, seed=0), views=one_view()), images(8)
    model.compile("sgd")
    with pytest.raises(ValueError, match="no centroids yet"):
        model.evaluate(x, batch_size=8, verbose=0)
    model.fit(tf.data.Dataset.from_tensors(x), verbose=0)
    want = targets.PatchCodeTarget((4, 4), 5, seed=0)
    want.adapt(model.preprocess(x))
    np.testing.assert_allclose(model.target.centroids, want.centroids, atol=1e-6)
    model.fit(images(8, seed=1), batch_size=8, verbose=0)
    np.testing.assert_allclose(model.target.centroids, want.centroids, atol=1e-6)
    # A run that goes on has the centroids among its weights.
    again = cae(targets.PatchCodeTarget((4, 4), 5))
    assert not again.target.ready()
    again.set_weights(model.get_weights())
    assert again.target.ready()


def test_any_frozen_tokenizer_gives_codes():
    @keras.saving.register_keras_serializable("cae_test")
    def brightness(x):
        return keras.ops.cast(keras.ops.mean(x[:, ::4, ::4], axis=-1) * 2.99, "int32")

    model = cae(targets.CodeTarget(brightness, 3))
    assert model.decoder.values == 3
    assert all(np.isfinite(value) for value in terms(model, seen(model, floats())).values())


def test_some_rows_of_any_data():
    x = np.arange(10)

    class Pieces(keras.utils.PyDataset):
        def __len__(self):
            return 4

        def __getitem__(self, index):
            return x[3 * index : 3 * index + 3], np.zeros(3)

    assert batches.some_rows(x, 4).tolist() == [0, 3, 6, 9]
    assert batches.some_rows({"a": x, "b": -x}, 20)["b"].tolist() == (-x).tolist()
    assert batches.some_rows(Pieces(workers=1), 5).tolist() == [0, 1, 2, 3, 4]
    data = tf.data.Dataset.from_tensor_slices((x, x)).batch(4)
    assert batches.some_rows(data.repeat(), 6).tolist() == [0, 1, 2, 3, 4, 5]
    with pytest.raises(ValueError, match="may give but once"):
        batches.some_rows(iter([x]), 3)
    with pytest.raises(ValueError, match="empty"):
        batches.some_rows(data.take(0), 3)


# --- parts ---


def test_half_of_the_patches_is_hidden_in_blocks():
    strategy = cae(masking=None).masking
    assert strategy.visible((14, 14)) == 98 and strategy.exact
    assert models.CAE(small_transformer(width=24)).target.classes == 8192


@pytest.mark.parametrize("kind", [tokens.LatentRegressor, tokens.LatentDecoder])
def test_layers_come_back_from_their_config(kind):
    layer = kind(depth=2, heads=2, drop_path=0.9, seed=0)
    if kind is tokens.LatentDecoder:
        layer.values = 7
    plan = masking.RandomMasking(0.5).plan(3, GRID, SEED)
    x = np.random.default_rng(0).normal(size=(3, 8, 12)).astype("float32")
    want = np.asarray(layer(x, plan=plan, grid=GRID))
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(layer))
    np.testing.assert_array_equal(again(x, plan=plan, grid=GRID), want)
    assert not np.array_equal(layer(x, plan=plan, grid=GRID, training=True), want)
    with pytest.raises(ValueError, match="at least 1"):
        kind(depth=0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"masking": masking.BlockMasking()}, "gets visible patches only"),
        ({"target": "pixels"}, "do not go together"),
        ({"decoder": (1, 5)}, "do not divide"),
    ],
)
def test_mistakes_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        cae(**options)
