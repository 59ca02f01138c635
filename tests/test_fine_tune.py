# SPDX-License-Identifier: Apache-2.0
"""Layer-wise learning-rate decay, and fine-tuning with labels."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from strategies import scope

from keras_ssl import backbones, evaluation, models, optimizers, schedules, views
from keras_ssl.evaluation import _fine_tune_data, _fine_tune_model, fine_tune
from keras_ssl.optimizers import AdamW, decay_of_layer, layer_decay_scales
from keras_ssl.views import Preprocessing

# --- which layer a variable is in ---------------------------------------------------------------


def transformer(size=8, patch=4, channels=1, **options):
    """A vision transformer of two blocks."""
    sizes = {"width": 16, "depth": 2, "heads": 2, "seed": 0, **options}
    return backbones.VisionTransformer("tiny", (size, size, channels), patch, **sizes)


def small_cnn():
    """Two stages, the first with a squeeze-and-excitation branch, behind a stem without a name."""
    inputs = keras.Input((16, 16, 1))
    x = keras.layers.Conv2D(4, 3, padding="same", use_bias=False, name="stem")(inputs)
    x = keras.layers.BatchNormalization(name="stem_norm")(x)
    x = keras.layers.Conv2D(4, 3, 2, padding="same", use_bias=False, name="one")(x)
    y = keras.layers.GlobalAveragePooling2D(keepdims=True)(x)
    x = x * keras.layers.Conv2D(4, 1, activation="sigmoid", name="squeeze")(y)
    x = keras.layers.Conv2D(8, 3, 2, padding="same", name="two")(x)
    x = keras.layers.Dropout(0.2)(keras.layers.GlobalAveragePooling2D()(x))
    return keras.Model(inputs, x, name="small")


def flat():
    """An encoder without weights."""
    return keras.Sequential([keras.Input((8, 8, 1)), keras.layers.Flatten()])


def test_our_transformer_follows_the_rule_of_the_published_names():
    encoder = transformer(registers=1, layer_scale=0.1)
    scales = layer_decay_scales(encoder, 0.5)
    assert set(scales) == {v.path for v in encoder.trainable_variables}
    layers = {"tokenizer": 0, "positions": 0, "prefix": 0, "block1": 1, "block2": 2, "norm": 3}
    assert {path.split("/")[0] for path in scales} == set(layers)
    for path, scale in scales.items():
        assert scale == 0.5 ** (3 - layers[path.split("/")[0]]), path
    torch = layer_decay_scales(["cls_token", "blocks.0.norm1.bias", "norm.weight"], 0.5, 2)
    assert list(torch.values()) == [0.125, 0.25, 1.0]
    # Without a depth it is that of the last name.
    assert layer_decay_scales(["pos_embed", "blocks.3.x"], 0.5) == {
        "pos_embed": 0.5**5,
        "blocks.3.x": 0.5,
    }


def test_a_convolutional_network_decays_by_stages():
    network = small_cnn()
    logits = keras.layers.Dense(3, name="head")(network.output)
    nested = keras.Sequential([keras.Input((16, 16, 1)), network, keras.layers.Dense(3)])
    for model in (keras.Model(network.input, logits), nested):
        scales = layer_decay_scales(model, 0.5)
        first = {path.split("/")[0]: scale for path, scale in scales.items()}
        want = {"stem": 0.125, "stem_norm": 0.125, "one": 0.25, "squeeze": 0.25, "two": 0.5}
        assert {name: first[name] for name in want} == want
        assert set(first.values()) == {*want.values(), 1.0}
    resnet = backbones.ResNet(18, (16, 16, 3), width=4, blocks=(1, 1, 1))
    scales = layer_decay_scales(resnet, 0.5)
    assert scales["stem_conv/kernel"] == scales["stage1_block1_conv1/kernel"] == 0.125
    assert scales["stage2_block1_shortcut_conv/kernel"] == 0.25
    assert scales["stage3_block1_norm2/gamma"] == 0.5


def test_layers_may_be_named_or_spared():
    scales = layer_decay_scales(transformer(), 0.5, exclude=["bias$", "norm/"])
    assert scales["block1/attention/qkv/bias"] == scales["block1/attention_norm/gamma"] == 1.0
    assert scales["block1/attention/qkv/kernel"] == 0.25
    names = ["deep/kernel", "shallow/kernel"]
    found = layer_decay_scales(names, 0.1, 4, layer_of=lambda name: 4 if "deep" in name else 0)
    np.testing.assert_allclose(list(found.values()), [0.1, 1e-5])


def test_layers_that_cannot_be_told_apart_say_so():
    dense = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])
    with pytest.raises(ValueError, match="pass layer_of and depth"):
        layer_decay_scales(dense, 0.5)
    with pytest.raises(ValueError, match="no trainable variables"):
        layer_decay_scales(keras.Sequential([keras.layers.Dense(2)]), 0.5)
    with pytest.raises(ValueError, match="No name has a block"):
        layer_decay_scales(["conv.weight"], 0.5, 3)
    with pytest.raises(ValueError, match="layer_of needs depth"):
        layer_decay_scales(["conv.weight"], 0.5, layer_of=lambda name: 0)
    with pytest.raises(ValueError, match="block 3, but the depth given is 2"):
        layer_decay_scales(["blocks.2.x"], 0.5, 2)
    with pytest.raises(ValueError, match="expected 0 to 3"):
        decay_of_layer(4, 2, 0.5)
    with pytest.raises(ValueError, match="decay is 1.5, expected 0 to 1"):
        decay_of_layer(1, 2, 1.5)
    inputs = keras.Input((8, 8, 1))
    x = keras.layers.Conv2D(1, 1, name="same")(inputs)
    half = keras.Input((4, 4, 1))
    inner = keras.Model(half, keras.layers.Conv2D(1, 1, name="same")(half))
    x = inner(keras.layers.MaxPooling2D()(x))
    with pytest.raises(ValueError, match="Two variables are called 'same/kernel'"):
        layer_decay_scales(keras.Model(inputs, x), 0.5)


# --- what an optimizer makes of it --------------------------------------------------------------


def rand(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype("float32")


def stepped(optimizer, values, steps=1, scale=1.0):
    """Values after some updates with fixed gradients."""
    variables = [keras.Variable(v, name=f"p{i}") for i, v in enumerate(values)]
    for step in range(steps):
        pairs = [
            (tf.constant(np.float32(scale) * rand(*v.shape, seed=10 * step + i)), variable)
            for i, (v, variable) in enumerate(zip(values, variables, strict=True))
        ]
        optimizer.apply_gradients(pairs)
    return [keras.ops.convert_to_numpy(v) for v in variables]


VALUES = [rand(5, 3), rand(3, seed=1), rand(3, 4, seed=2)]


def test_an_update_of_adam_is_exactly_scaled():
    zeros = [np.zeros_like(v) for v in VALUES]
    plain = stepped(AdamW(0.1, 0.3), zeros)
    scaled = stepped(AdamW(0.1, 0.3, multipliers={"p0": 0.25, "p1": 0.3, "p2": 0.0}), zeros)
    assert all(np.abs(v).min() > 0.0 for v in plain)
    # A power of two shifts the exponent, so nothing may be rounded.
    np.testing.assert_array_equal(scaled[0], 0.25 * plain[0])
    np.testing.assert_allclose(scaled[1], 0.3 * plain[1], rtol=1e-6)
    assert not scaled[2].any()
    # What parameter groups do not do: the scale of a gradient is lost in Adam.
    ignored = stepped(AdamW(0.1, 0.3), zeros, scale=0.25)
    np.testing.assert_allclose(ignored[0], plain[0], rtol=1e-3)


def test_decay_is_scaled_like_the_update():
    optimizer = AdamW(0.1, 0.3, multipliers={"p0": 0.5, "p2": 0.0})
    variables = [keras.Variable(v, name=f"p{i}") for i, v in enumerate(VALUES)]
    optimizer.apply_gradients([(tf.zeros_like(v), v) for v in variables])
    got = [keras.ops.convert_to_numpy(v) for v in variables]
    np.testing.assert_allclose(got[0], VALUES[0] * (1 - 0.5 * 0.1 * 0.3), rtol=1e-6)
    # The vector is not decayed, and a factor of 0 stops the decay too.
    np.testing.assert_array_equal(got[1], VALUES[1])
    np.testing.assert_array_equal(got[2], VALUES[2])


@pytest.mark.parametrize("schedule", [False, True])
def test_factors_of_one_are_the_plain_optimizer_bit_for_bit(schedule):
    rate = schedules.WarmupCosine(0.1, 6, warmup_steps=2) if schedule else 0.1
    theirs = stepped(keras.optimizers.AdamW(rate, weight_decay=0.3), VALUES, steps=4)
    ones = {"p0": 1.0, "p1": 1.0, "p2": 1.0}
    for multipliers in (None, ones):
        ours = AdamW(rate, 0.3, exclude_rank=-1, multipliers=multipliers)
        for got, want in zip(stepped(ours, VALUES, steps=4), theirs, strict=True):
            np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize("make", [AdamW, optimizers.SGD, optimizers.LARS])
def test_the_own_path_counts_before_patterns(make):
    optimizer = make(0.1, weight_decay=0.3, multipliers={"p": 0.5, "p1": 0.0})
    got = stepped(optimizer, VALUES, steps=3)
    np.testing.assert_array_equal(got[1], VALUES[1])
    assert np.abs(got[0] - VALUES[0]).max() > 0.0
    again = make.from_config(optimizer.get_config())
    assert again.get_config() == optimizer.get_config()
    assert again.multipliers == {"p": 0.5, "p1": 0.0}


@pytest.mark.parametrize("make", [AdamW, optimizers.SGD, optimizers.LARS])
def test_factors_are_checked(make):
    for factor in (-1.0, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="at least 0 and finite"):
            make(0.1, multipliers={"p": factor})
    with pytest.raises(ValueError, match="multipliers holds regular expressions"):
        make(0.1, multipliers={"(": 1.0})


def compiled(decay=0.5, replicas=1, jit=False, dtype=None, rate=0.01):
    """A small transformer under a head, with layer decay, built alike each time."""
    with scope(replicas):
        encoder = transformer(width=8, depth=1, dtype=dtype)
        start = keras.initializers.GlorotUniform(seed=1)
        head = keras.layers.Dense(3, kernel_initializer=start, dtype="float32", name="head")
        model = keras.Model(encoder.input, head(encoder.output))
        model.dtype_policy = encoder.dtype_policy
        scales = layer_decay_scales(model, decay)
        rate = schedules.WarmupCosine(rate, 8, warmup_steps=2, start=rate / 2)
        # A large epsilon: else Adam divides rounding errors by themselves.
        optimizer = AdamW(rate, 0.1, epsilon=1e-2, multipliers=scales)
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        model.compile(optimizer, loss, jit_compile=jit)
        model.optimizer.build(model.trainable_variables)
    return model


def trained(model, steps, first=0):
    for step in range(first, first + steps):
        x = np.random.default_rng(step).uniform(size=(8, 8, 8, 1)).astype("float32")
        data = tf.data.Dataset.from_tensor_slices((x, np.arange(8) % 3)).batch(8)
        model.fit(data, verbose=0)
    return model.get_weights()


def test_saved_and_loaded_it_continues_alike(tmp_path, eagerly):
    whole = trained(compiled(), 4)
    half = compiled()
    trained(half, 2)
    half.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert loaded.optimizer.multipliers == half.optimizer.multipliers
    for got, want in zip(trained(loaded, 2, first=2), whole, strict=True):
        np.testing.assert_array_equal(got, want)


SLOW = {"marks": pytest.mark.slow}


@pytest.mark.parametrize(
    "settings",
    [pytest.param({"replicas": 2}, **SLOW), pytest.param({"jit": True}, **SLOW)],
    ids=["mirrored", "xla"],
)
def test_on_two_replicas_and_compiled_it_steps_alike(settings):
    want, got = trained(compiled(), 2), trained(compiled(**settings), 2)
    for one, other in zip(got, want, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "dtype",
    [None, pytest.param("mixed_bfloat16", **SLOW), pytest.param("mixed_float16", **SLOW)],
)
def test_with_a_decay_of_zero_only_the_head_moves(dtype, eagerly):
    model = compiled(decay=0.0, dtype=dtype)
    before = {v.path: keras.ops.convert_to_numpy(v) for v in model.trainable_variables}
    trained(model, 6)
    if dtype == "mixed_float16":
        assert isinstance(model.optimizer, keras.optimizers.LossScaleOptimizer)
    for variable in model.trainable_variables:
        moved = np.any(keras.ops.convert_to_numpy(variable) != before[variable.path])
        assert moved == (variable.path.split("/")[0] in ("head", "norm")), variable.path


# --- fine-tuning --------------------------------------------------------------------------------

PLAIN = {"crop": None, "flip": 0.0, "erase": 0.0, "mixup": 0.0, "cutmix": 0.0}


def pictures(rows=24, size=8, channels=1, seed=0):
    """Bytes whose brighter half tells the class."""
    rng = np.random.default_rng(seed)
    labels = np.arange(rows) % 2
    x = rng.integers(0, 100, (rows, size, size, channels))
    x[labels == 0, : size // 2] += 100
    x[labels == 1, size // 2 :] += 100
    return x.astype("uint8"), labels


def tune(encoder, data=None, **options):
    x, y = data or pictures(channels=encoder.input_shape[-1], size=encoder.input_shape[1])
    settings = {"epochs": 1, "batch_size": 8, "jit_compile": False, **PLAIN, **options}
    return fine_tune(encoder, x, y, x, y, **settings)


def test_the_encoder_given_stays(eagerly):
    encoder, (x, y) = transformer(), pictures(16)
    before = [w.copy() for w in encoder.get_weights()]
    tuned = tune(encoder, (x, y), epochs=2, base_rate=0.1)
    assert all(np.array_equal(a, b) for a, b in zip(before, encoder.get_weights(), strict=True))
    logits = tuned.model.predict(x, verbose=0)
    assert tuned.accuracy == np.mean(logits.argmax(axis=1) == y)
    assert tuned.auc is None and len(tuned.history["loss"]) == 2
    inner = tuned.model.layers[-1]
    for name in ("tokenizer", "positions", "prefix", "block1", "block2"):
        old = encoder.get_layer(name).get_weights()
        pairs = zip(inner.get_layer(name).get_weights(), old, strict=True)
        assert all(np.abs(a - b).max() > 0.0 for a, b in pairs), name


@pytest.mark.slow
def test_one_seed_one_result_and_a_saved_model_predicts_alike(tmp_path, eagerly):
    encoder, x = transformer(), pictures()[0]
    everything = {"crop": (0.5, 1.0), "flip": 0.5, "erase": 0.5, "mixup": 0.8, "cutmix": 1.0}
    options = {"base_rate": 0.1, "batch_size": 12, **everything}
    runs = [tune(encoder, seed=seed, **options) for seed in (3, 3, 4)]
    assert runs[0].history == runs[1].history != runs[2].history
    first, second, _ = (run.model.predict(x, verbose=0) for run in runs)
    np.testing.assert_array_equal(first, second)
    runs[0].model.save(tmp_path / "tuned.keras")
    loaded = keras.models.load_model(tmp_path / "tuned.keras")
    np.testing.assert_allclose(loaded.predict(x, verbose=0), first, atol=1e-6)


def built(encoder, size=(8, 8), outputs=2, **options):
    settings = {"pooling": "mean", "drop_path": None, "seed": 0, **options}
    return _fine_tune_model.classifier([], encoder, size, outputs, **settings)


def test_the_copy_drops_paths():
    encoder = transformer(drop_path=0.0, depth=3)
    model = built(encoder, drop_path=0.2)
    rates = [model.get_layer(f"block{i}").drop_path for i in (1, 2, 3)]
    assert rates == pytest.approx([0.0, 0.1, 0.2])
    assert built(encoder).get_layer("block3").drop_path == 0.0
    x = np.random.default_rng(0).uniform(size=(64, 8, 8, 1)).astype("float32")
    quiet = keras.Model(model.input, model.get_layer("fc_norm").output)
    assert np.any(np.asarray(quiet(x, training=True)) != np.asarray(quiet(x, training=False)))


@pytest.mark.parametrize("positions", ["learned", "sincos", "rotary"])
def test_pooling_is_that_of_the_tokens(positions):
    encoder = transformer(positions=positions, registers=1)
    x = np.random.default_rng(0).uniform(size=(3, 8, 8, 1)).astype("float32")
    by_class = built(encoder, pooling="class")
    features = keras.Model(by_class.input, by_class.get_layer("head").input)
    np.testing.assert_allclose(features(x), encoder(x), atol=1e-5)
    # Before the last norm, which its own norm replaces.
    pooled = built(encoder, pooling="mean")
    pool = pooled.get_layer("pool")
    last, mean = keras.Model(pooled.input, [pool.input, pool.output])(x)
    np.testing.assert_allclose(mean, np.asarray(last).mean(axis=1), atol=1e-5)
    np.testing.assert_allclose(encoder.norm(last), encoder.token_model()(x)[:, 2:], atol=1e-5)
    names = {layer.name for layer in pooled.layers}
    assert "fc_norm" in names and "norm" not in names
    with pytest.raises(ValueError, match="no class token"):
        built(transformer(class_token=False), pooling="class")
    assert "norm" in {layer.name for layer in built(encoder, pooling=None).layers}


def test_another_image_size_interpolates_positions(eagerly):
    encoder, (x, y) = transformer(), pictures(16, size=12)
    tuned = tune(encoder, (x, y), image_size=16)
    assert tuned.model.input_shape == (None, 12, 12, 1)
    inner = next(part for part in tuned.model.layers if isinstance(part, keras.Model))
    assert inner.input_shape == (None, 16, 16, 1)
    # The table keeps its size, so that the weights fit every size.
    assert inner.get_layer("positions").table.shape == (4, 16)
    assert tune(encoder, (x, y)).model.layers[-1].input_shape == (None, 8, 8, 1)
    with pytest.raises(ValueError, match="choose image_size as a multiple"):
        tune(encoder, (x, y), image_size=10)
    with pytest.raises(ValueError, match="the side in pixels"):
        tune(encoder, (x, y), image_size=(1, 2, 3))


def batches(**options):
    x, y = pictures(32)
    return _fine_tune_data.Batches(x, y, 2, 8, Preprocessing((8, 8)), **options), (x, y)


@pytest.mark.parametrize("mix", [{"mixup": 0.8}, {"cutmix": 1.0}, {"mixup": 0.8, "cutmix": 1.0}])
def test_mixed_labels_follow_the_images(mix):
    x, y = pictures(32)
    # Images of one value, their class: a mixed image then shows its label in its mean.
    flat = np.broadcast_to(y[:, None, None, None], (32, 64, 64, 1)).astype("float32")
    found = _fine_tune_data.Batches(flat, y, 2, 32, Preprocessing((64, 64)), **mix)
    kinds = set()
    for _ in range(6):
        images, labels = found[0]
        found.on_epoch_end()
        assert images.dtype == labels.dtype == np.float32
        np.testing.assert_allclose(labels.sum(axis=1), 1.0, atol=1e-6)
        # CutMix counts the area of its box, of which the pixels are a rounded share.
        np.testing.assert_allclose(images.mean(axis=(1, 2, 3)), labels[:, 1], atol=0.04)
        assert np.any((labels > 0.01) & (labels < 0.99))
        kinds.add(bool(np.isin(images, (0.0, 1.0)).all()))
    assert kinds == {"cutmix" in mix} if len(mix) == 1 else kinds == {False, True}


def test_batches_are_a_function_of_seed_epoch_and_number():
    settings = {"view": views.Pipeline([views.HorizontalFlip()]), "erase": 0.5, "mixup": 0.8}
    first, (x, _) = batches(seed=1, **settings)
    second, _ = batches(seed=1, **settings)
    forward = [first[i] for i in range(len(first))]
    backward = [second[i] for i in reversed(range(len(second)))][::-1]
    for one, other in zip(forward, backward, strict=True):
        assert all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))
    first.on_epoch_end()
    assert not np.array_equal(first[0][0], forward[0][0])
    plain, _ = batches(seed=1)
    rows = np.concatenate([plain[i][0] for i in range(len(plain))])
    brightness = np.sort(x.mean(axis=(1, 2, 3)) / 255.0)
    np.testing.assert_allclose(np.sort(rows.mean(axis=(1, 2, 3))), brightness, rtol=1e-5)


def test_erasing_leaves_the_share_of_the_recipe():
    found, _ = batches(erase=0.25)
    plain, _ = batches()
    changed = []
    for _ in range(20):
        for index in range(len(found)):
            changed += list(np.any(found[index][0] != plain[index][0], axis=(1, 2, 3)))
        found.on_epoch_end()
        plain.on_epoch_end()
    assert np.mean(changed) == pytest.approx(0.25, abs=0.06)


def test_every_epoch_has_an_order_of_its_own(monkeypatch, eagerly):
    seen, own = [], _fine_tune_data.Batches.__getitem__

    def spied(self, index):
        x, y = own(self, index)
        seen.append((index, x.tobytes()))
        return x, y

    monkeypatch.setattr(_fine_tune_data.Batches, "__getitem__", spied)
    tune(flat(), recipe="cnn", epochs=3)
    assert len({content for index, content in seen[-9:] if index == 0}) == 3
    assert [index for index, _ in seen[-9:]] == [0, 1, 2] * 3


def test_a_convolutional_network_trains_its_statistics(eagerly):
    encoder = small_cnn()
    before = encoder.get_layer("stem_norm").moving_mean.numpy()
    tuned = tune(encoder, pictures(8, size=16), recipe="cnn")
    copy = next(p for p in tuned.model.layers[-1].layers if isinstance(p, keras.Model))
    assert np.any(copy.get_layer("stem_norm").moving_mean.numpy() != before)
    np.testing.assert_array_equal(encoder.get_layer("stem_norm").moving_mean, before)
    assert tuned.recipe.optimizer == "sgd" and tuned.recipe.batch_size == 8
    again = tune(encoder, pictures(8, size=16), recipe="cnn")
    assert tuned.history == again.history


def test_a_trained_model_and_its_standalone_encoder_are_the_same(eagerly):
    view = views.Pipeline([views.HorizontalFlip(), views.Normalize([0.4], [0.2])])
    model = models.SimCLR(small_cnn(), projector=(8,), views=views.TwoViews(view))
    data, raw = pictures(16, size=16), {"recipe": "cnn"}
    standard = tune(model.encoder, data, preprocess=view.preprocessing, **raw)
    for encoder in (model, model.standalone_encoder(), model.standalone_encoder(dtype="float32")):
        tuned = fine_tune(
            encoder, *data, *data, epochs=1, batch_size=8, jit_compile=False, **PLAIN, **raw
        )
        np.testing.assert_allclose(tuned.history["loss"], standard.history["loss"], rtol=1e-4)
        # The standalone encoder runs its network in inference mode; the copy must not.
        got, want = tuned.model.get_weights(), standard.model.get_weights()
        for one, other in zip(got, want, strict=True):
            np.testing.assert_allclose(one, other, atol=1e-4)
    with pytest.raises(ValueError, match="prepares its images itself"):
        fine_tune(model, *data, *data, preprocess=view.preprocessing, **PLAIN, **raw)


def test_several_labels_an_image(eagerly):
    x, y = pictures(16)
    labels = np.stack([y, 1 - y, np.zeros_like(y)], axis=1)
    tuned = tune(transformer(), (x, labels), recipe="thorax")
    logits = tuned.model.predict(x, verbose=0)
    assert tuned.accuracy == np.mean((logits > 0.0) == labels)
    # The third label has one value only, and so no curve.
    pairs = [(logits[:, i][labels[:, i] == 1], logits[:, i][labels[:, i] == 0]) for i in (0, 1)]
    auc = np.mean([np.mean(ones[:, None] > zeros) for ones, zeros in pairs])
    assert tuned.auc == pytest.approx(auc, abs=0.02)
    for wrong, message in [
        (labels + 1, "other values than 0 and 1"),
        (labels[:5], r"expected \(16, labels\)"),
    ]:
        with pytest.raises(ValueError, match=message):
            tune(transformer(), (x, wrong), recipe="thorax")


def test_recipes_are_those_of_the_papers():
    vit, cnn, thorax = (evaluation.FINE_TUNE_RECIPES[name] for name in ("vit", "cnn", "thorax"))
    assert (vit.epochs, vit.base_rate, vit.layer_decay, vit.drop_path) == (100, 5e-4, 0.65, 0.1)
    assert (vit.mixup, vit.cutmix, vit.label_smoothing, vit.erase) == (0.8, 1.0, 0.1, 0.25)
    assert (vit.weight_decay, vit.beta_2, vit.warmup_epochs, vit.pooling) == (
        0.05,
        0.999,
        5,
        "mean",
    )
    assert (cnn.optimizer, cnn.layer_decay, cnn.weight_decay) == ("sgd", 1.0, 0.0)
    assert (thorax.epochs, thorax.base_rate, thorax.layer_decay) == (75, 2.5e-4, 0.55)
    assert thorax.multi_label and not (thorax.mixup or thorax.cutmix or thorax.erase)


def test_the_optimizer_follows_the_recipe(eagerly):
    tuned = tune(transformer(depth=1), epochs=1, base_rate=0.32)
    inner = next(part for part in tuned.model.layers if isinstance(part, keras.Model))
    optimizer = inner.optimizer
    assert isinstance(optimizer, AdamW) and optimizer.beta_2 == 0.999
    assert optimizer.multipliers == layer_decay_scales(inner, 0.65)
    schedule = optimizer.get_config()["learning_rate"]["config"]
    assert schedule["base"] == pytest.approx(0.01) and schedule["total_steps"] == 3
    # 5 of 100 epochs stay a twentieth.
    assert schedule["warmup_steps"] == pytest.approx(0.15)
    spared = [v.path for v in inner.trainable_variables if not optimizer.is_decayed(v)]
    assert {"positions/positions", "prefix/class_token", "head/bias"} <= set(spared)
    assert not [path for path in spared if path.endswith("kernel")]


def test_wrong_input_says_so():
    encoder, (x, y) = transformer(), pictures()
    unit = x.astype("float32") / 255.0
    broken = unit.copy()
    broken[3, 0, 0, 0] = np.nan
    for data, message in [
        ((x, None), "train_labels is None"),
        ((x, np.full(len(x), -1)), "no labelled row"),
        ((x, np.zeros(len(x), int)), "class 0 only"),
        ((x, np.eye(2)[y]), "not one-hot"),
        ((x, y + 0.5), "integer class indices"),
        ((x[..., 0], y), "channel axis"),
        ((x.astype("int32"), y), "uint8 of 0..255 or float"),
        ((broken, y), "first: row 3"),
        ((np.repeat(x, 3, axis=-1), y), "channels, expected the same"),
    ]:
        with pytest.raises(ValueError, match=message):
            tune(encoder, data)
    with pytest.raises(ValueError, match="floats from -1"):
        tune(encoder, (2 * unit - 1.0, y), flip=0.5)
    with pytest.raises(ValueError, match="both uint8"):
        fine_tune(encoder, x, y, unit, y)
    with pytest.raises(ValueError, match="Normalize"):
        tune(encoder, view=views.Pipeline([views.Normalize([0.5], [0.2])]))
    with pytest.raises(ValueError, match="Unknown recipe 'vitt'. Did you mean vit"):
        tune(encoder, recipe="vitt")
    with pytest.raises(ValueError, match="no field 'epoch'. Did you mean epochs"):
        tune(encoder, epoch=3)
    with pytest.raises(TypeError, match="Keras model"):
        fine_tune(lambda images: images, x, y, x, y)
    for changes, message in [
        ({"epochs": 0}, "epochs is 0, expected at least 1"),
        ({"base_rate": -1.0}, "base_rate is -1.0, expected at least 0"),
        ({"mixup": 2.0}, "mixup is 2.0, expected 0 to 1"),
        ({"drop_path": 1.0}, "expected 0 to below 1"),
        ({"warmup_epochs": 9}, "expected 0 to the 1 epochs"),
        ({"optimizer": "lion"}, "expected one of"),
    ]:
        with pytest.raises(ValueError, match=message):
            tune(encoder, **changes)


def test_a_named_recipe_takes_batches_that_suit_the_data(eagerly):
    data = pictures(700)
    assert tune(flat(), data, recipe="cnn", batch_size=4096).recipe.batch_size == 700
    own = evaluation.FINE_TUNE_RECIPES["cnn"]
    settings = {"epochs": 1, "jit_compile": False, **PLAIN}
    assert fine_tune(flat(), *data, *data, recipe="cnn", **settings).recipe.batch_size == 35
    assert fine_tune(flat(), *data, *data, recipe=own, **settings).recipe.batch_size == 700


def test_unlabelled_rows_are_dropped(eagerly):
    x, y = pictures(20)
    missing = np.concatenate([y, [-1] * 4])
    noise = np.concatenate([x, np.zeros((4, 8, 8, 1), "uint8")])
    runs = [tune(flat(), data, recipe="cnn") for data in ((noise, missing), (x, y))]
    assert runs[0].history == runs[1].history and runs[0].accuracy == runs[1].accuracy


@pytest.mark.slow
def test_two_replicas_and_xla_give_the_numbers_of_one():
    runs = []
    for replicas, jit in ((1, False), (2, False), (1, True)):
        with scope(replicas):
            encoder = transformer(width=8)
            options = {"flip": 0.5, "mixup": 0.8, "drop_path": 0.5, "base_rate": 0.1}
            runs.append(tune(encoder, jit_compile=jit, **options))
    for run in runs[1:]:
        np.testing.assert_allclose(run.history["loss"], runs[0].history["loss"], rtol=1e-4)
        assert run.accuracy == runs[0].accuracy


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["mixed_bfloat16", "mixed_float16"])
def test_in_half_precision(dtype, eagerly):
    tuned = tune(transformer(dtype=dtype), base_rate=0.1)
    assert np.isfinite(tuned.history["loss"]).all()
    inner = tuned.model.layers[-1]
    assert inner.get_layer("block1").compute_dtype == dtype.removeprefix("mixed_")
    assert inner.output.dtype == "float32"
    scaled = isinstance(inner.optimizer, keras.optimizers.LossScaleOptimizer)
    assert scaled == (dtype == "mixed_float16")


@pytest.mark.slow
def test_it_beats_the_linear_probe_on_digits():
    digits = pytest.importorskip("sklearn.datasets").load_digits()
    x, y = (digits.images[..., None] / 16.0).astype("float32"), digits.target
    encoder = transformer(width=32)
    features = evaluation.extract_features(encoder, x, verbose=False)
    probe = evaluation.linear_probe(features[:900], y[:900], features[900:], y[900:])
    tuned = fine_tune(
        *(encoder, x[:900], y[:900], x[900:], y[900:]),
        **{"epochs": 10, "batch_size": 30, "base_rate": 0.1, "jit_compile": False, **PLAIN},
    )
    assert tuned.accuracy > probe + 0.03


@pytest.mark.slow
def test_it_beats_the_linear_probe_on_mnist(data_dir):
    with np.load(data_dir / "image" / "mnist_t10k.npz") as data:
        x, y = data["image"][..., None], data["label"].astype("int64")
    encoder = transformer(size=28, patch=7, width=32, kernel_initializer="glorot_uniform")
    features = evaluation.extract_features(encoder, x / np.float32(255.0), verbose=False)
    probe = evaluation.linear_probe(features[:3000], y[:3000], features[5000:], y[5000:])
    tuned = fine_tune(
        *(encoder, x[:3000], y[:3000], x[5000:], y[5000:]),
        **{"epochs": 6, "warmup_epochs": 1, "batch_size": 50, "base_rate": 0.02},
        **{**PLAIN, "crop": (0.6, 1.0), "jit_compile": False},
    )
    assert tuned.accuracy > probe + 0.02


@pytest.mark.slow
def test_several_labels_of_chest_x_rays(data_dir):
    with np.load(data_dir / "image" / "pneumoniamnist_28.npz") as data:
        parts = {name: data[name] for name in data.files}
    # Pneumonia, and its absence, as two labels.
    both = {name: np.stack([y, 1 - y], axis=1) for name, y in parts.items() if "labels" in name}
    tuned = fine_tune(
        transformer(size=28, patch=7, width=32),
        *(parts["train_images"][..., None], both["train_labels"]),
        *(parts["test_images"][..., None], both["test_labels"]),
        **{"recipe": "thorax", "epochs": 15, "batch_size": 50, "base_rate": 0.02},
        crop=(0.6, 1.0),
    )
    assert tuned.auc > 0.9
