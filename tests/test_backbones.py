# SPDX-License-Identifier: Apache-2.0
"""Encoders: shapes, known parameter counts, seeds, saving, adapters."""

import keras
import numpy as np
import pytest

from keras_ssl import backbones, layers


def parameters(model):
    return sum(int(np.prod(variable.shape)) for variable in model.trainable_variables)


def images(side=16, channels=3, seed=0):
    return np.random.default_rng(seed).uniform(size=(3, side, side, channels)).astype("float32")


@pytest.mark.parametrize(
    ("depth", "count"),
    [
        (18, 11_176_512),
        pytest.param(34, 21_284_672, marks=pytest.mark.slow),
        (50, 23_508_032),
    ],
)
def test_resnet_has_the_known_number_of_parameters(depth, count):
    model = backbones.ResNet(depth, (224, 224, 3), stem="imagenet")
    assert parameters(model) == count
    assert model.output_shape == (None, 2048 if depth == 50 else 512)


@pytest.mark.parametrize(("stem", "sides"), [("small", [32, 16, 8, 4]), ("imagenet", [8, 4, 2, 1])])
def test_resnet_halves_the_image_where_the_paper_does(stem, sides):
    model = backbones.ResNet(18, (32, 32, 3), stem=stem)
    found = [model.get_layer(f"stage{n}_block2_relu2").output.shape[1] for n in (1, 2, 3, 4)]
    assert found == sides


def test_bottleneck_strides_in_its_middle_convolution():
    model = backbones.ResNet(50, (32, 32, 3), width=8, blocks=(1, 1))
    strides = [model.get_layer(f"stage2_block1_conv{n}").strides for n in (1, 2, 3)]
    assert strides == [(1, 1), (2, 2), (1, 1)]


def test_four_block_network_of_width_32():
    model = backbones.ResNet(18, (32, 32, 3), width=32, blocks=(1, 1, 1, 1))
    assert model.output_shape == (None, 256)
    assert sum(layer.name.endswith("_add") for layer in model.layers) == 4


def test_zero_initialised_blocks_start_as_the_identity():
    model = backbones.ResNet(18, (16, 16, 3), width=8, blocks=(2,), seed=0)
    inner = keras.Model(
        model.input,
        [model.get_layer("stem_relu").output, model.get_layer("stage1_block2_relu2").output],
    )
    stem, last = inner(images(), training=True)
    np.testing.assert_array_equal(stem, last)
    other = backbones.ResNet(18, (16, 16, 3), width=8, blocks=(2,), zero_init_residual=False)
    assert np.all(other.get_layer("stage1_block1_norm2").gamma.numpy() == 1)


@pytest.mark.parametrize("build", [backbones.ConvNet, backbones.get])
def test_same_seed_gives_the_same_weights(build):
    name = ["resnet18"] if build is backbones.get else []
    options = {"width": 8} if name else {}
    first, second, other = (
        build(*name, input_shape=(16, 16, 3), seed=seed, **options) for seed in (1, 1, 2)
    )
    kernels = [w for w in first.trainable_variables if w.name == "kernel"]
    for one, two in zip(first.get_weights(), second.get_weights(), strict=True):
        np.testing.assert_array_equal(one, two)
    assert np.abs(first.get_weights()[0] - other.get_weights()[0]).max() > 0
    assert len({float(k.numpy().ravel()[0]) for k in kernels}) == len(kernels)


def test_batch_norms_follow_the_papers_and_are_synchronized():
    for model in (backbones.ResNet(18, width=8), backbones.ConvNet()):
        norms = [x for x in model.layers if isinstance(x, keras.layers.BatchNormalization)]
        assert norms and all(n.momentum == 0.9 and n.epsilon == 1e-5 for n in norms)
        assert layers.unsynchronized_batch_norms(model) == []
    assert layers.unsynchronized_batch_norms(backbones.ConvNet(synchronized=False)) == [
        "norm_1",
        "norm_2",
        "norm_3",
    ]


@pytest.mark.parametrize(
    "name", ["convnet", "resnet18", pytest.param("resnet50", marks=pytest.mark.slow)]
)
def test_saved_encoder_gives_the_same_output(name, tmp_path):
    options = {} if name == "convnet" else {"width": 4}
    model = backbones.get(name, (16, 16, 1), seed=0, **options)
    model(images(channels=1), training=True)
    model.save(tmp_path / "encoder.keras")
    loaded = keras.models.load_model(tmp_path / "encoder.keras")
    np.testing.assert_allclose(loaded(images(channels=1)), model(images(channels=1)), atol=1e-6)


def test_encoders_compute_in_bfloat16():
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        model = backbones.ResNet(18, (16, 16, 3), width=4)
    finally:
        keras.config.set_dtype_policy(before)
    output = model(images(), training=True)
    assert keras.backend.standardize_dtype(output.dtype) == "bfloat16"
    assert np.isfinite(keras.ops.convert_to_numpy(keras.ops.cast(output, "float32"))).all()


