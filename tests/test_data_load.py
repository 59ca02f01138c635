# SPDX-License-Identifier: Apache-2.0
"""Loading: digits, npz files and prepared TensorFlow data sets."""

import os

import numpy as np
import pytest

from keras_ssl import data


def test_digits():
    source = data.load("digits")
    assert source.images.shape == (1438, 16, 16, 1) and source.images.dtype == np.uint8
    assert source.image_shape == (16, 16, 1) and source.num_classes == 10
    assert source.labels.dtype == np.int64 and len(source.test) == 359
    assert np.bincount(source.test.labels).min() >= 34
    assert source.images.max() == 255 and source.images.min() == 0
    again = data.load("digits")
    assert again.fingerprint == source.fingerprint
    assert np.array_equal(again.test.images, source.test.images)


def test_digits_at_their_own_size_are_the_stored_pixels():
    from sklearn.datasets import load_digits

    source = data.load("digits", image_size=8, split="all")
    assert source.test is None
    assert np.array_equal(source.images[..., 0], np.rint(load_digits().images * 15.9375))
    assert data.load("digits", channels=3).image_shape == (16, 16, 3)


def test_limit_keeps_class_proportions_and_the_test_part():
    source = data.load("digits", limit=100)
    assert len(source) == 100 and len(source.test) == 359
    assert set(np.bincount(source.labels).tolist()) <= {9, 10, 11}


def test_parts_of_a_split_are_disjoint_and_whole():
    images = np.arange(50, dtype=np.float32)[:, None]
    source = data.Source(images, np.arange(50) % 5).holdout()
    both = np.concatenate([source.images, source.test.images]).ravel()
    assert np.array_equal(np.sort(both), np.arange(50))
    assert np.bincount(source.test.labels).tolist() == [2] * 5


def test_unlabelled_rows_are_not_held_out():
    labels = np.array([-1] * 30 + [0, 1] * 10)
    source = data.Source(np.zeros((50, 2)), labels).holdout()
    assert sorted(source.test.labels) == [0, 0, 1, 1]
    assert source.num_classes == 2


def test_fingerprint_follows_the_content():
    images, labels = np.zeros((4, 2, 2, 1), np.uint8), np.arange(4)
    reference = data.Source(images, labels).fingerprint
    assert len(reference) == 64
    changed = images.copy()
    changed[2, 0, 0, 0] = 1
    test = data.Source(images)
    others = [
        data.Source(changed, labels),
        data.Source(images, labels[::-1]),
        data.Source(images),
        data.Source(images.reshape(4, 4), labels),
        data.Source(images.astype(np.int8), labels),
        data.Source(images, labels, test=test),
    ]
    prints = {source.fingerprint for source in others} | {reference}
    assert len(prints) == 7
    assert data.Source(images.copy(), labels, name="other").fingerprint == reference


@pytest.fixture
def archive(tmp_path):
    path = tmp_path / "a b.npz"
    np.savez(
        path,
        x=np.arange(40, dtype=np.float32).reshape(10, 2, 2),
        grey=np.arange(160, dtype=np.uint8).reshape(10, 4, 4),
        y=np.arange(10) % 2,
        words=np.array(["b", "a"] * 5),
        column=np.arange(10)[:, None],
        halves=np.full(10, 0.5),
        none=np.zeros((0, 3)),
        things=np.array([{}] * 10, dtype=object),
    )
    return path


def test_npz_without_labels_has_no_test_part(archive):
    source = data.load(f"npz:{archive}")
    assert source.images.shape == (10, 2, 2) and source.images.dtype == np.float32
    assert source.labels is None and source.test is None and source.num_classes is None


def test_npz_with_labels(archive):
    source = data.load(f"npz:{archive}?x=grey&y=y")
    assert len(source) == 8 and len(source.test) == 2 and source.images.dtype == np.uint8
    named = data.load(f"npz:{archive}?x=grey&y=words", split="all")
    assert named.class_names == ("a", "b") and named.labels[:2].tolist() == [1, 0]
    assert data.load(f"npz:{archive}?y=column", split="all").num_classes == 10


def test_npz_with_its_own_test_part(archive):
    source = data.load(f"npz:{archive}?x=grey&y=y&x_test=grey&y_test=y")
    assert len(source) == len(source.test) == 10
    assert len(data.load(f"npz:{archive}?x=grey&y=y&x_test=grey&y_test=y", split="all")) == 20


