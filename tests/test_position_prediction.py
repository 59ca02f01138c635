# SPDX-License-Identifier: Apache-2.0
"""Position prediction: what is told of places, whom patches attend to, and what is learned."""

import math
import sys

import keras
import numpy as np
import numpy_transformer as np64
import pytest
from model_test import images, small_transformer
from scipy.special import logsumexp
from test_masked import digits, learn_digits

from keras_ssl import backbones, evaluation, masking, models, tokens
from keras_ssl.core import distribution
from keras_ssl.evaluation import _fine_tune_model

SEED = distribution.fixed_seed(3)


def floats(rows=4):
    return images(rows).astype("float32") / 255.0


def small(ratio=0.75, **options):
    encoder = small_transformer(positions="none", depth=2, registers=1)
    model = models.PositionPrediction(encoder, ratio, views=None, seed=1, **options)
    np64.shake(model)
    return model


def logits_of(model, x, plan):
    return np.asarray(model.decoder(model.encode(x, plan), plan=plan, grid=(4, 4)))


def loss_of(model, x, plan):
    return float(model.compute_losses({"inputs": x, "plan": plan}, False)["reconstruction"])


def plan_with(mask):
    mask = np.asarray(mask, "float32")
    return masking.MaskPlan(mask, shown=mask < 0.5)


def test_the_plan_leaves_tokens_where_they_are():
    model, x = small(), floats()
    plan = model.plan_for(x, model.encoder, SEED)
    assert plan.keep is None and np.array_equal(plan.shown, np.asarray(plan.mask) == 0)
    assert np.asarray(plan.mask).sum(axis=1).tolist() == [12] * 4
    assert model.encode(x, plan).shape == (4, 2 + 16, 12)
    assert model.mask_token is None


def test_predictions_move_with_the_patches():
    model, x = small(), floats()
    plan = model.plan_for(x, model.encoder, SEED)
    order = np.random.default_rng(0).permutation(16)
    cut = np.asarray(tokens.patchify(x, (4, 4))).reshape(4, 16, 48)[:, order]
    moved = np.asarray(tokens.unpatchify(cut.reshape(4, 4, 4, 48), (4, 4)))
    found = logits_of(model, moved, plan_with(np.asarray(plan.mask)[:, order]))
    plain = logits_of(model, x, plan)
    assert np.allclose(found, plain[:, order], atol=1e-5)
    assert np.ptp(plain, axis=1).min() > 1e-3


def test_a_constant_image_tells_nothing():
    """All its patches say the same, so that no head has a loss below ln L, and an even one it."""
    model, x = small(), np.full((2, 16, 16, 3), 0.3, "float32")
    plan = model.plan_for(x, model.encoder, SEED)
    assert loss_of(model, x, plan) > math.log(16) + 0.1
    head = model.decoder.maps[-1]
    head.bias.assign(head.bias - logits_of(model, x, plan)[0, 0])
    assert loss_of(model, x, plan) == pytest.approx(math.log(16), abs=1e-6)
    assert abs(loss_of(model, floats(), plan_with(np.zeros((4, 16)))) - math.log(16)) > 0.01


