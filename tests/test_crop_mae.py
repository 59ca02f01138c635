# SPDX-License-Identifier: Apache-2.0
"""CropMAE: crops of crops, attention to a second view, and what a prediction depends on."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from model_test import images, nested_views, one_view, small_transformer
from strategies import strategy
from test_masked import digit_encoder, digits

from keras_ssl import models, optimizers, tokens, views
from keras_ssl.core import distribution
from keras_ssl.views.multi import OUTER

pytestmark = pytest.mark.usefixtures("without_graphs")

SEED = distribution.fixed_seed(3)
DECODER = (12, 1, 2)


def normal(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype("float32")


def crop_mae(encoder=None, **options):
    defaults = {"masking": 0.9, "decoder": DECODER, "views": nested_views(), "seed": 0}
    return models.CropMAE(encoder or small_transformer(), **{**defaults, **options})


# --- views ---


def test_nested_views_are_made_of_one_view():
    outer = views.Pipeline([views.RandomResizedCrop(16, area=(0.1, 0.5))])
    same = views.Pipeline([views.HorizontalFlip(0.0)])
    inner = views.Pipeline([views.RandomResizedCrop(16, area=(0.3, 0.6))])
    nested, x = views.Nested(outer, [(same, 1), (inner, 2)]), images(4)
    whole, *parts = nested(x, seed=5)
    seed = distribution.fixed_seed(5)
    np.testing.assert_allclose(whole, outer(x, seed=distribution.fold_in(seed, OUTER)), atol=1e-6)
    for index, part in enumerate(parts, start=1):
        want = inner(whole, seed=distribution.fold_in(seed, index))
        np.testing.assert_allclose(part, want, atol=1e-6)
    assert nested.count == 3 and nested.sizes == [(16, 16)] * 3
    config = keras.saving.serialize_keras_object(nested)
    again = keras.saving.deserialize_keras_object(config)
    for mine, theirs in zip(nested(x, seed=5), again(x, seed=5), strict=True):
        np.testing.assert_array_equal(mine, theirs)
    with pytest.raises(ValueError, match="images of 0..1"):
        views.Nested(views.get("mae").pipelines[0], [(same, 1)])


def test_a_strategy_is_the_name_of_its_views():
    def areas(name, shape=(32, 32, 3)):
        made = views.get(name, shape)
        crops = [[m.area for m in p.transforms if hasattr(m, "area")] for p in made.each()]
        outer = getattr(made, "outer", None)
        return crops, None if outer is None else outer.transforms[0].area

    whole, part = (0.1, 1.0), (0.3, 0.6)
    assert areas("crop_mae") == ([[], [part]], whole)
    assert areas("crop_mae", (224, 224, 3)) == ([[], [part]], whole)
    assert areas("crop_mae_local_to_global") == ([[part], []], whole)
    assert areas("crop_mae_random") == ([[whole], [whole]], None)
    assert areas("crop_mae_same") == ([[whole]], None)
    for name in ("crop_mae", "crop_mae_local_to_global"):
        # As the encoder gets it afterwards: the whole image, of the views' size, normalised.
        large = views.get(name, (16, 16, 3))
        want = views.get("mae", (16, 16, 3)).preprocess(images(2))
        np.testing.assert_allclose(large.preprocess(images(2)), want, atol=1e-6)
        assert large.preprocess(np.zeros((1, 24, 24, 3), "uint8")).shape == (1, 16, 16, 3)


def test_one_view_stands_in_both_places():
    for given in (one_view(), None):
        made = crop_mae(views=given).make_views(images(4))
        assert np.array_equal(made["reference"], made["inputs"])
    two = crop_mae().make_views(images(4))
    assert not np.allclose(two["reference"], two["inputs"])


# --- what is predicted from what ---


def test_the_hidden_part_changes_the_target_only_and_the_reference_the_prediction():
    model = crop_mae(target="pixels")
    made = model.make_views(images(4))

    def predict(seen):
        encoded = model.encode(seen["inputs"], seen["plan"])
        predicted = model.decoder_for(seen)(encoded, plan=seen["plan"], grid=(4, 4))
        return np.asarray(predicted), float(model.compute_losses(seen, False)["reconstruction"])

    hidden = np.asarray(tokens.spread(made["plan"].mask, (4, 4), (4, 4)))
    assert hidden.mean() == 15 / 16
    other = np.where(hidden > 0, 0.5, made["inputs"]).astype("float32")
    noise = normal(*other.shape)
    wanted, loss = predict(made)
    same, of_other = predict({**made, "inputs": other})
    changed, of_changed = predict({**made, "reference": noise})
    assert np.array_equal(same, wanted) and of_other != loss
    assert not np.allclose(changed, wanted) and of_changed != loss
    with tf.GradientTape() as tape:
        tape.watch(made["reference"])
        loss = model.compute_losses(made, False)["reconstruction"]
    assert np.any(tape.gradient(loss, made["reference"]))


def test_where_things_are_in_the_reference_is_told_by_the_encoder_alone():
    model, made = crop_mae(), crop_mae().make_views(images(4))
    encoded = model.encode(made["inputs"], made["plan"])
    memory = normal(4, 17, 12)
    turned = memory[:, ::-1]
    found = [
        model.decoder(encoded, plan=made["plan"], grid=(4, 4), memory=m) for m in (memory, turned)
    ]
    np.testing.assert_allclose(*found, atol=1e-5)


def test_pictures_show_the_second_view():
    model, x = crop_mae(), images(2)
    made = model.views_to_show(x, distribution.fixed_seed(4))
    found = model.reconstruct(x, seed=4)
    np.testing.assert_array_equal(found["original"], made["inputs"])
    assert found["reconstruction"].shape == x.shape


# --- layers ---


def test_cross_attention_is_that_of_keras():
    queries, keys, values = normal(2, 3, 12), normal(2, 7, 8, seed=1), normal(2, 7, 8, seed=2)
    layer = tokens.CrossAttention(3, seed=0)
    layer.build(queries.shape, keys.shape)
    layer.set_weights([normal(*w.shape, seed=i) * 0.3 for i, w in enumerate(layer.get_weights())])
    twin = keras.layers.MultiHeadAttention(3, 4)
    twin.build(queries.shape, keys.shape)
    # Keras wants values before keys, and has an offset of keys that changes nothing.
    query, query_bias, key, value, value_bias, out, out_bias = layer.get_weights()
    split = [w.reshape(*w.shape[:-1], 3, 4) for w in (query, query_bias, key, value, value_bias)]
    offset = normal(3, 4, seed=9)
    twin.set_weights([*split[:3], offset, *split[3:], out.reshape(3, 4, 12), out_bias])
    mask = np.arange(7) < np.array([[7], [4]])
    want = twin(queries, values, keys, attention_mask=mask[:, None, :])
    np.testing.assert_allclose(layer(queries, keys, values, padding_mask=mask), want, atol=2e-5)
    with pytest.raises(ValueError, match="do not divide"):
        tokens.CrossAttention(5)(queries, keys)


@pytest.mark.parametrize("block", [False, True])
def test_cross_layers_come_back_from_their_config(block):
    kind = tokens.CrossSelfBlock if block else tokens.CrossAttention
    layer = kind(2, dropout=0.3, seed=0)
    x, memory = normal(1, 3, 8), normal(1, 5, 8, seed=1)
    want = np.asarray(layer(x, memory))
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(layer))
    np.testing.assert_array_equal(again(x, memory), want)
    assert not np.array_equal(layer(x, memory, training=True), want)


def test_single_numbers_are_dropped_alike_on_all_devices():
    ones = np.ones((16, 40, 5), "float32")
    want = np.asarray(tokens.Dropout(0.25, seed=3)(ones, training=True))
    assert set(np.unique(want)) == {0.0, np.float32(1 / 0.75)}
    assert np.mean(want > 0) == pytest.approx(0.75, abs=0.03)
    assert 0 < np.mean(want[:, :1, :1] != want) < 1
    devices = strategy(2)
    with devices.scope():
        layer = tokens.Dropout(0.25, seed=3)
    run = tf.function(
        lambda: devices.run(lambda: layer(tf.ones((8, 40, 5)), training=True)), autograph=False
    )
    got = np.concatenate([np.asarray(v) for v in devices.experimental_local_results(run())])
    assert np.array_equal(got, want)


# --- mistakes ---


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"views": "cacr"}, "one view or two"),
        ({"decoder": tokens.TransformerDecoder(None, 12, 1, 2)}, "takes no memory="),
        ({"masking": 0.985}, "leaves no visible token of 16"),
    ],
)
def test_mistakes_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        crop_mae(**options)


# --- learning ---


@pytest.mark.slow
def test_what_is_learned_is_to_find_things_in_the_reference():
    """Errors in this setting: of the same view SAME, of a crop of it CROP; see the asserts."""
    x, _, rows = digits()
    outer = views.Pipeline([views.RandomResizedCrop(16, area=(0.3, 1.0))])
    inner = views.Pipeline([views.RandomResizedCrop(16, area=(0.3, 0.6))])
    same = views.Pipeline([views.HorizontalFlip(0.0)])
    nested, errors = views.Nested(outer, [(same, 1), (inner, 1)]), {}
    for name, given in {"same": outer, "crop": nested}.items():
        model = crop_mae(digit_encoder(), decoder=(32, 2, 4), target="pixels", views=given)
        model.compile(optimizers.AdamW(2e-3, beta_2=0.95, weight_decay=0.05))
        model.fit(np.tile(x[rows[:1280]], (15, 1, 1, 1)), batch_size=64, verbose=0)
        made = model.make_views(x[rows[1280:]])
        references = {
            "own": made["reference"],
            "none": tf.zeros_like(made["reference"]),
            "another": tf.roll(made["reference"], 1, axis=0),
        }
        for kind, reference in references.items():
            found = model.compute_losses({**made, "reference": reference}, False)
            errors[name, kind] = float(found["reconstruction"])
    print(errors)
    assert errors["same", "own"] < errors["crop", "own"]
    for name in ("same", "crop"):
        assert errors[name, "own"] < 0.7 * errors[name, "another"]
        assert errors[name, "own"] < 0.6 * errors[name, "none"]
