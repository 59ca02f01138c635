# SPDX-License-Identifier: Apache-2.0
"""The vision transformer as an ordinary Keras model, and what it gives besides."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_ssl import backbones, tokens
from keras_ssl.layers._encoder import for_sizes

SMALL = {"width": 24, "depth": 3, "heads": 2, "seed": 0}


def vit(**options):
    return backbones.VisionTransformer("tiny", (16, 16, 3), 4, **{**SMALL, **options})


def images(height=16, width=16, rows=2, seed=0):
    return np.random.default_rng(seed).uniform(size=(rows, height, width, 3)).astype("float32")


def test_sizes_are_those_of_the_papers():
    # Parameters of DeiT-Ti/16 at 224 without its classifier (timm counts 5,524,416).
    assert backbones.VisionTransformer("tiny").count_params() == 5_524_416 - 192
    assert backbones.VisionTransformer("small", (32, 32, 3), 4).output_shape == (None, 384)
    assert backbones.get("vit_tiny", (32, 32, 3), depth=1).patch == (4, 4)
    assert backbones.get("vit_tiny", (112, 112, 3), depth=1).patch == (16, 16)


def test_outputs():
    x = images()
    every = vit(tokens=True, registers=2)(x)
    assert every.shape == (2, 1 + 2 + 16, 24)
    np.testing.assert_allclose(vit(registers=2)(x), every[:, 0], atol=1e-6)
    mean = vit(registers=2, pooling="mean")(x)
    np.testing.assert_allclose(mean, np.mean(every[:, 3:], axis=1), atol=1e-5)
    without = vit(class_token=False)
    assert without.output_shape == (None, 24) and without.prefix.count == 0


def test_several_layers_of_one_call():
    x = images()
    first, last = vit(layers=[1, 3])(x)
    assert np.array_equal(last, vit()(x)) and not np.allclose(first, last)
    np.testing.assert_allclose(first, vit(depth=1)(x), atol=1e-6)


@pytest.mark.parametrize("positions", ["learned", "sincos", "rotary"])
def test_positions_tell_patches_apart_and_fit_other_images(positions):
    model = vit(positions=positions)
    if positions == "learned":
        model.positions.set_weights([np.random.default_rng(0).normal(size=(16, 24))])
    x = images()
    shuffled = tokens.unpatchify(tokens.patchify(x, (4, 4))[:, ::-1], (4, 4))
    assert np.abs(model(shuffled) - model(x)).max() > 1e-5
    assert model(images(24, 32)).shape == (2, 24)
    assert model.predict(images(24, 16), verbose=0).shape == (2, 24)
    small = for_sizes(model, [(16, 16), (8, 8)])
    np.testing.assert_allclose(small(images(8, 8)), model(images(8, 8)), atol=1e-6)


@pytest.mark.slow
def test_it_saves_clones_and_exports(tmp_path):
    model, x = (
        vit(registers=1, layer_scale=0.1, drop_path=0.1, positions="rotary", width=32),
        images(),
    )
    want = model.predict(x, verbose=0)
    model.save(tmp_path / "vit.keras")
    loaded = keras.models.load_model(tmp_path / "vit.keras")
    assert isinstance(loaded, backbones.VisionTransformer)
    assert np.array_equal(loaded.predict(x, verbose=0), want)
    model.export(str(tmp_path / "served"), verbose=False)
    served = tf.saved_model.load(str(tmp_path / "served"))
    np.testing.assert_allclose(served.serve(x), want, atol=1e-5)


def test_every_weight_learns_and_drop_path_rises():
    model = vit(registers=2, layer_scale=0.1, drop_path=0.2)
    assert [block.drop_path for block in model.blocks] == [0.0, 0.1, 0.2]
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(model(images(), training=True) ** 2 * np.arange(24.0))
    gradients = tape.gradient(loss, model.trainable_variables)
    still = [v.path for v, g in zip(model.trainable_variables, gradients, strict=True) if g is None]
    assert not still


def test_seeds_fix_the_weights_and_parts_differ():
    first, second, other = vit(), vit(), vit(seed=1)
    for a, b in zip(first.get_weights(), second.get_weights(), strict=True):
        assert np.array_equal(a, b)
    kernels = [b.attention.qkv.kernel for b in (*first.blocks, *other.blocks)]
    assert len({np.asarray(k).tobytes() for k in kernels}) == 6


@pytest.mark.parametrize("dtype", ["mixed_bfloat16", "mixed_float16"])
def test_half_precision_is_near(dtype):
    want = vit()(images())
    got = vit(dtype=dtype)
    assert got.compute_dtype == dtype.removeprefix("mixed_")
    assert got.blocks[0].attention.qkv.kernel.dtype == "float32"
    np.testing.assert_allclose(np.asarray(got(images()), "float32"), want, atol=0.1)


def test_masked_patches_are_not_seen():
    model, x = vit(), images()
    masked = model.token_model(tokens.MaskToken("ones"))
    nothing = np.zeros((2, 4, 4), "float32")
    assert np.array_equal(masked([x, nothing]), model.token_model()(x))
    mask, other = nothing.copy(), x.copy()
    mask[:, 1, 2] = 1
    other[:, 4:8, 8:12] = 0.0
    assert np.array_equal(masked([x, mask]), masked([other, mask]))
    assert not np.array_equal(masked([x, nothing]), masked([other, nothing]))
    with pytest.raises(ValueError, match="rising order"):
        model.token_model(layers=[4])


def test_attention_maps_are_those_of_the_class_token():
    model, x = vit(registers=1), images()
    maps = np.asarray(model.attention_maps(x))
    assert maps.shape == (2, 2, 4, 4) and np.all(maps > 0)
    tail = keras.Model(model.input, model.blocks[-1].input)
    weights = model.blocks[-1].attention_weights(tail(x))
    np.testing.assert_allclose(maps.reshape(2, 2, 16), weights[:, :, 0, 2:], atol=1e-6)
    np.testing.assert_allclose(np.sum(weights, axis=-1), 1.0, atol=1e-5)
    assert not np.allclose(maps, model.attention_maps(x, block=0))
    with pytest.raises(ValueError, match="class token"):
        vit(class_token=False).attention_maps(x)


WRONG = {
    "size": ({"size": "huge"}, "size must be"),
    "pooling": ({"class_token": False, "pooling": "class"}, "class_token=True"),
    "positions": ({"positions": "fourier"}, "positions must be"),
    "layers": ({"layers": [3, 1]}, "rising order"),
    "heads": ({"heads": 5}, "do not divide"),
    "open": ({"input_shape": (None, None, 3)}, "positive integers"),
    "patch": ({"patch": 5}, "does not tile"),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_arguments(name):
    options, message = WRONG[name]
    with pytest.raises(ValueError, match=message):
        backbones.VisionTransformer(**{"input_shape": (16, 16, 3), "patch": 4, **SMALL, **options})
