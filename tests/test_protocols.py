# SPDX-License-Identifier: Apache-2.0
"""Clusters, retrieval, subsets of labels, and the comparison of encoders."""

import keras
import numpy as np
import pytest

from keras_ssl import evaluation

RNG = np.random.default_rng(0)


def groups(count=60, classes=4, spread=0.3, dimensions=6, seed=0):
    """Features in groups around the axes, and their classes."""
    rng = np.random.default_rng(seed)
    y = np.arange(count) % classes
    return np.eye(dimensions)[y] + spread * rng.normal(size=(count, dimensions)), y


def test_clusters_of_separate_groups_are_the_classes_whatever_their_names():
    x, y = groups(spread=0.05)
    found = evaluation.cluster_scores(x, np.array([7, 3, 0, 5])[y])
    assert found == (pytest.approx(1.0), pytest.approx(1.0), 1.0)
    scaled = evaluation.cluster_scores(x * RNG.uniform(0.1, 10.0, (60, 1)), y)
    assert scaled.accuracy == 1.0
    chance = evaluation.cluster_scores(RNG.normal(size=(600, 6)), np.arange(600) % 4)
    assert abs(chance.ari) < 0.05 and chance.nmi < 0.05 and chance.accuracy < 0.4


def test_accuracy_matches_every_cluster_with_another_class():
    x = np.repeat(np.eye(3), [6, 3, 3], axis=0)
    y = np.array([0] * 4 + [1] * 2 + [1] * 3 + [0] * 3)
    # Three groups, two classes: the first cluster has four of its six, the second all of its
    # three; the third gets no class.
    assert evaluation.cluster_scores(x, y, clusters=3).accuracy == pytest.approx(7 / 12)


def test_retrieval_is_what_scikit_learn_says():
    from sklearn.metrics import average_precision_score

    x, y = groups(40, spread=0.8)
    bank, bank_y = groups(50, spread=0.8, seed=1)
    found = evaluation.retrieval_scores(x, y, bank, bank_y, ks=(1, 3))
    cosines = x @ bank.T / np.linalg.norm(bank, axis=1)
    wanted = [average_precision_score(bank_y == c, s) for c, s in zip(y, cosines, strict=True)]
    assert found.mean_average_precision == pytest.approx(np.mean(wanted))
    first = np.argsort(-cosines, axis=1)[:, :3]
    assert found.recall[3] == np.mean((bank_y[first] == y[:, None]).any(1))
    assert found.recall[1] == np.mean(bank_y[first[:, 0]] == y) < found.recall[3]


def test_nothing_finds_itself_and_chunks_change_nothing(monkeypatch):
    x, y = groups(40, spread=0.8)
    alone = evaluation.retrieval_scores(x, y, ks=(1,))
    assert alone.recall[1] < 1.0
    itself = evaluation.retrieval_scores(x, y, x, y, ks=(1,))
    assert itself.recall[1] == 1.0
    monkeypatch.setattr("keras_ssl.evaluation.retrieval._CHUNK_NUMBERS", 100)
    assert evaluation.retrieval_scores(x, y, ks=(1,)) == alone
    # A class of one sample has nothing to find: missed, and no part of the mean.
    lonely = evaluation.retrieval_scores(np.vstack([x, -x[:1]]), np.append(y, 9), ks=(1,))
    assert lonely.recall[1] == pytest.approx(alone.recall[1] * 40 / 41)


def test_subsets_of_labels_are_balanced_nested_and_the_same_everywhere():
    y = np.array([0] * 50 + [1] * 100 + [2] * 200 + [-1] * 30)
    rows = evaluation.labelled_subset(y, fraction=0.1)
    np.testing.assert_array_equal(np.bincount(y[rows]), [5, 10, 20])
    more = evaluation.labelled_subset(y, fraction=0.3)
    assert set(rows) < set(more)
    np.testing.assert_array_equal(
        np.bincount(y[evaluation.labelled_subset(y, per_class=7)]), [7] * 3
    )
    assert set(evaluation.labelled_subset(y, per_class=3)) < set(
        evaluation.labelled_subset(y, per_class=7)
    )
    assert set(rows) != set(evaluation.labelled_subset(y, fraction=0.1, seed=1))
    assert len(evaluation.labelled_subset(y, fraction=1e-6)) == 3
    # What is drawn of a class does not depend on others.
    np.testing.assert_array_equal(evaluation.labelled_subset(y[:50], fraction=0.1), rows[:5])


def test_a_comparison_has_the_accuracies_of_its_protocols_and_sure_differences():
    train, test = groups(400, spread=0.5), groups(300, spread=0.5, seed=1)
    noise = [RNG.normal(size=part[0].shape) for part in (train, test)]
    inputs = keras.Input((6,))
    same = keras.Model(inputs, keras.layers.Activation("linear")(inputs))
    found = evaluation.compare(
        {"groups": same, "again": (train[0], test[0]), "noise": tuple(noise)}, train, test, k=5
    )
    linear = evaluation.linear_probe(*train, *test)
    knn = evaluation.knn_accuracy(*train, *test, k=5)
    for name in ("groups", "again"):
        assert found.accuracy[name] == {
            "linear": pytest.approx(linear, abs=0.005),
            "knn": pytest.approx(knn, abs=0.005),
        }
    low, high = found.interval["groups"]["linear"]
    error = np.sqrt(linear * (1 - linear) / 300)
    assert low < linear < high
    assert high - low == pytest.approx(2 * 1.96 * error, rel=0.15)
    assert found.difference["groups"]["knn"] == (0.0, 0.0)
    low, high = found.difference["noise"]["knn"]
    assert high < 0
    assert "| noise |" in found.table() and found.table().count("\n") == 4
    assert np.asarray(found.show()).shape[2] == 3


def test_mistakes_are_named():
    x, y = groups()
    with pytest.raises(ValueError, match="number of rows"):
        evaluation.cluster_scores(x, y, clusters=61)
    with pytest.raises(ValueError, match="from 1 to 59"):
        evaluation.retrieval_scores(x, y, ks=(60,))
    with pytest.raises(ValueError, match="nothing can be found"):
        evaluation.retrieval_scores(x, y, x, y + 10, ks=(1,))
    with pytest.raises(ValueError, match="NaN or infinity"):
        evaluation.retrieval_scores(x * np.nan, y)
    with pytest.raises(ValueError, match="a fraction or a number"):
        evaluation.labelled_subset(y)
    with pytest.raises(ValueError, match="at most 1"):
        evaluation.labelled_subset(y, fraction=1.5)
    with pytest.raises(ValueError, match="1 to 15"):
        evaluation.labelled_subset(y, per_class=16)
    with pytest.raises(ValueError, match="needs encoders"):
        evaluation.compare({}, (x, y), (x, y))
    with pytest.raises(ValueError, match="protocols of"):
        evaluation.compare({"a": (x, x)}, (x, y), (x, y), protocols=("svm",))
