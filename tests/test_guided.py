# SPDX-License-Identifier: Apache-2.0
"""Guided batches and G-SimCLR."""

import numpy as np
import pytest
from model_test import build, images
from sklearn.cluster import KMeans
from sklearn.datasets import load_digits
from test_models import SMALL

from keras_ssl import backbones, data, models
from keras_ssl.run import training
from keras_ssl.run.folder import RunFolder


def uneven(seed=0, rows=300, clusters=12):
    shares = np.random.default_rng(seed).dirichlet(np.ones(clusters))
    found = np.random.default_rng(seed).choice(clusters, rows, p=shares)
    found[:clusters] = np.arange(clusters)
    return found


@pytest.mark.parametrize("seed", range(3))
def test_within_a_rank_every_cluster_occurs_at_most_once(seed):
    clusters = uneven(seed)
    rank, order = data.guided_order(clusters)
    assert np.array_equal(np.sort(order), np.arange(len(clusters)))
    assert np.all(np.diff(rank[order]) >= 0)
    for value in np.unique(rank):
        members = clusters[rank == value]
        assert len(set(members)) == len(members)
    # As long as every cluster has members left, runs of all clusters hold each once.
    smallest = np.bincount(clusters).min()
    runs = clusters[order][: 12 * smallest].reshape(smallest, 12)
    assert np.all(np.sort(runs, axis=1) == np.arange(12))


@pytest.mark.parametrize("batch", [5, 12])
def test_no_batch_holds_two_of_one_cluster(batch):
    clusters = uneven()
    order = data.GuidedOrder(clusters, batch, seed=3)
    seen = set()
    for epoch in range(40):
        rows = order(epoch)
        assert rows.shape == (300 // batch * batch,)
        groups = clusters[rows].reshape(-1, batch)
        assert all(len(set(group)) == batch for group in groups)
        seen |= set(rows)
    # A large cluster shows other members in every epoch.
    assert len(seen) > 0.9 * len(clusters)


def test_guided_batches_are_a_function_of_seed_and_epoch():
    first, again, other = (data.GuidedOrder(uneven(), 6, seed=s) for s in (1, 1, 2))
    assert np.array_equal(first(4), again(4))
    assert not np.array_equal(first(4), first(5)) and not np.array_equal(first(4), other(4))
    mixed = data.GuidedOrder(uneven(), 7, leftover="mix")
    assert np.array_equal(mixed(0), mixed(9))
    assert np.array_equal(mixed(0), data.guided_order(uneven())[1][: 300 // 7 * 7])


def same_class_pairs(labels, rows, batch):
    groups = labels[rows][: len(rows) // batch * batch].reshape(-1, batch)
    pairs = (groups[:, :, None] == groups[:, None]).sum() - groups.size
    return pairs / (groups.size * (batch - 1))


def test_guided_batches_hold_fewer_pairs_of_one_class():
    digits, labels = load_digits(return_X_y=True)
    clusters = KMeans(32, n_init=1, random_state=0).fit_predict(digits)
    guided = same_class_pairs(labels, data.GuidedOrder(clusters, 32)(0), 32)
    shuffled = same_class_pairs(labels, data.epoch_order(len(labels), 0, 0), 32)
    assert shuffled > 0.09
    # With more clusters than a batch takes from, neighbouring clusters seldom meet.
    assert guided < 0.9 * shuffled


def test_an_order_feeds_epochs():
    x = np.arange(20.0, dtype="float32")[:, None]
    order = data.GuidedOrder(np.arange(20) % 4, 4, seed=0)
    feed = data.EpochData(x, 4, seed=0, order=order)
    assert feed.steps_per_epoch == 5
    given = [np.asarray(b)[:, 0].astype(int) for b in feed.stream(epochs=2)]
    assert np.array_equal(np.concatenate(given), np.concatenate([order(0), order(1)]))


def test_the_autoencoder_halves_and_restores():
    network = backbones.DenoisingAutoencoder((28, 30, 1), widths=(4, 8, 16), seed=0)
    assert network.output_shape == (None, 28, 30, 1)
    assert network.get_layer("bottleneck").output.shape == (None, 4, 4, 16)


@pytest.mark.slow
def test_fit_on_an_array_guides_its_batches(monkeypatch):
    model = build(models.GSimCLR, {**SMALL[models.GSimCLR], "autoencoder_epochs": 2})
    batch = images(64)
    given = []
    monkeypatch.setattr(
        data,
        "GuidedOrder",
        lambda c, size, **k: given.append((c, size)) or (lambda e: np.arange(64)),
    )
    model.fit(batch, batch_size=8, epochs=2, verbose=0)
    assert int(model.optimizer.iterations) == 16
    clusters, size = given[0]
    assert size == 8 and clusters.shape == (64,) and len(np.unique(clusters)) == 8


def test_a_run_keeps_its_clusters(tmp_path):
    asked = []

    class Guide:
        leftover = "repeat"
        guided_feed = models.GSimCLR.guided_feed

        def clusters_of(self, pictures, size):
            asked.append(size)
            return np.arange(len(pictures)) % size

    feed = data.EpochData(images(32), 8, seed=1)
    folder = RunFolder(tmp_path / "run")
    first, second = (training.guided(Guide(), feed, folder) for _ in range(2))
    assert asked == [8]
    assert np.array_equal(first.rows(3, 1), second.rows(3, 1))
    assert all(len(set(first.rows(0, batch) % 8)) == 8 for batch in range(4))


@pytest.mark.parametrize(
    ("action", "message"),
    [
        (lambda: data.guided_order([0.5, 1.0]), "one integer per row"),
        (lambda: data.GuidedOrder(np.arange(10) % 3, 4), "3 clusters for batches of 4"),
        (lambda: data.GuidedOrder(np.arange(10), 11), "cannot be taken from 10"),
        (lambda: data.GuidedOrder(np.arange(10), 4, leftover="drop"), "leftover is one of"),
        (lambda: backbones.DenoisingAutoencoder((8, 8, 3), widths=()), "widths must be"),
    ],
)
def test_mistakes_are_named(action, message):
    with pytest.raises(ValueError, match=message):
        action()


def test_too_few_images_are_named():
    model = build(models.GSimCLR, SMALL[models.GSimCLR])
    with pytest.raises(ValueError, match="cannot be split"):
        model.clusters_of(images(12), 8)
