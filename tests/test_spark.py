# SPDX-License-Identifier: Apache-2.0
"""SparK: convolutional networks on a part of their images, and what decodes their maps."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras.layers import (
    Activation,
    AveragePooling2D,
    BatchNormalization,
    Conv2D,
    Dense,
    DepthwiseConv2D,
    GlobalAveragePooling2D,
    LayerNormalization,
    MaxPooling2D,
)
from model_test import images, strided_encoder
from strategies import run_on

from keras_ssl import backbones, evaluation, layers, models, targets, tokens
from keras_ssl.core import distribution

SEED = distribution.fixed_seed(3)


def floats(rows=4):
    return images(rows).astype("float32") / 255.0


def spark(encoder=None, **options):
    options = {"decoder": 8, "views": None, "seed": 0, **options}
    return models.SparK(encoder or strided_encoder(), **options)


def plan_of(model, x):
    return model.plan_for(x, model.masked_encoder, SEED)


def seen_at(plan, x, model):
    """Boolean `(B, sides, 1)` of the pixels of seen cells."""
    grid = model.masked_encoder.grid_of(x)
    return np.asarray(tokens.spread(plan.mask, grid, model.masked_encoder.patch)) < 0.5


def statistics(encoder):
    return [np.asarray(v) for v in encoder.non_trainable_variables if "moving" in v.path]


# --- what the network sees ---


@pytest.mark.parametrize("training", [False, True])
def test_what_hidden_cells_hold_does_not_matter(training):
    found, x = [], floats()
    for content in (0.5, np.nan):
        encoder = backbones.ResNet(18, (16, 16, 3), width=4, blocks=(1, 1, 1), seed=0)
        model = spark(encoder)
        plan = plan_of(model, x)
        other = np.where(seen_at(plan, x, model), x, content).astype("float32")
        maps = model.encode(other, plan, training=training)
        found.append([np.asarray(y) for y in maps] + statistics(encoder))
    assert [len(y) for y in found] == [2 + 2 * 9] * 2
    for first, second in zip(*found, strict=True):
        assert np.array_equal(first, second)
    for y in found[0][:2]:
        active = np.asarray(plan.mask).reshape(4, 4, 4, 1) < 0.5
        active = active.repeat(y.shape[1] // 4, 1).repeat(y.shape[2] // 4, 2)
        assert not np.any(y * ~active) and np.all(np.any(y != 0, axis=-1, keepdims=True) == active)


def test_what_is_seen_does_not_grow_into_what_is_not():
    """Of two seen cells far from each other, neither knows the other however deep the network."""
    inputs = x = keras.Input((16, 16, 3))
    for stride in (2, 1, 1, 2, 1, 1, 1, 1):
        x = Activation("tanh")(Conv2D(4, 5, stride, "same")(x))
    sparse = layers.SparseCNN(keras.Model(inputs, x))
    active = np.zeros((1, 4, 4, 1), bool)
    active[0, 0, 0] = active[0, 3, 3] = True
    first, second = floats(2)[:1], floats(2)[1:]
    mixed = first.copy()
    mixed[:, 12:, 12:] = second[:, 12:, 12:]
    for one, other in zip(sparse(first, active), sparse(mixed, active), strict=True):
        half = one.shape[1] // 2
        assert np.array_equal(one[:, :half, :half], other[:, :half, :half])
        assert not np.array_equal(one, other)


def next_net():
    """A block as ConvNeXt's in a model of its own, and sums by the operator."""

    def block(width):
        inputs = keras.Input((8, 8, width))
        x = LayerNormalization(epsilon=1e-6)(DepthwiseConv2D(7, padding="same")(inputs))
        x = Dense(width)(Activation("gelu")(Dense(4 * width)(x)))
        return keras.Model(inputs, inputs + x, name="block")

    inputs = keras.Input((32, 32, 3))
    x = block(6)(LayerNormalization()(Conv2D(6, 4, 4)(inputs)))
    x = Conv2D(8, 2, 2)(LayerNormalization()(x))
    return keras.Model(inputs, GlobalAveragePooling2D()(x))


def pooled_net():
    return keras.Sequential(
        [
            keras.Input((16, 16, 3)),
            Conv2D(4, 3, padding="same", activation="sigmoid"),
            AveragePooling2D(3, 2, "same"),
            keras.Sequential([Conv2D(6, 3, padding="same"), BatchNormalization()], name="inner"),
            MaxPooling2D(2),
        ]
    )