def test_get_chooses_the_stem_by_the_image():
    assert backbones.get("resnet18", (96, 96, 3), width=4).get_layer("stem_conv").strides == (1, 1)
    assert backbones.get("ResNet18", (128, 128, 3), width=4).get_layer("stem_conv").strides == (
        2,
        2,
    )
    small = backbones.get("resnet18", (128, 128, 3), width=4, stem="small")
    assert small.get_layer("stem_conv").strides == (1, 1)
    assert backbones.get("applications:MobileNetV2", (32, 32, 3), alpha=0.35).output_shape == (
        None,
        1280,
    )


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda: backbones.get("resnet81"), "Nearest: resnet18"),
        (lambda: backbones.ResNet(101), "depth must be one of"),
        (lambda: backbones.ResNet(18, stem="large"), "stem must be one of"),
        (lambda: backbones.ResNet(18, blocks=(1, 0)), "positive counts"),
        (lambda: backbones.ResNet(18, (32, 32)), "height, width, channels"),
        (lambda: backbones.ConvNet((2, 2, 1)), "cannot be halved"),
        (lambda: backbones.ConvNet(widths=()), "positive channel counts"),
        (lambda: backbones.from_keras_applications("MobilNetV2", (32, 32, 3)), "MobileNetV2"),
        (lambda: backbones.from_keras_applications("MobileNetV2"), "input_shape"),
    ],
)
def test_wrong_arguments_say_what_to_do(make, match):
    with pytest.raises(ValueError, match=match):
        make()


def test_keras_applications_network_becomes_an_encoder():
    built = keras.applications.MobileNetV2((32, 32, 3), alpha=0.35, include_top=False, weights=None)
    encoder = backbones.from_keras_applications(built)
    assert encoder.output_shape == (None, 1280)
    assert layers.unsynchronized_batch_norms(encoder) == []
    want = np.asarray(built(images(32))).mean((1, 2))
    np.testing.assert_allclose(encoder(images(32)), want, atol=1e-5)


@pytest.mark.slow
def test_keras_applications_leaves_preprocessing_to_the_views():
    encoder = backbones.from_keras_applications("EfficientNetV2B0", (32, 32, 3))
    assert not any(isinstance(layer, keras.layers.Rescaling) for layer in encoder.layers)


@pytest.mark.slow
def test_keras_applications_warns_of_built_in_rescaling(caplog):
    backbones.from_keras_applications("EfficientNetB0", (32, 32, 3))
    assert "Rescaling(255)" in caplog.text


def test_keras_applications_weights_need_the_network(monkeypatch):
    def offline(*args, **kwargs):
        raise Exception("URL fetch failure")

    monkeypatch.setattr(keras.utils, "get_file", offline)
    monkeypatch.setattr("keras.src.utils.file_utils.get_file", offline)
    with pytest.raises(ConnectionError, match="weights=None"):
        backbones.from_keras_applications(
            "MobileNetV2", (96, 96, 3), weights="imagenet", alpha=0.35
        )


def generic_keras_cv_backbone():
    keras_cv = pytest.importorskip("keras_cv")
    return keras_cv.models.ResNetBackbone(
        stackwise_filters=[8, 16],
        stackwise_blocks=[1, 1],
        stackwise_strides=[1, 2],
        include_rescaling=False,
        input_shape=(32, 32, 3),
    )


def test_keras_cv_backbone_becomes_an_encoder(tmp_path):
    built = generic_keras_cv_backbone()
    encoder = backbones.from_keras_cv(built)
    assert len(encoder.output_shape) == 2
    assert layers.unsynchronized_batch_norms(encoder) == []
    want = np.asarray(built(images(32))).mean((1, 2))
    np.testing.assert_allclose(encoder(images(32)), want, atol=1e-5)
    encoder.save(tmp_path / "encoder.keras")
    loaded = keras.models.load_model(tmp_path / "encoder.keras")
    np.testing.assert_allclose(loaded(images(32)), want, atol=1e-5)


def test_keras_cv_preset_needs_the_network(monkeypatch):
    keras_cv = pytest.importorskip("keras_cv")

    def offline(*args, **kwargs):
        raise OSError("no route to host")

    monkeypatch.setattr(keras_cv.models.ResNetBackbone, "from_preset", offline)
    with pytest.raises(ConnectionError, match="need the network"):
        backbones.from_keras_cv("resnet50_imagenet")


def test_keras_cv_presets_are_found_by_name():
    keras_cv = pytest.importorskip("keras_cv")
    from keras_ssl.backbones._adapters import _keras_cv_class

    found = _keras_cv_class(keras_cv.models, "resnet50_v2_imagenet")
    assert found is keras_cv.models.ResNetV2Backbone
    with pytest.raises(ValueError, match="resnet50_imagenet"):
        backbones.from_keras_cv("resnet50_imagnet")
