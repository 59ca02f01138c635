# SPDX-License-Identifier: Apache-2.0
"""MixedAE: what is mixed and un-mixed, whom tokens attend to, and what it reduces to."""

import keras
import numpy as np
import numpy_transformer as np64
import pytest
import tensorflow as tf
from model_test import images, small_transformer
from scipy.special import logsumexp

from keras_ssl import losses, masking, models
from keras_ssl.core import distribution
from keras_ssl.tokens import SelfAttention, gather_tokens
from keras_ssl.tokens._blocks import attention_weights

SEED = distribution.fixed_seed(3)
DECODER = (12, 1, 2)


def floats(rows=8):
    return images(rows).astype("float32") / 255.0


def small(encoder=None, components=4, **options):
    options = {"decoder": DECODER, "views": None, "seed": 1, **options}
    return models.MixedAE(encoder or small_transformer(positions="sincos"), components, **options)


def plan_of(model, x):
    return model.plan_for(x, model.encoder, SEED)


def terms(model, x, plan):
    found = model.compute_losses({"inputs": x, "plan": plan}, False)
    return {name: float(value) for name, value in found.items()}


# --- mixing ---


def test_every_place_of_a_mixed_image_is_of_one_member():
    plan = masking.PatchMixing(4).plan(12, (4, 4), SEED)
    shown = 1.0 - np.asarray(plan.mask).reshape(3, 4, 16)
    assert np.all(shown.sum(axis=1) == 1.0) and np.all(shown.sum(axis=2) == 4.0)
    assert not np.array_equal(shown[0], shown[1]) and not np.array_equal(shown[1], shown[2])
    other = np.asarray(masking.PatchMixing(4).plan(12, (4, 4), distribution.fixed_seed(4)).mask)
    assert not np.array_equal(1.0 - shown.reshape(12, 16), other)
    # Which member has a place is no matter of the place: over many groups each as often.
    many = 1.0 - np.asarray(masking.PatchMixing(4).plan(8000, (4, 4), SEED).mask)
    share = many.reshape(2000, 4, 16).mean(axis=0)
    assert np.all(np.abs(share - 0.25) < 4.5 * np.sqrt(0.25 * 0.75 / 2000))


def test_unmixing_is_the_reverse_of_mixing():
    model = small(small_transformer(registers=1))
    x = np.random.default_rng(0).normal(size=(8, 2 + 4, 12)).astype("float32")
    x[:, :2] = x[:1, :2]
    mixed = np.asarray(model.mixed(x))
    assert mixed.shape == (2, 2 + 16, 12)
    assert np.array_equal(mixed[1, 2 + 4 : 2 + 8], x[5, 2:])
    assert np.array_equal(model.unmixed(mixed), x)