ENCODERS = {
    "resnet50": (
        lambda: backbones.ResNet(50, (64, 64, 3), "imagenet", width=4, blocks=(1, 1, 1, 1)),
        [f"stage{stage}_block1_relu3" for stage in (4, 3, 2, 1)] + [None],
    ),
    "convnet": (
        lambda: backbones.ConvNet((16, 16, 3), (4, 6, 8), stem_stride=2),
        ["relu_3", "relu_2", "relu_1"],
    ),
    "convnext": (next_net, [None, None, None]),
    "pooled": (pooled_net, [None, None]),
}


@pytest.mark.parametrize("name", list(ENCODERS))
def test_with_all_cells_seen_it_is_the_network(name):
    make, names = ENCODERS[name]
    encoder = layers.as_encoder(make())
    for variable in encoder.trainable_variables:
        # Residual branches that start at zero would show nothing.
        if "gamma" in variable.path:
            variable.assign(tf.ones_like(variable) * 0.7)
    copy = keras.models.clone_model(encoder)
    copy.set_weights(encoder.get_weights())
    sparse = layers.SparseCNN(encoder)
    x = np.random.default_rng(0).normal(size=(3, *sparse.sample_shape)).astype("float32")
    active = np.ones((3, *sparse.grid, 1), bool)
    for training in (False, True):
        maps = sparse(x, active, training)
        assert [None if y is None else (None, *y.shape[1:]) for y in maps] == sparse.encoded_shape
        pooled = np.asarray(maps[0]).mean((1, 2))
        want = np.asarray(copy(x, training=training))
        np.testing.assert_allclose(pooled, want, rtol=1e-4, atol=1e-5)
        if not training:
            for y, layer in zip(maps, names, strict=True):
                if layer is not None:
                    part = keras.Model(encoder.input, encoder.get_layer(layer).output)
                    np.testing.assert_allclose(y, part(x), rtol=1e-4, atol=1e-5)
    for mine, theirs in zip(statistics(encoder), statistics(copy), strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=1e-4, atol=1e-6)
    assert name == "convnext" or statistics(encoder)