def test_hidden_patches_are_seen_by_themselves_alone():
    model, x = small(), floats()
    plan = model.plan_for(x, model.encoder, SEED)
    hidden = np.asarray(plan.mask) > 0
    changed = int(np.flatnonzero(hidden[0])[0])
    other = x.copy()
    row, column = 4 * (changed // 4), 4 * (changed % 4)
    other[0, row : row + 4, column : column + 4] = 0.5
    same = np.all(np.asarray(model.encode(x, plan)) == np.asarray(model.encode(other, plan)), -1)
    assert np.array_equal(~same[0], np.arange(18) == 2 + changed) and same[1:].all()
    # What is shown is seen by all.
    shown = int(np.flatnonzero(~hidden[0])[0])
    row, column = 4 * (shown // 4), 4 * (shown % 4)
    other = x.copy()
    other[0, row : row + 4, column : column + 4] = 0.5
    assert not np.any(logits_of(model, x, plan)[0] == logits_of(model, other, plan)[0], -1).any()


def test_the_whole_loss_in_float64():
    model, x = small(0.5, hidden=(7,)), floats()
    plan, encoder = model.plan_for(x, model.encoder, SEED), model.encoder
    usable = np.concatenate([np.ones((4, 2), bool), np.asarray(plan.mask) == 0], axis=1)
    front = np.concatenate([np64.array(token)[0] for token in encoder.prefix.tokens])
    patches = np64.dense(encoder.tokenizer.projection, np64.patches(x, 4))
    found = np.concatenate([np.tile(front, (4, 1, 1)), patches], axis=1)
    for layer in encoder.blocks:
        found = np64.block(layer, found, lambda scores: usable[:, None, None])
    found = np64.norm(encoder.norm, found)[:, 2:]
    first, last = model.decoder.maps
    hidden = np64.dense(first, found)
    hidden = hidden * 0.5 * (1.0 + np64.erf(hidden / np.sqrt(2.0)))
    logits = np64.dense(last, hidden)
    errors = logsumexp(logits, axis=-1) - np.einsum("bll->bl", logits)
    assert loss_of(model, x, plan) == pytest.approx(errors.mean(), rel=1e-5)


@keras.saving.register_keras_serializable("tests")
class Overlapping(keras.layers.Conv2D):
    """A stem whose patches overlap and see the border."""

    patch = (4, 4)


@pytest.mark.parametrize("positions", ["learned", "sincos", "rotary"])
def test_an_encoder_that_knows_places_is_refused(positions):
    encoder = small_transformer(positions=positions, width=16)
    with pytest.raises(ValueError, match='Build it with positions="none"'):
        models.PositionPrediction(encoder)


def test_tokens_that_see_more_than_their_patch_are_refused():
    stem = Overlapping(12, 7, 4, "same")
    encoder = backbones.TokenTransformer(stem, (16, 16, 3), 1, 2, positions="none")
    with pytest.raises(ValueError, match="see their own patch alone"):
        models.PositionPrediction(encoder)
    with pytest.raises(ValueError, match="hides tokens"):
        models.PositionPrediction(keras.Sequential([keras.Input((4,))]))
    with pytest.raises(ValueError, match="predicts no samples"):
        small().reconstruct(floats())


@pytest.mark.parametrize("positions", ["sincos", "learned", "rotary"])
def test_a_copy_is_told_places(positions):
    encoder, x = small_transformer(positions="none", width=16), floats()
    np64.shake(encoder)
    copy = encoder.copied(positions=positions)
    pairs = [(copy.tokenizer, encoder.tokenizer), (copy.prefix, encoder.prefix)]
    pairs += [(copy.norm, encoder.norm), *zip(copy.blocks, encoder.blocks, strict=True)]
    for mine, theirs in pairs:
        for a, b in zip(mine.weights, theirs.weights, strict=True):
            assert a is not b and np.array_equal(a, b)
    turned = x[:, ::-1].copy()
    change = [np.abs(np.asarray(net(x)) - np.asarray(net(turned))).max() for net in (copy, encoder)]
    assert change[0] > 1e-3
    again = copy.copied(pooling="mean")
    assert np.array_equal(again.token_model()(x), copy.token_model()(x))


def test_fine_tuning_adds_positions(monkeypatch):
    model = small()
    options = {"pooling": "class", "drop_path": None, "seed": 0}
    plain = _fine_tune_model.classifier([], model.encoder, (16, 16), 2, **options)
    told = _fine_tune_model.classifier(
        [], model.encoder, (16, 16), 2, **options, positions="sincos"
    )
    names = [{layer.name for layer in network.layers} for network in (plain, told)]
    assert names[1] - names[0] == {"positions"}
    pairs = zip(plain.weights, told.weights, strict=True)
    assert all(np.array_equal(a, b) for a, b in pairs)

    class Asked(Exception):
        pass

    def asked(*args, **kwargs):
        raise Asked(kwargs["positions"])

    monkeypatch.setattr(sys.modules["keras_ssl.evaluation.fine_tune"], "classifier", asked)
    x, y = images(40), np.arange(40) % 2
    for given in ({"positions": "sincos"}, {}):
        with pytest.raises(Asked, match=str(given.get("positions"))):
            evaluation.fine_tune(model, x, y, x, y, epochs=1, **given)


@pytest.mark.slow
def test_places_of_digits_are_learned():
    """On a grid of 8 x 8, whose border says little."""
    assert digits()[0].shape[1:] == (16, 16, 3)
    tokenizer = tokens.PatchTokenizer((2, 2), 64, seed=0)
    encoder = backbones.TokenTransformer(
        tokenizer, (16, 16, 3), 3, 4, pooling="mean", positions="none", seed=0
    )
    model = models.PositionPrediction(encoder, views=None, seed=0)
    error, random, trained = learn_digits(model, steps=250)
    assert error < math.log(64) - 1.0
    assert trained > random + 0.1
