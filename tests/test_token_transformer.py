# SPDX-License-Identifier: Apache-2.0
"""Transformers over any tokens: tables, padded sequences, shared blocks, what a step costs."""

import keras
import masked_step
import numpy as np
import pytest
import tensorflow as tf
from model_test import small_transformer

import keras_ssl
from keras_ssl import backbones, masking, tokens

ROW = {
    "numeric": np.arange(8, dtype="float32").reshape(4, 2),
    "categorical": np.array([[0], [1], [2], [1]], "int32"),
}


def table_encoder(**options):
    tokenizer = tokens.FeatureTokenizer(2, [3], 12, seed=0)
    shapes = {"numeric": (2,), "categorical": (1,)}
    return backbones.TokenTransformer(tokenizer, shapes, 1, 2, positions="none", seed=0, **options)


def test_columns_are_tokens_of_their_own():
    tokenizer = tokens.FeatureTokenizer(2, [3, 2], 6, seed=0)
    row = {**ROW, "categorical": np.array([[0, 1], [1, 0], [2, 1], [1, 1]])}
    found = np.asarray(tokenizer(row), "float64")
    weight, embedding, bias = (np.asarray(v, "float64") for v in tokenizer.weights)
    want = np.concatenate(
        [
            row["numeric"][..., None] * weight[None],
            embedding[row["categorical"] + np.array([0, 3])],
        ],
        axis=1,
    )
    np.testing.assert_allclose(found, want + bias, atol=1e-6)
    assert tokenizer.compute_output_shape({"numeric": (None, 2)}) == (None, 4, 6)


def test_large_numbers_and_codes_survive_half_precision():
    exact = tokens.FeatureTokenizer(1, [5000], 4, seed=0)
    half = tokens.FeatureTokenizer(1, [5000], 4, seed=0, dtype="mixed_float16")
    rows = {"numeric": np.full((2, 1), 3.0, "float32"), "categorical": np.array([[4097], [4098]])}
    a, b = (np.asarray(layer(rows), "float32") for layer in (exact, half))
    np.testing.assert_allclose(a, b, atol=2e-2)
    assert not np.array_equal(b[0, 1], b[1, 1])


def test_a_table_is_encoded_saved_and_masked(tmp_path):
    encoder = table_encoder()
    assert encoder.output_shape == (None, 12) and encoder.grid == (3,)
    before = np.asarray(encoder(ROW))
    encoder.save(tmp_path / "table.keras")
    np.testing.assert_array_equal(
        before, np.asarray(keras_ssl.load_model(tmp_path / "table.keras")(ROW))
    )
    plan = masking.plan_in_order(np.tile(np.array([[2, 0, 1]], "int32"), (4, 1)), 2)
    other = {**ROW, "numeric": ROW["numeric"] * np.array([1.0, 9.0], "float32")}
    assert np.array_equal(encoder.encode(ROW, plan), encoder.encode(other, plan))


def test_wrong_tables_are_refused():
    tokenizer = tokens.FeatureTokenizer(2, [3], 6)
    with pytest.raises(ValueError, match="was made for 1 categorical columns, the batch has 0"):
        tokenizer({"numeric": ROW["numeric"]})
    with pytest.raises(ValueError, match="made for 2 numeric columns, the batch has 1"):
        tokenizer({**ROW, "numeric": ROW["numeric"][:, :1]})
    with pytest.raises(ValueError, match="at least one column"):
        tokens.FeatureTokenizer(0)
    with pytest.raises(ValueError, match="width of at least 1"):
        tokens.EmbeddingTokenizer(0)


@pytest.mark.parametrize("pooling", ["class", "mean"])
def test_nobody_attends_to_padding(pooling, tmp_path):
    tokenizer = tokens.EmbeddingTokenizer(12, seed=0)
    shapes = {"vectors": (6, 5), "real": (6,)}
    encoder = backbones.TokenTransformer(tokenizer, shapes, 2, 2, pooling=pooling, seed=0)
    rng = np.random.default_rng(0)
    x = rng.normal(size=(3, 6, 5)).astype("float32")
    real = np.array([[True] * 4 + [False] * 2] * 3)
    other = np.where(real[..., None], x, 50.0).astype("float32")
    a, b = (np.asarray(encoder({"vectors": v, "real": real})) for v in (x, other))
    np.testing.assert_array_equal(a, b)
    whole = np.asarray(encoder({"vectors": x, "real": np.ones_like(real)}))
    assert not np.allclose(a, whole)
    encoder.save(tmp_path / "sequence.keras")
    loaded = keras_ssl.load_model(tmp_path / "sequence.keras")
    np.testing.assert_array_equal(a, loaded({"vectors": x, "real": real}))