def test_maps_of_a_resnet_are_those_of_its_stages():
    sparse = layers.SparseCNN(backbones.ResNet(50, (224, 224, 3), "imagenet", width=8))
    shapes = [(None, 7 * 2**i, 7 * 2**i, 256 // 2**i) for i in range(4)]
    assert sparse.encoded_shape == [*shapes, None]
    assert (sparse.patch, sparse.grid) == ((32, 32), (7, 7))
    assert layers.SparseCNN(strided_encoder(), scales=1).encoded_shape == [(None, 4, 4, 12), None]


def test_a_call_that_says_inference_stays_so():
    inputs = keras.Input((16, 16, 3))
    body = keras.Sequential(
        [keras.Input((16, 16, 3)), Conv2D(4, 3, 2, "same"), layers.batch_norm()]
    )
    encoder = keras.Model(inputs, body(inputs, training=False))
    sparse, before = layers.SparseCNN(encoder), statistics(encoder)
    sparse(floats(), np.ones((4, 8, 8, 1), bool), training=True)
    assert before and all(map(np.array_equal, before, statistics(encoder)))


def test_statistics_are_those_of_seen_positions():
    rng, norm = np.random.default_rng(0), layers.batch_norm(synchronized=False)
    x, active = rng.normal(size=(4, 6, 6, 3)) * 3 + 1, rng.uniform(size=(4, 6, 6, 1)) < 0.4
    norm.build(x.shape)
    norm.set_weights([rng.normal(size=3), rng.normal(size=3), np.zeros(3), np.ones(3)])
    seen = x[active[..., 0]]
    gamma, beta = (np.asarray(v) for v in (norm.gamma, norm.beta))
    want = (seen - seen.mean(0)) / np.sqrt(seen.var(0) + 1e-5) * gamma + beta
    got = np.asarray(layers.masked_batch_norm(norm, x * active, active, training=True))
    np.testing.assert_allclose(got[active[..., 0]], want, atol=1e-4)
    assert not np.any(got * ~active)
    np.testing.assert_allclose(norm.moving_mean, 0.1 * seen.mean(0), rtol=1e-4)
    np.testing.assert_allclose(norm.moving_variance, 0.9 + 0.1 * seen.var(0), rtol=1e-4)
    for training in (False, True):
        norm.trainable = not training
        still = layers.masked_batch_norm(norm, x * active, active, training=training)
        dense = np.asarray(norm(x.astype("float32"), training=False))
        np.testing.assert_allclose(still, dense * active, atol=1e-4)


@pytest.mark.parametrize("synchronized", [True, False])
def test_replicas_share_statistics_where_the_layer_does(synchronized):
    rng, norm = np.random.default_rng(0), layers.batch_norm(synchronized=synchronized)
    # The second replica sees fewer positions than the first.
    share = np.array([0.9, 0.9, 0.2, 0.2]).reshape(4, 1, 1, 1)
    active = (rng.uniform(size=(4, 5, 5, 1)) < share).astype("float32")
    x = rng.normal(size=(4, 5, 5, 3)).astype("float32") * active
    norm.build(x.shape)

    def run(x, active):
        # A frozen copy of the statistics would do; only what comes out is looked at.
        return layers.masked_batch_norm(norm, x, active, training=True)

    (whole,) = run_on(1, run, x, active)
    halves = np.concatenate([np.asarray(part) for part in run_on(2, run, x, active)])
    assert np.allclose(whole, halves, atol=1e-5) == synchronized


# --- the model ---


def test_the_encoder_stays_an_ordinary_model(tmp_path):
    encoder, x = strided_encoder(), images(8)
    model = spark(encoder)
    assert model.encoder is encoder
    model.compile(keras.optimizers.Adam(0.01))
    before = [np.asarray(v) for v in encoder.weights]
    history = model.fit(x, batch_size=8, epochs=5, verbose=0).history["loss"]
    assert history[-1] < history[0]
    assert not any(np.array_equal(a, b) for a, b in zip(before, encoder.weights, strict=True))
    features = np.asarray(model(x))
    assert np.array_equal(features, encoder(x / np.float32(255.0)))
    encoder.save(tmp_path / "encoder.keras")
    loaded = keras.models.load_model(tmp_path / "encoder.keras", safe_mode=True)
    assert np.array_equal(features, loaded(x / np.float32(255.0)))


def test_shares_are_rounded_as_the_paper_does():
    model, x = spark(), floats()
    assert (np.asarray(plan_of(model, x).mask) < 0.5).sum(1).tolist() == [6] * 4
    assert model.masking.visible((7, 7)) == 20


def test_the_loss_is_that_of_hidden_cells():
    model, x = spark(target="pixels"), floats()
    plan = plan_of(model, x)
    made = np.asarray(model.reconstruct(x, seed=3)["reconstruction"])
    hidden = np.broadcast_to(~seen_at(plan, x, model), x.shape)
    assert np.array_equal(made[~hidden], x[~hidden])
    found = model.compute_losses({"inputs": x, "plan": plan}, False)["reconstruction"]
    assert float(found) == pytest.approx(np.mean((made - x)[hidden] ** 2), rel=1e-4)


def test_pictures_are_drawn():
    picture = evaluation.reconstruction_picture(spark(), images(2))
    assert picture.shape == (2 * 130 + 2, 3 * 130 + 2, 3)


def test_gaps_are_filled_before_decoding():
    model, x = spark(), floats()
    plan = plan_of(model, x)
    maps = model.encode(x, plan)
    active = np.asarray(plan.mask).reshape(4, 4, 4, 1) < 0.5
    for level, y in enumerate(maps):
        filled = np.asarray(model.decoder.fill(level, y, active))
        shown = active.repeat(2**level, 1).repeat(2**level, 2)[..., 0]
        assert np.all(filled[~shown] == np.asarray(model.decoder.fillings[level]))
        assert not np.any(filled[shown] == np.asarray(model.decoder.fillings[level]))


def test_networks_with_layer_norms_get_them_in_the_decoder():
    assert spark(next_net()).decoder.norm == "layer"
    model = spark()
    assert model.decoder.norm == "batch"
    # The smallest map of the decoder's own width is not projected.
    assert spark(decoder=12).decoder.projections[0] is None
    assert model.decoder.projections[0].kernel_size == (1, 1)
    assert model.decoder.projections[1].kernel_size == (3, 3)


def test_images_of_other_sizes():
    model = spark()
    x = np.random.default_rng(0).uniform(size=(2, 24, 16, 3)).astype("float32")
    plan = plan_of(model, x)
    assert plan.mask.shape == (2, 24)
    assert [y.shape[1:3] for y in model.encode(x, plan)] == [(6, 4), (12, 8)]
    with pytest.raises(ValueError, match=r"cells of \(4, 4\).* do not tile samples of \(18, 16\)"):
        plan_of(model, x[:, :18])


@pytest.mark.parametrize("rank", [1, 3])
def test_signals_and_volumes(rank):
    shape = (8,) * rank + (2,)
    conv = getattr(keras.layers, f"Conv{rank}D")
    inputs = x = keras.Input(shape)
    for width in (4, 6):
        x = Activation("relu")(layers.batch_norm()(conv(width, 3, 2, "same")(x)))
    model = spark(keras.Model(inputs, x))
    model.compile(keras.optimizers.SGD(0.1), run_eagerly=True)
    x = np.random.default_rng(0).normal(size=(4, *shape)).astype("float32")
    model.fit(x, batch_size=4, verbose=0)
    assert model(x).shape == (4, 6)
    assert model.reconstruct(x)["reconstruction"].shape == x.shape


# --- what is refused ---


def net(*parts, shape=(16, 16, 3)):
    """A network of two strided convolutions with parts in between."""
    inputs = x = keras.Input(shape)
    x = Conv2D(4, 3, 2, "same")(x)
    for part in parts:
        x = part(x)
    return keras.Model(inputs, GlobalAveragePooling2D()(Conv2D(4, 3, 2, "same")(x)))


def excitation(x):
    weight = keras.layers.Reshape((1, 1, 4))(GlobalAveragePooling2D(name="odd")(x))
    return keras.layers.Multiply()([x, weight])


REFUSED = {
    "Dropout": lambda: net(keras.layers.Dropout(0.1, name="odd")),
    "UpSampling2D": lambda: net(keras.layers.UpSampling2D(name="odd")),
    "Concatenate": lambda: net(lambda x: keras.layers.Concatenate(name="odd")([x, x])),
    "Subtract": lambda: net(lambda x: keras.layers.Subtract(name="odd")([x, x])),
    "GlobalAveragePooling2D": lambda: net(excitation),
    "SplitBatchNormalization": lambda: net(layers.SplitBatchNormalization(2, name="odd")),
    "LayerNormalization": lambda: net(LayerNormalization(axis=(1, 2), name="odd")),
    "BatchNormalization": lambda: net(BatchNormalization(axis=1, name="odd")),
    "Conv2D": lambda: net(Conv2D(4, 3, name="odd")),
    "Dense": lambda: keras.Sequential([net(), Dense(3, name="odd")]),
}


@pytest.mark.parametrize("kind", list(REFUSED))
def test_a_layer_that_cannot_be_sparse_is_named(kind):
    with pytest.raises(ValueError, match=rf"the layer 'odd' \({kind}\)"):
        spark(REFUSED[kind]())


def test_an_operation_that_cannot_be_sparse_is_named():
    with pytest.raises(ValueError, match=r"the layer 'multiply\w*' \(Multiply\)"):
        spark(net(lambda x: x * 2.0))
    with pytest.raises(ValueError, match=r"the layer 'add\w*' \(Add\)"):
        spark(net(lambda x: x + 2.0))
    vision = backbones.VisionTransformer("tiny", (16, 16, 3), 4, width=12, depth=1, heads=2)
    with pytest.raises(ValueError, match=r"\(PatchTokenizer\) is none of"):
        spark(vision)


@pytest.mark.parametrize("side", [18, 30])
def test_images_that_the_total_stride_does_not_divide(side):
    with pytest.raises(ValueError, match=r"multiple of the total stride \(here about 4\)"):
        spark(net(shape=(side, side, 3)))


def test_other_strides_and_sizes_are_refused():
    inputs = keras.Input((18, 18, 3))
    with pytest.raises(ValueError, match=r"the layer 'three' .*are not halved"):
        spark(keras.Model(inputs, Conv2D(4, 3, 3, "same", name="three")(inputs)))
    with pytest.raises(ValueError, match=r"maps of \(8, 8\) for samples of \(16, 32\)"):
        spark(keras.Sequential([keras.Input((16, 32, 3)), Conv2D(4, 3, (2, 4), "same")]))
    with pytest.raises(ValueError, match="as large as its samples"):
        spark(keras.Sequential([keras.Input((16, 16, 3)), Conv2D(4, 3, padding="same")]))
    with pytest.raises(ValueError, match="of known size"):
        spark(net(shape=(None, None, 3)))
    with pytest.raises(ValueError, match="at least 2"):
        spark(net(shape=(4, 4, 3)))


def test_parts_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="scales is at least 1"):
        spark(scales=0)
    with pytest.raises(ValueError, match="halves its width 2 times"):
        spark(decoder=3)
    with pytest.raises(ValueError, match="norm in"):
        layers.HierarchicalDecoder(norm="group")
    with pytest.raises(ValueError, match="every one of the 16 pixels"):
        spark(target=targets.HOGTarget((4, 4), cell=4))
    with pytest.raises(ValueError, match="predicts 7 values"):
        spark(decoder=layers.HierarchicalDecoder(7))
    with pytest.raises(ValueError, match="predicts all hidden tokens"):
        spark(decode=0.5)
    with pytest.raises(ValueError, match="leaves no visible token of 16"):
        spark(masking=0.99)
    with pytest.raises(ValueError, match="takes samples .batch, 16, 16, 3."):
        spark().make_views(images(2)[..., :1])