def test_npz_images_to_size_and_channels(archive):
    assert data.load(f"npz:{archive}?x=grey", channels=1).image_shape == (4, 4, 1)
    source = data.load(f"npz:{archive}?x=grey", channels=3, image_size=6)
    assert source.images.shape == (10, 6, 6, 3) and source.images.dtype == np.uint8


@pytest.mark.parametrize(
    ("query", "options", "message"),
    [
        ("?x=images", {}, "no array 'images' for x; it holds: x, grey, y"),
        ("?y=label", {}, "no array 'label' for y"),
        ("?z=x", {}, "z; known: x, y, x_test, y_test"),
        ("?x=things", {}, "Python objects"),
        ("?x=none", {}, "is empty"),
        ("?x=words", {}, "expected numbers"),
        ("?y=halves", {}, "not whole numbers"),
        ("?y_test=y", {}, "without x_test"),
        ("?x_test=grey", {}, "unlike those of x"),
        ("?x=y", {"image_size": 8}, "image_size and channels need images"),
        ("?x=x", {"channels": 3}, "need.? square uint8"),
        ("?x=x", {"split": "test"}, "no test part and no labels"),
    ],
)
def test_npz_errors(archive, query, options, message):
    with pytest.raises(ValueError, match=message):
        data.load(f"npz:{archive}{query}", **options)


def test_not_an_archive(tmp_path):
    np.save(tmp_path / "one.npy", np.zeros(3))
    (tmp_path / "text.npz").write_text("no archive")
    with pytest.raises(ValueError, match="one bare array"):
        data.load(f"npz:{tmp_path}/one.npy")
    with pytest.raises(ValueError, match="not an .npz archive"):
        data.load(f"npz:{tmp_path}/text.npz")
    with pytest.raises(FileNotFoundError, match="No file"):
        data.load(f"npz:{tmp_path}/missing.npz")


@pytest.mark.parametrize(
    ("spec", "options", "message"),
    [
        ("cifar10", {}, "expected one of: digits, tfds:NAME"),
        ("tfds:", {}, "Unknown data set"),
        ("digits", {"channels": 2}, "expected 1, 3 or 4"),
        ("digits", {"image_size": 0}, "at least 1 pixel"),
        ("digits", {"split": "val"}, "expected 'train', 'test' or 'all'"),
        ("digits", {"limit": 0}, "at least 1"),
        ("digits", {"on_corrupt": "ignore"}, "'raise' or 'skip'"),
    ],
)
def test_bad_arguments(spec, options, message):
    with pytest.raises(ValueError, match=message):
        data.load(spec, **options)


def test_tfds_that_is_not_there_says_how_to_prepare_it(tmp_path):
    pytest.importorskip("tensorflow_datasets")
    with pytest.raises(FileNotFoundError, match="tfds build no_such_set_at_all.*data_dir"):
        data.load("tfds:no_such_set_at_all", data_dir=str(tmp_path))


@pytest.fixture
def prepared():
    folder = os.environ.get("KERAS_SSL_DATA")
    if not folder or not os.path.isdir(os.path.join(folder, "tfds", "cifar10")):
        pytest.skip("KERAS_SSL_DATA does not name a folder with tfds/cifar10")
    return os.path.join(folder, "tfds")


def test_tfds_cifar10_test_part(prepared):
    source = data.load("tfds:cifar10", data_dir=prepared, split="test", limit=1000)
    assert source.images.shape == (1000, 32, 32, 3) and source.images.dtype == np.uint8
    assert np.bincount(source.labels).tolist() == [100] * 10
    assert source.class_names[:2] == ("airplane", "automobile")


def test_tfds_expression_size_and_channels(prepared):
    source = data.load(
        "tfds:cifar10", data_dir=prepared, split="train[:50]", image_size=16, channels=1
    )
    assert source.images.shape == (50, 16, 16, 1) and source.test is None
    whole = data.load("tfds:cifar10", data_dir=prepared, split="train[:50]")
    assert whole.images.shape == (50, 32, 32, 3)
    again = data.load("tfds:cifar10", data_dir=prepared, split="train[:50]")
    assert again.fingerprint == whole.fingerprint
