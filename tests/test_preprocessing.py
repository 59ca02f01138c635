# SPDX-License-Identifier: Apache-2.0
"""The preprocessing that travels with an encoder."""

import warnings

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import ops

from keras_ssl import backbones, evaluation, models, views
from keras_ssl.views import Preprocessing

RNG = np.random.default_rng(0)
MEAN, STD = (0.2, 0.4, 0.6), (0.3, 0.2, 0.1)


def any_size():
    """A network of images of any size."""
    inputs = keras.Input((None, None, 3))
    return keras.Model(inputs, keras.layers.GlobalAveragePooling2D()(inputs))


def pictures(count=6, side=16, other=None):
    return RNG.integers(0, 256, (count, side, other or side, 3), "uint8")


def resized(x, size):
    return ops.image.resize(x.astype("float32") / 255, size, antialias=True)


def test_resize_rules_are_what_their_names_say():
    x = pictures(2, 12, 24)
    np.testing.assert_allclose(Preprocessing((6, 6))(x), resized(x, (6, 12))[:, :, 3:9], atol=1e-6)
    np.testing.assert_allclose(
        Preprocessing((6, 6), resize="stretch")(x), resized(x, (6, 6)), atol=1e-6
    )
    padded = ops.convert_to_numpy(Preprocessing((6, 6), resize="pad")(x))
    np.testing.assert_allclose(padded[:, 1:4], resized(x, (3, 6)), atol=1e-6)
    assert not padded[:, :1].any() and not padded[:, 4:].any()
    part = Preprocessing((6, 6), crop_fraction=0.75)(x)
    np.testing.assert_allclose(part, resized(x, (8, 16))[:, 1:7, 5:11], atol=1e-6)
    # The middle of images that have the size already.
    small = pictures(2, 6)
    assert Preprocessing((6, 6))(small).shape == (2, 6, 6, 3)
    np.testing.assert_allclose(Preprocessing((6, 6))(small), small / 255.0, atol=1e-6)
    assert np.abs(Preprocessing((6, 6), crop_fraction=0.5)(small) - small / 255.0).max() > 0.05


def simclr(size, network):
    view = views.Pipeline([views.RandomResizedCrop(size), views.Normalize(MEAN, STD)], seed=0)
    model = models.SimCLR(network, (8, 8), views=view, seed=0)
    return model


@pytest.mark.parametrize("raw", [16, 24])
def test_it_is_in_the_file_and_applied_to_raw_images(tmp_path, raw):
    model, x = simclr(16, backbones.ConvNet((16, 16, 3), (8,), seed=0)), pictures(side=raw)
    wanted = model.encoder(model.views.preprocess(x), training=False)
    model.standalone_encoder().save(tmp_path / "encoder.keras")
    loaded = keras.saving.load_model(tmp_path / "encoder.keras")
    found = evaluation.preprocessing_of(loaded)
    assert found.size == (16, 16)
    np.testing.assert_allclose([found.mean, found.std], [MEAN, STD], rtol=1e-5)
    np.testing.assert_allclose(evaluation.extract_features(loaded, x), wanted, atol=1e-5)
    batches = tf.data.Dataset.from_tensor_slices(x).batch(3)
    np.testing.assert_allclose(evaluation.extract_features(loaded, batches), wanted, atol=1e-5)
    np.testing.assert_allclose(evaluation.extract_features(model, x), wanted, atol=1e-5)


def test_images_of_0_to_1_and_of_0_to_255_are_the_same():
    model, x = simclr(16, backbones.ConvNet((16, 16, 3), (8,), seed=0)), pictures()
    unit = (x / 255).astype("float32")
    for dtype in ("uint8", "float32"):
        encoder = model.standalone_encoder(dtype=dtype)
        one, other = (evaluation.extract_features(encoder, images) for images in (x, unit))
        np.testing.assert_allclose(one, other, atol=1e-5)


def test_another_takes_its_place_and_stays_in_the_file(tmp_path):
    model, x = simclr(16, backbones.ConvNet((16, 16, 3), (8,), seed=0)), pictures(side=20)
    other = Preprocessing((16, 16), (0.5,) * 3, (0.5,) * 3, resize="stretch")
    wanted = model.encoder(other(x), training=False)
    changed = evaluation.with_preprocessing(model, other, (20, 20, 3))
    changed.save(tmp_path / "other.keras")
    loaded = keras.saving.load_model(tmp_path / "other.keras")
    assert evaluation.preprocessing_of(loaded).get_config()["resize"] == "stretch"
    np.testing.assert_allclose(loaded.predict(x, verbose=0), wanted, atol=1e-5)
    for encoder in (model, model.encoder, model.standalone_encoder()):
        found = evaluation.extract_features(encoder, x, preprocessing=other)
        np.testing.assert_allclose(found, wanted, atol=1e-5)
    own = evaluation.extract_features(model, x)
    assert np.abs(own - wanted).max() > 0.01
    again = evaluation.with_preprocessing(loaded, model.views.preprocessing, (20, 20, 3))
    np.testing.assert_allclose(again.predict(x, verbose=0), own, atol=1e-5)


def test_encoders_without_one_take_images_as_they_are():
    encoder, x = (
        backbones.ConvNet((16, 16, 3), (8,), seed=0),
        RNG.normal(size=(4, 16, 16, 3)).astype("float32"),
    )
    assert evaluation.preprocessing_of(encoder) is None
    np.testing.assert_allclose(
        evaluation.extract_features(encoder, x), encoder(x, training=False), atol=1e-6
    )
    plain = models.SimCLR(encoder, (8, 8), views=views.Pipeline([views.HorizontalFlip()]), seed=0)
    found = evaluation.preprocessing_of(plain.standalone_encoder())
    assert (found.mean, found.std) == (None, None)


def test_another_size_than_in_training_is_told():
    encoder = evaluation.with_preprocessing(any_size(), Preprocessing((16, 16)), (16, 16, 3))
    with pytest.warns(UserWarning, match=r"trained on images of \(16, 16\)"):
        evaluation.with_preprocessing(encoder, Preprocessing((32, 32)), (40, 40, 3))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        evaluation.with_preprocessing(encoder, Preprocessing((16, 16)), (40, 40, 3))


def test_mistakes_are_named():
    for wrong in ({"resize": "zoom"}, {"interpolation": "cubic"}):
        with pytest.raises(ValueError, match="resizes by one of"):
            Preprocessing((8, 8), **wrong)
    for wrong in ({"crop_fraction": 0.0}, {"crop_fraction": 0.9, "resize": "pad"}):
        with pytest.raises(ValueError, match="crop_fraction"):
            Preprocessing((8, 8), **wrong)
    with pytest.raises(ValueError, match="together"):
        Preprocessing((8, 8), mean=(0.5,))
    encoder = backbones.ConvNet((16, 16, 3), (8,), seed=0)
    with pytest.raises(ValueError, match=r"network takes \(16, 16\)"):
        evaluation.with_preprocessing(encoder, Preprocessing((8, 8)))
    with pytest.raises(ValueError, match="give image_shape"):
        evaluation.with_preprocessing(any_size(), Preprocessing())
    with pytest.raises(ValueError, match="an array, or a"):
        evaluation.extract_features(encoder, {"a": 1}, preprocessing=Preprocessing())
