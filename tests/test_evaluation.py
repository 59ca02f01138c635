# SPDX-License-Identifier: Apache-2.0
"""Probes on frozen features: nearest neighbours, logistic regression, few labels."""

import keras
import numpy as np
import pytest

from keras_ssl.evaluation import (
    extract_features,
    few_label_accuracy,
    knn_accuracy,
    knn_scores,
    linear_probe,
)

RNG = np.random.default_rng(0)


def blobs(rows=60, classes=3, dimensions=8, spread=0.1, seed=0):
    """Separable clusters around orthogonal directions."""
    generator = np.random.default_rng(seed)
    y = np.arange(rows) % classes
    x = np.eye(dimensions)[y] + spread * generator.normal(size=(rows, dimensions))
    return x.astype("float32"), y


def unit(x):
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def test_knn_with_one_neighbour_is_the_nearest():
    train, labels = RNG.normal(size=(50, 6)), RNG.integers(0, 4, 50)
    test = RNG.normal(size=(31, 6))
    nearest = labels[(unit(test) @ unit(train).T).argmax(axis=1)]
    for weighting in ("exponential", "vote"):
        assert knn_accuracy(train, labels, test, nearest, k=1, weighting=weighting) == 1.0


def test_knn_scores_are_sums_of_weights_by_class():
    train, labels = RNG.normal(size=(20, 5)), RNG.integers(0, 3, 20)
    test = RNG.normal(size=(4, 5))
    cosines = unit(test) @ unit(train).T
    for weighting in ("exponential", "vote"):
        wanted = np.zeros((4, 3))
        for row in range(4):
            for neighbour in np.argsort(-cosines[row])[:7]:
                weight = np.exp(cosines[row, neighbour] / 0.1) if weighting[0] == "e" else 1.0
                wanted[row, labels[neighbour]] += weight
        scores = knn_scores(train, labels, test, k=7, temperature=0.1, weighting=weighting)
        np.testing.assert_allclose(scores, wanted, rtol=1e-9)


def test_knn_vote_and_exponential_differ_where_one_close_meets_two_far():
    train = np.array([[1.0, 0.0], [0.5, 0.9], [0.5, -0.9]])
    labels, test, truth = np.array([0, 1, 1]), np.array([[1.0, 0.0]]), np.array([0])
    assert knn_accuracy(train, labels, test, truth, k=3) == 1.0
    assert knn_accuracy(train, labels, test, truth, k=3, weighting="vote") == 0.0


def test_knn_ties_go_to_the_lower_class():
    train, test = np.tile([[1.0, 0.0]], (4, 1)), np.array([[1.0, 0.0]])
    for labels in ([2, 1, 1, 2], [1, 2, 2, 1]):
        for weighting in ("vote", "exponential"):
            assert knn_accuracy(train, labels, test, [1], k=4, weighting=weighting) == 1.0
            # The second place is class 2; of the classes without a vote, 0 comes before 3.
            for truth, top, hit in [(2, 1, 0), (2, 2, 1), (0, 2, 0), (0, 3, 1), (3, 3, 0)]:
                share = knn_accuracy(
                    train, labels, test, [truth], k=4, top=top, weighting=weighting, num_classes=4
                )
                assert share == hit


def test_knn_top_wider_than_the_classes_counts_all():
    x, y = blobs()
    assert knn_accuracy(x, y, x, y[::-1].copy(), k=5, top=9) == 1.0


def test_knn_needs_a_bank_of_k_rows():
    x, y = blobs(rows=9)
    with pytest.raises(ValueError, match=r"k is 10, expected 1 to 9"):
        knn_accuracy(x, y, x, y, k=10)
    y[0] = -1
    with pytest.raises(ValueError, match=r"k is 9, expected 1 to 8"):
        knn_accuracy(x, y, x, y, k=9)


def test_knn_of_half_precision_and_small_temperatures_is_finite():
    x, y = blobs(spread=0.3)
    half = (1000 * x).astype("float16")
    scores = knn_scores(half, y, half, k=5)
    assert np.isfinite(scores).all() and scores.max() > 65504
    np.testing.assert_allclose(scores, knn_scores(half.astype("float64"), y, half, k=5), rtol=1e-4)
    # exp(1 / 0.0001) leaves float64; the arg max must not notice.
    assert knn_accuracy(x, y, x, y, k=1, temperature=1e-4) == 1.0