@pytest.mark.parametrize("positions", ["sincos", "rotary"])
def test_tokens_are_mixed_as_pixels_are(positions):
    """The mixed image, put together pixel by pixel, through the plain encoder."""
    encoder = small_transformer(positions=positions, depth=2, registers=1, width=16)
    np64.shake(encoder)
    model, x = small(encoder, homologous_attention=False), floats()
    model.segments.assign(0 * model.segments)
    plan = plan_of(model, x)
    found = np.asarray(model.encode(x, plan))
    mixed = np.zeros((2, 16, 16, 3), "float32")
    for row, keep in enumerate(np.asarray(plan.keep)):
        for place in keep:
            i, j = 4 * (place // 4), 4 * (place % 4)
            mixed[row // 4, i : i + 4, j : j + 4] = x[row, i : i + 4, j : j + 4]
    whole = np.asarray(encoder.encode(mixed)).repeat(4, axis=0)
    assert np.allclose(found[:, :2], whole[:, :2], atol=1e-5)
    assert np.allclose(found[:, 2:], gather_tokens(whole[:, 2:], plan.keep), atol=1e-5)
    # With segments it knows which token is whose.
    model.segments.assign(np.outer([0, 1, 0, 0], np.arange(16)))
    assert not np.allclose(found, model.encode(x, plan), atol=1e-3)


def test_with_one_component_it_is_a_plain_autoencoder_of_all_tokens():
    encoder = small_transformer(positions="sincos", depth=2)
    np64.shake(encoder)
    model, x = small(encoder, 1, recognition_weight=0.0, target="pixels"), floats(3)
    np64.shake(model.decoder)
    model.segments.assign(0 * model.segments)
    found = terms(model, x, plan_of(model, x))
    everything = masking.MaskPlan(np.ones((3, 16), "float32"))
    predicted = model.decoder(encoder.encode(x), plan=everything, grid=(4, 4))
    want = np.mean((np64.array(predicted) - np64.patches(x, 4)) ** 2)
    assert found["reconstruction"] == pytest.approx(want, rel=1e-5)
    assert found["recognition"] == 0.0


# --- the parts, in float64 ---


def chosen(front, count):
    """The keys of greatest scores, for the float64 transformer."""

    def usable(scores):
        rank = np.argsort(np.argsort(-scores[..., front:], axis=-1), axis=-1)
        first = np.ones((*scores.shape[:-1], front), bool)
        return np.concatenate([first, rank < count], axis=-1)

    return usable


def test_the_whole_loss_in_float64():
    model, x = small(small_transformer(positions="sincos", depth=2)), floats()
    np64.shake(model)
    plan, encoder, decoder = plan_of(model, x), model.encoder, model.decoder
    table = np64.array(encoder.positions.table((4, 4), 12))
    keep = np.asarray(plan.keep)

    cut = np64.patches(x, 4)
    placed = np64.dense(encoder.tokenizer.projection, cut) + table
    front = np64.array(encoder.prefix.tokens[0])[0]
    encoded = np.zeros((8, 1 + 4, 12))
    recognition = []
    for group in range(2):
        rows = range(4 * group, 4 * group + 4)
        segments = np64.array(model.segments)
        parts = [placed[row, keep[row]] + segments[row % 4] for row in rows]
        tokens = np.concatenate([front, *parts])[None]
        for layer in encoder.blocks:
            tokens = np64.block(layer, tokens, chosen(1, 4))
        tokens = np64.norm(encoder.norm, tokens)[0]
        for row in rows:
            start = 1 + 4 * (row % 4)
            encoded[row] = np.concatenate([tokens[:1], tokens[start : start + 4]])
        unit = tokens[1:] / np.linalg.norm(tokens[1:], axis=1, keepdims=True)
        logits = unit @ unit.T / 0.25
        for i in range(16):
            others = [j for j in range(16) if j != i]
            alike = [j for j in others if j // 4 == i // 4]
            recognition.append(
                np.mean([logsumexp(logits[i, others]) - logits[i, j] for j in alike])
            )

    errors = []
    for row in range(8):
        hidden = np.setdiff1d(np.arange(16), keep[row])
        table = np64.array(decoder.place.table((4, 4), 12))
        seen = np64.dense(decoder.embed, encoded[row])
        seen[1:] += table[keep[row]]
        tokens = np.concatenate([seen, np64.array(decoder.mask_token) + table[hidden]])[None]
        for layer in decoder.blocks:
            tokens = np64.block(layer, tokens)
        predicted = np64.dense(decoder.head, np64.norm(decoder.norm, tokens))[0, 5:]
        wanted = cut[row, hidden]
        deviation = np.sqrt(wanted.var(axis=1, ddof=1, keepdims=True) + 1e-6)
        errors.append((predicted - (wanted - wanted.mean(axis=1, keepdims=True)) / deviation) ** 2)

    found = terms(model, x, plan)
    assert found["reconstruction"] == pytest.approx(np.mean(errors), rel=1e-5)
    assert found["recognition"] == pytest.approx(0.1 * np.mean(recognition), rel=1e-5)


def test_a_query_keeps_its_greatest_keys_and_those_in_front():
    query, key = np.random.default_rng(0).normal(size=(2, 2, 3, 9, 4)).astype("float32")
    scores = np64.array(query) @ np64.array(key).transpose(0, 1, 3, 2) / 2.0
    usable = chosen(2, 3)(scores)
    found = np.asarray(attention_weights(query, key, top_keys=(2, 3)))
    assert np.array_equal(found > 0, usable) and np.all(usable.sum(-1) == 5)
    want = np.where(usable, np.exp(scores), 0.0)
    assert np.allclose(found, want / want.sum(-1, keepdims=True), atol=1e-6)
    plain = np.asarray(attention_weights(query, key))
    assert np.array_equal(attention_weights(query, key, top_keys=(2, 7)), plain)
    # Padding is never chosen before a real key.
    real = np.arange(9)[None] < 6 + np.zeros((2, 1))
    found = np.asarray(attention_weights(query, key, real, top_keys=(2, 3)))
    assert np.all(found[..., 6:] == 0) and np.all((found > 0).sum(-1) == 5)


def test_gradients_reach_chosen_values_only():
    layer = SelfAttention(1, seed=0)
    x = tf.constant(np.random.default_rng(0).normal(size=(1, 6, 4)).astype("float32"))
    layer.build(x.shape)
    usable = np.asarray(layer.attention_weights(x))[0, 0]
    usable = np.argsort(np.argsort(-usable[0])) < 2
    with tf.GradientTape() as tape:
        tape.watch(x)
        first = layer(x, top_keys=(0, 2))[0, 0]
    reached = np.abs(tape.gradient(first, x).numpy()[0]).sum(-1) > 0
    assert np.array_equal(reached[1:], usable[1:])


@pytest.mark.parametrize("labels", [[0, 0, 1, 1, 1, 2], np.array([[0, 1, 0, 1, 2, 2]] * 3)])
def test_the_contrast_of_tokens_in_float64(labels):
    tokens = np.random.default_rng(0).normal(size=(3, 6, 5))
    unit = tokens / np.linalg.norm(tokens, axis=-1, keepdims=True)
    labels, anchors = np.broadcast_to(labels, (3, 6)), []
    for row in range(3):
        logits = unit[row] @ unit[row].T / 0.3
        for i in range(6):
            others = [j for j in range(6) if j != i]
            alike = [j for j in others if labels[row, j] == labels[row, i]]
            gains = [logsumexp(logits[i, others]) - logits[i, j] for j in alike]
            anchors.append(np.mean(gains) if gains else 0.0)
    found = losses.token_sup_con(tokens, labels, temperature=0.3)
    assert float(found) == pytest.approx(np.mean(anchors), rel=1e-5)


def test_the_contrast_refuses_what_has_no_tokens():
    with pytest.raises(ValueError, match="received shapes"):
        losses.token_sup_con(np.ones((4, 3)), [0, 0, 1])
    with pytest.raises(ValueError, match="2 or more tokens"):
        losses.token_sup_con(np.ones((4, 1, 3)), [0])


# --- batches ---


def test_groups_that_are_not_whole_are_named():
    model = small()
    model.compile(keras.optimizers.SGD(0.1), run_eagerly=True)
    with pytest.raises(ValueError, match="whole groups of 4 rows. Use a multiple of 4"):
        model.fit(images(12), batch_size=6, verbose=0)
    data = tf.data.Dataset.from_tensor_slices(images(6)).batch(6, drop_remainder=True)
    with pytest.raises(ValueError, match="multiple of 4"):
        model.evaluate(data, verbose=0)
    with pytest.raises(ValueError, match="groups of 4.*Received 6"):
        model.train_on_batch(images(6))
    with pytest.raises(ValueError, match="6 make no whole groups"):
        model.reconstruct(images(6))
    assert model.reconstruct(images(4))["reconstruction"].shape == (4, 16, 16, 3)
    with pytest.raises(ValueError, match="3 components cannot share 16 tokens"):
        small(components=3)
    with pytest.raises(ValueError, match="at least 1 component"):
        small(components=0)


@pytest.mark.parametrize("form", ["array", "dataset"])
def test_a_short_last_batch_is_left_out(form):
    model, x = small(), images(11)
    model.compile(keras.optimizers.SGD(0.1), run_eagerly=True)
    data = x if form == "array" else tf.data.Dataset.from_tensor_slices(x).batch(8)
    model.fit(data, batch_size=8 if form == "array" else None, verbose=0)
    assert int(model.optimizer.iterations) == 1