def test_two_tokenizers_share_one_network():
    image = small_transformer(positions="sincos", depth=2)
    tokenizer = tokens.PatchTokenizer((4, 4, 4), 12, seed=1)
    volume = backbones.TokenTransformer(tokenizer, (8, 8, 8, 1), share=image)
    assert volume.blocks[1] is image.blocks[1] and volume.output_shape == (None, 12)
    x = np.random.default_rng(0).normal(size=(2, 8, 8, 8, 1)).astype("float32")
    before = np.asarray(volume(x))
    image.blocks[0].weights[2].assign(image.blocks[0].weights[2] * 2.0)
    assert not np.allclose(before, volume(x))


def test_other_sizes_of_a_volume():
    tokenizer = tokens.PatchTokenizer((4, 4, 4), 12, seed=0)
    encoder = backbones.TokenTransformer(tokenizer, (8, 8, 8, 1), 1, 2, seed=0)
    assert encoder(np.zeros((2, 12, 8, 16, 1), "float32")).shape == (2, 12)
    assert encoder.grid_of(np.zeros((2, 12, 8, 16, 1))) == (3, 2, 4)


def test_a_plan_that_replaces_needs_a_mask_token():
    encoder = small_transformer()
    plan = masking.MaskPlan(np.zeros((2, 16), "float32"))
    with pytest.raises(ValueError, match="this plan replaces tokens"):
        encoder.encode(np.zeros((2, 16, 16, 3), "float32"), plan)


def test_the_decoder_takes_sizes_and_plans_it_can_use():
    with pytest.raises(ValueError, match="needs width and heads of at least 1"):
        tokens.TransformerDecoder(3, 0)
    with pytest.raises(ValueError, match="say how many values"):
        tokens.TransformerDecoder().build((None, 3, 8))
    decoder = tokens.TransformerDecoder(7, 12, 1, 2, seed=0)
    encoded = np.random.default_rng(0).normal(size=(2, 1 + 16, 12)).astype("float32")
    plan = masking.MaskPlan(np.zeros((2, 16), "float32"))
    assert decoder(encoded, plan=plan, grid=(4, 4)).shape == (2, 16, 7)
    config = decoder.get_config()
    assert tokens.TransformerDecoder.from_config(config).get_config() == config


@pytest.mark.parametrize(
    "ratio", [0.75, *(pytest.param(share, marks=pytest.mark.slow) for share in (0.5, 0.9))]
)
def test_the_work_is_that_of_what_is_visible(ratio):
    """Operations as TensorFlow's profiler counts them, within 2 % of the formula."""
    model = masked_step.model_of(ratio)
    x = tf.zeros((4, 32, 32, 3))
    plan = model.plan_for(x, model.encoder, tf.constant([1, 2]))

    def loss(images):
        return model.compute_losses({"inputs": images, "plan": plan}, False)["reconstruction"]

    graph = tf.function(loss, autograph=False).get_concrete_function(x).graph
    profiler = tf.compat.v1.profiler
    options = {**profiler.ProfileOptionBuilder.float_operation(), "output": "none"}
    counted = profiler.profile(graph, options=options).total_float_ops
    wanted = 4 * 2 * masked_step.macs(model.masking.visible(model.encoder.grid))
    assert counted == pytest.approx(wanted, rel=0.02)


def test_positions_may_be_settings():
    flat = {"flat": True, "interleaved": True}
    encoder = small_transformer(positions=flat)
    table = tokens.sincos_table((4, 4), 12, **flat)
    zeros = keras.ops.zeros((1, 4, 4, 12))
    np.testing.assert_allclose(
        np.asarray(encoder.positions(zeros)).reshape(16, 12), table, atol=1e-6
    )
    with pytest.raises(ValueError, match="positions must be one of"):
        small_transformer(positions="absolute")