def test_knn_chunks_do_not_change_the_result(monkeypatch):
    x, y = blobs(spread=1.2)
    test, truth = blobs(spread=1.2, seed=1)
    whole = knn_scores(x, y, test, k=7), knn_accuracy(x, y, test, truth, k=7)
    monkeypatch.setattr("keras_ssl.evaluation.knn._CHUNK_NUMBERS", 7 * len(x))
    np.testing.assert_allclose(knn_scores(x, y, test, k=7), whole[0], rtol=1e-5)
    assert knn_accuracy(x, y, test, truth, k=7) == whole[1] < 1.0


def test_knn_num_classes():
    x, y = blobs()
    assert knn_scores(x, y, x[:2], k=3).shape == (2, 3)
    assert knn_scores(x, y, x[:2], k=3, num_classes=7).shape == (2, 7)
    with pytest.raises(ValueError, match="class 2, expected below 2"):
        knn_accuracy(x, y, x, y, k=3, num_classes=2)
    # A class that only the test rows have is wrong, not an error.
    assert knn_accuracy(x, y, x[:1], [5], k=3) == 0.0


PROBES = {
    "knn": lambda *data: knn_accuracy(*data, k=3),
    "linear": linear_probe,
    "few": lambda *data: few_label_accuracy(*data, labels_per_class=(2,), draws=2)[2][0],
}


@pytest.mark.parametrize("probe", PROBES.values(), ids=PROBES)
def test_unlabelled_rows_are_dropped(probe):
    x, y = blobs()
    noise = np.concatenate([x, 100 * RNG.normal(size=(3, 8)).astype("float32")])
    assert probe(x, y, noise, np.concatenate([y, [-1] * 3])) == 1.0
    mirrored = np.concatenate([x, -x])
    assert probe(mirrored, np.concatenate([y, -np.ones_like(y)]), x, y) == 1.0


@pytest.mark.parametrize("probe", PROBES.values(), ids=PROBES)
def test_missing_or_misshapen_labels_say_so(probe):
    x, y = blobs()
    for labels, message in [
        (None, "train_y is None"),
        (np.full(len(y), -1), "no labelled row"),
        (y[:5], "one class index per row"),
        (np.eye(3)[y], "not one-hot"),
        (y + 0.5, "integer class indices"),
        (y - 5, "or -1 for unlabelled"),
    ]:
        with pytest.raises(ValueError, match=message):
            probe(x, labels, x, y)
    with pytest.raises(ValueError, match="test_y is None"):
        probe(x, y, x, None)
    with pytest.raises(ValueError, match="same encoder"):
        probe(x, y, x[:, :4], y)
    broken = x.copy()
    broken[4, 2] = np.nan
    with pytest.raises(ValueError, match="first: row 4"):
        probe(broken, y, x, y)


def test_linear_probe_separates_what_is_separable():
    x, y = blobs()
    # Standardisation makes it blind to the scale and offset of single dimensions.
    stretched = x * 10.0 ** np.arange(-4, 4) + 7
    assert linear_probe(x, y, x, y) == linear_probe(stretched, y, stretched, y) == 1.0
    shuffled = np.random.default_rng(1).permutation(y)
    assert linear_probe(x, shuffled, x, y) < 0.8
    with pytest.raises(ValueError, match="class 0 only"):
        linear_probe(x, 0 * y, x, y)


def test_few_labels_are_deterministic_and_more_help():
    x, y = blobs(rows=120, spread=0.8)
    data = (x, y, *blobs(rows=90, spread=0.8, seed=1))
    first = few_label_accuracy(*data, labels_per_class=(1, 20), draws=5)
    assert first == few_label_accuracy(*data, labels_per_class=(1, 20), draws=5)
    # A number's draws do not depend on which other numbers are asked for.
    assert few_label_accuracy(*data, labels_per_class=(20,), draws=5)[20] == first[20]
    assert first != few_label_accuracy(*data, labels_per_class=(1, 20), draws=5, seed=1)
    assert first[20][0] > first[1][0] + 0.05
    assert first[1][1] > 0


