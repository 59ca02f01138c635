# SPDX-License-Identifier: Apache-2.0
"""Tokenizers, positions and transformer blocks against independent forms of the same."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import ops
from strategies import strategy

from keras_ssl import tokens
from keras_ssl.core import Teacher


def normal(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype("float32")


# --- patches ---------------------------------------------------------------------------------

CONVOLUTIONS = {1: keras.layers.Conv1D, 2: keras.layers.Conv2D, 3: keras.layers.Conv3D}


@pytest.mark.parametrize("patch", [(4,), (2, 3), (2, 3, 2)], ids=str)
def test_tokenizer_is_a_strided_convolution(patch):
    x = normal(2, *(2 * p for p in patch), 3)
    layer = tokens.PatchTokenizer(patch, 5, seed=1)
    got = layer(x)
    twin = CONVOLUTIONS[len(patch)](5, patch, patch)
    twin.build(x.shape)
    kernel, bias = layer.get_weights()
    twin.set_weights([kernel.reshape(*patch, 3, 5), bias])
    np.testing.assert_allclose(got, twin(x), atol=1e-5)
    assert layer.compute_output_shape(x.shape) == tuple(got.shape)


@pytest.mark.parametrize("patch", [(4,), (2, 3), (2, 3, 2)], ids=str)
def test_unpatchify_is_the_inverse(patch):
    x = normal(2, *(3 * p for p in patch), 2)
    cut = tokens.patchify(x, patch)
    assert tuple(cut.shape) == (2, *[3] * len(patch), 2 * int(np.prod(patch)))
    assert np.array_equal(tokens.unpatchify(cut, patch), x)


def test_open_sizes_are_cut_as_they_come():
    function = tf.function(
        lambda x: tokens.patchify(x, (2, 2)), input_signature=[tf.TensorSpec((None, None, None, 3))]
    )
    x = normal(3, 4, 6, 3)
    assert np.array_equal(function(x), tokens.patchify(x, (2, 2)))


def test_channels_that_a_pipeline_lost_are_known_to_the_layer():
    layer = tokens.PatchTokenizer((2, 2), 4)
    x = normal(3, 4, 6, 1)
    want = layer(x)
    signature = [tf.TensorSpec((None, 4, 6, None))]
    assert np.array_equal(tf.function(layer, input_signature=signature)(x), want)


def test_patches_that_do_not_tile_are_refused():
    with pytest.raises(ValueError, match="does not tile"):
        tokens.PatchTokenizer((4, 4), 8)(normal(1, 30, 32, 3))
    with pytest.raises(ValueError, match="cuts 2 axes"):
        tokens.patchify(normal(1, 32, 3), (4, 4))
    with pytest.raises(ValueError, match="multiple of 4"):
        tokens.unpatchify(normal(1, 2, 2, 6), (2, 2))
    with pytest.raises(ValueError, match="at least 1"):
        tokens.PatchTokenizer((0, 4), 8)


# --- positions -------------------------------------------------------------------------------


def test_the_halves_of_mae_and_ijepa_are_swapped():
    mae, jepa = (tokens.sincos_table((3, 5), 16, order=order) for order in ((1, 0), None))
    assert np.array_equal(mae, np.roll(jepa, 8, axis=1)) and not np.allclose(mae, jepa)


def test_sincos_is_the_written_formula():
    table = tokens.sincos_table((2, 3), 8, prefix=1)
    assert np.all(table[0] == 0)
    row, column = 1, 2
    code = [
        f(p * 10000.0 ** (-i / 2)) for p in (row, column) for f in (np.sin, np.cos) for i in (0, 1)
    ]
    np.testing.assert_allclose(table[1 + row * 3 + column], code, rtol=1e-12)


@pytest.mark.parametrize(
    "settings", [{"width": 10}, {"split": "thirds"}, {"split": (4, 8)}], ids=str
)
def test_widths_that_cannot_be_shared_are_refused(settings):
    with pytest.raises(ValueError, match="split|even number"):
        tokens.sincos_table((2, 2), **{"width": 16, **settings})


def test_resizing_keeps_constants_and_lines():
    for method in ("bicubic", "bilinear"):
        for antialias in (False, True):
            matrix = tokens.resize_matrix(8, 5, method, antialias)
            np.testing.assert_allclose(matrix.sum(axis=1), 1.0, atol=1e-12)
            line = matrix @ np.arange(8.0)
            # Far from the border a line stays a line.
            np.testing.assert_allclose(np.diff(line)[1:-1], 8 / 5, atol=0.15)
    assert np.array_equal(tokens.resize_matrix(4, 4), np.eye(4))


def test_learned_positions_fit_other_grids_and_learn_from_them():
    layer = tokens.LearnedPositions(seed=0)
    same = layer(np.zeros((1, 4, 4, 6), "float32"))
    np.testing.assert_allclose(np.reshape(same, (16, 6)), layer.get_weights()[0], atol=0)
    with tf.GradientTape() as tape:
        other = layer(np.zeros((2, 6, 3, 6), "float32"))
        loss = ops.sum(other**2)
    wanted = tokens.interpolate_positions(layer.get_weights()[0], (4, 4), (6, 3))
    np.testing.assert_allclose(np.reshape(other[1], (18, 6)), wanted, atol=1e-7)
    assert np.abs(tape.gradient(loss, layer.trainable_variables)[0]).max() > 0
    again = tokens.LearnedPositions.from_config(layer.get_config())
    assert again.grid == (4, 4)


def test_an_open_grid_is_refused():
    with pytest.raises(ValueError, match="grid is known"):
        tokens.SinCosPositions().call(keras.KerasTensor((None, None, 4, 8)))
    with pytest.raises(ValueError, match="does not hold"):
        tokens.interpolate_positions(normal(17, 4), (4, 4), (6, 6))


def attention_scores(angles, shape):
    """Scores of one query and one key that stand everywhere."""
    query, key = normal(8, seed=1), normal(8, seed=2)
    every = [np.broadcast_to(v, (1, 1, angles.shape[1], 8)) for v in (query, key)]
    q, k = (np.asarray(tokens.rotate(v, angles))[0, 0] for v in every)
    return (q @ k.T).reshape(*shape, *shape)


def test_rotary_scores_depend_on_the_distance_alone():
    angles = tokens.RotaryPositions(8)(np.zeros((1, 4, 5, 3), "float32"))
    scores = attention_scores(angles, (4, 5))
    np.testing.assert_allclose(scores[0, 0, 2, 1], scores[1, 3, 3, 4], rtol=1e-4)
    assert not np.isclose(scores[0, 0, 2, 1], scores[0, 0, 1, 2], rtol=1e-2)


def test_rotary_leaves_tokens_in_front_and_stretches_to_its_grid():
    grid = np.zeros((1, 4, 4, 3), "float32")
    angles = np.asarray(tokens.RotaryPositions(8, prefix=2)(grid))
    assert np.all(angles[0, :3] == 1) and np.all(angles[1, :3] == 0)
    half = np.asarray(tokens.RotaryPositions(8, grid=(2, 2))(grid)).reshape(2, 4, 4, 4)
    whole = np.asarray(tokens.RotaryPositions(8)(np.zeros((1, 2, 2, 3)))).reshape(2, 2, 2, 4)
    np.testing.assert_allclose(half[:, ::2, ::2], whole, atol=1e-6)
    with pytest.raises(ValueError, match="multiple of 4"):
        tokens.RotaryPositions(6)(grid)


# --- blocks ----------------------------------------------------------------------------------


def test_attention_is_that_of_keras():
    x, mask = normal(2, 7, 12), np.arange(7) < np.array([[7], [4]])
    layer = tokens.SelfAttention(3, seed=0)
    layer(x)
    layer.set_weights([normal(*w.shape, seed=i) * 0.3 for i, w in enumerate(layer.get_weights())])
    qkv, bias, out, out_bias = layer.get_weights()
    twin = keras.layers.MultiHeadAttention(3, 4)
    twin.build(x.shape, x.shape)
    split = [w.reshape(*w.shape[:-1], 3, 3, 4) for w in (qkv, bias)]
    parts = [w[..., index, :, :] for index in range(3) for w in split]
    # Keras keeps queries, keys, values and the output in this order.
    query, key, value = parts[:2], parts[2:4], parts[4:]
    twin.set_weights([*query, *key, *value, out.reshape(3, 4, 12), out_bias])
    for given, keras_mask in ((None, None), (mask, mask[:, None, :])):
        want, weights = twin(x, x, attention_mask=keras_mask, return_attention_scores=True)
        np.testing.assert_allclose(layer(x, padding_mask=given), want, atol=2e-5)
        np.testing.assert_allclose(layer.attention_weights(x, given), weights, atol=1e-5)


def test_padding_changes_nothing_for_the_others():
    block = tokens.TransformerBlock(2, layer_scale=0.5, seed=0)
    x = normal(1, 6, 8)
    want = block(x)
    padded = np.concatenate([x, 100 * normal(1, 3, 8, seed=1)], axis=1)
    got = block(padded, padding_mask=np.arange(9)[None] < 6)
    np.testing.assert_allclose(got[:, :6], want, atol=1e-5)
    assert np.abs(block(padded)[:, :6] - want).max() > 1e-4
    nothing = block(padded, padding_mask=np.zeros((1, 9), bool))
    assert np.all(np.isfinite(nothing))


def test_blocks_do_not_know_the_order_of_tokens():
    block = tokens.TransformerBlock(2, activation="swiglu", seed=0)
    x, order = normal(2, 6, 8), np.random.default_rng(1).permutation(6)
    np.testing.assert_allclose(block(x[:, order]), np.asarray(block(x))[:, order], atol=1e-5)


@pytest.mark.parametrize("activation", ["gelu", "relu", "swiglu"])
def test_feed_forward_is_the_written_formula(activation):
    layer = tokens.FeedForward(5, activation, seed=0)
    x = normal(3, 4)
    got = layer(x)
    rise, _, fall, _ = layer.get_weights()
    hidden = tf.constant(x @ rise)
    if activation == "swiglu":
        hidden = tf.nn.silu(hidden[:, :5]) * hidden[:, 5:]
    elif activation == "relu":
        hidden = tf.nn.relu(hidden)
    else:
        hidden = hidden * 0.5 * (1 + tf.math.erf(hidden / 2**0.5))
    np.testing.assert_allclose(got, np.asarray(hidden) @ fall, atol=1e-6)


def test_unknown_settings_are_refused():
    with pytest.raises(ValueError, match="do not divide"):
        tokens.SelfAttention(3)(normal(1, 2, 8))
    with pytest.raises(ValueError, match="activation"):
        tokens.FeedForward(4, "tanh")
    with pytest.raises(ValueError, match="registers"):
        tokens.PrefixTokens(registers=-1)


def test_paths_are_dropped_for_whole_samples():
    layer = tokens.DropPath(0.25, seed=3)
    kept = np.asarray(layer(np.ones((4000, 2, 3), "float32"), training=True))
    assert set(np.unique(kept)) == {0.0, np.float32(1 / 0.75)}
    assert np.all(kept == kept[:, :1, :1])
    assert np.mean(kept[:, 0, 0] > 0) == pytest.approx(0.75, abs=0.03)
    again = np.asarray(layer(np.ones((4000, 2, 3), "float32"), training=True))
    assert not np.array_equal(kept, again)
    assert np.all(np.asarray(layer(np.ones((4, 2, 3), "float32"))) == 1)


def test_replicas_drop_the_rows_of_the_global_batch():
    rows = np.ones((16, 1), "float32")
    want = np.asarray(tokens.DropPath(0.5, seed=3)(rows, training=True))[:, 0]
    devices = strategy(2)
    with devices.scope():
        layer = tokens.DropPath(0.5, seed=3)
    run = tf.function(
        lambda: devices.run(lambda: layer(tf.ones((8, 1)), training=True)), autograph=False
    )
    got = np.concatenate([np.asarray(v) for v in devices.experimental_local_results(run())])
    assert np.array_equal(got[:, 0], want)
    assert not np.array_equal(want[:8], want[8:])


def test_a_teacher_never_drops():
    inputs = keras.Input((2, 3))
    student = keras.Model(inputs, keras.layers.Dropout(0.5)(tokens.DropPath(0.5)(inputs)))
    x = normal(8, 2, 3)
    assert np.array_equal(Teacher(student)(x, training=True), x)
    assert not np.array_equal(student(x, training=True), x)


def test_mask_token_replaces_where_the_mask_says_so():
    layer = tokens.MaskToken("ones")
    x, mask = normal(2, 3, 4), np.array([[1, 0, 0], [0, 1, 1]], bool)
    got = np.asarray(layer(x, mask))
    assert np.all(got[mask] == 1) and np.array_equal(got[~mask], x[~mask])


LAYERS = {
    "PatchTokenizer": lambda: (tokens.PatchTokenizer((2, 2), 8, seed=0), normal(1, 4, 4, 3)),
    "LearnedPositions": lambda: (tokens.LearnedPositions((2, 2), seed=0), normal(1, 3, 3, 8)),
    "SinCosPositions": lambda: (tokens.SinCosPositions(order=(1, 0)), normal(1, 3, 3, 8)),
    "RotaryPositions": lambda: (tokens.RotaryPositions(8, 1, (2, 2)), normal(1, 3, 3, 8)),
    "PrefixTokens": lambda: (tokens.PrefixTokens(True, 2, seed=0), normal(1, 3, 3, 8)),
    "SelfAttention": lambda: (tokens.SelfAttention(2, False, seed=0), normal(1, 3, 8)),
    "FeedForward": lambda: (tokens.FeedForward(4, "swiglu", seed=0), normal(1, 3, 8)),
    "LayerScale": lambda: (tokens.LayerScale(0.3), normal(1, 3, 8)),
    "TransformerBlock": lambda: (
        tokens.TransformerBlock(2, 2.0, "swiglu", False, 0.1, 0.5, seed=0),
        normal(1, 3, 8),
    ),
    "PostNormBlock": lambda: (tokens.PostNormBlock(2, 2.0, seed=0), normal(1, 3, 8)),
    "SequenceAggregator": lambda: (tokens.SequenceAggregator(2, 2, seed=0), normal(2, 3, 8)),
    "FutureChunkPredictor": lambda: (
        tokens.FutureChunkPredictor(3, 8, 1, 2, seed=0),
        normal(2, 3, 4),
    ),
}


@pytest.mark.parametrize("name", LAYERS)
def test_a_layer_comes_back_from_its_config(name):
    layer, x = LAYERS[name]()
    want = np.asarray(layer(x))
    config = keras.saving.serialize_keras_object(layer)
    again = keras.saving.deserialize_keras_object(config)
    np.testing.assert_array_equal(again(x), want)
    assert tuple(layer.compute_output_shape(x.shape)) == want.shape