def test_a_fraction_of_labels_is_that_of_every_class():
    x, y = blobs(rows=120, spread=0.8)
    data = (x, y, *blobs(rows=90, spread=0.8, seed=1))
    both = few_label_accuracy(*data, labels_per_class=(1,), fractions=(0.025, 0.5), draws=5)
    # One of forty rows; the draws are others.
    assert both[0.025][0] == pytest.approx(both[1][0], abs=0.15)
    assert both[0.5][0] > both[0.025][0] + 0.05
    alone = few_label_accuracy(*data, labels_per_class=(), fractions=(0.5,), draws=5)
    assert alone == {0.5: both[0.5]}
    # Rows without a label count for nothing.
    hidden = np.concatenate([y, np.full(120, -1)])
    more = (np.concatenate([x, x]), hidden, *data[2:])
    again = few_label_accuracy(*more, labels_per_class=(), fractions=(0.5,), draws=5)
    assert again[0.5] == pytest.approx(alone[0.5])
    with pytest.raises(ValueError, match="between 0 and 1"):
        few_label_accuracy(*data, fractions=(1.0,))


def test_few_labels_ignore_a_common_offset():
    x, y = blobs(spread=0.2)
    plain = few_label_accuracy(x, y, x, y, labels_per_class=(1,), draws=3)
    moved = few_label_accuracy(x + 30, y, x + 30, y, labels_per_class=(1,), draws=3)
    assert moved[1][0] == pytest.approx(plain[1][0], abs=0.02)


def test_few_labels_name_the_class_that_is_too_small():
    x, y = blobs(rows=10)
    with pytest.raises(ValueError, match="Class 1 has 3 labelled"):
        few_label_accuracy(x, y, x, y, labels_per_class=(4,))
    with pytest.raises(ValueError, match="at least one draw"):
        few_label_accuracy(x, y, x, y, draws=0)


def encoder():
    return keras.Sequential(
        [
            keras.Input((6, 6, 1)),
            keras.layers.Conv2D(5, 3),
            keras.layers.BatchNormalization(),
            keras.layers.Dropout(0.5),
            keras.layers.GlobalAveragePooling2D(),
        ]
    )


def test_probing_leaves_every_weight_bit_identical():
    model = encoder()
    images, labels = RNG.normal(size=(40, 6, 6, 1)).astype("float32"), np.arange(40) % 2
    before = [w.copy() for w in model.get_weights()]
    features = extract_features(model, images, batch_size=16, verbose=False)
    linear_probe(features, labels, features, labels)
    knn_accuracy(features, labels, features, labels, k=3)
    few_label_accuracy(features, labels, features, labels, labels_per_class=(1,), draws=1)
    for old, new in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


def test_features_are_in_order_and_inference_mode():
    model = encoder()
    images = RNG.normal(size=(37, 6, 6, 1)).astype("float32")
    features = extract_features(model, images, batch_size=16, verbose=False)
    assert features.shape == (37, 5) and features.dtype == np.float32
    alone = keras.ops.convert_to_numpy(model(images[20:21], training=False))
    np.testing.assert_allclose(features[20:21], alone, rtol=1e-5, atol=1e-6)


def test_features_of_a_dataset():
    tf = pytest.importorskip("tensorflow")
    model = encoder()
    images = RNG.normal(size=(9, 6, 6, 1)).astype("float32")
    batches = tf.data.Dataset.from_tensor_slices((images, np.arange(9))).batch(4)
    np.testing.assert_allclose(
        extract_features(model, batches, verbose=False),
        extract_features(model, images, verbose=False),
        rtol=1e-5,
        atol=1e-6,
    )


def test_features_must_be_vectors():
    inputs = keras.Input((6, 6, 1))
    maps = keras.layers.Conv2D(5, 3)(inputs)
    with pytest.raises(ValueError, match="GlobalAveragePooling2D"):
        extract_features(keras.Model(inputs, maps), np.zeros((2, 6, 6, 1)))
    with pytest.raises(ValueError, match="list of outputs"):
        extract_features(keras.Model(inputs, [maps, maps]), np.zeros((2, 6, 6, 1)))
