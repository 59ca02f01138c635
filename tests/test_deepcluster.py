# SPDX-License-Identifier: Apache-2.0
"""Spherical k-means, numbered rows, and what is particular to DeepCluster-v2."""

import math

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import ops
from model_test import assert_goes_on_alike, build, images, light_views, smooth_encoder, train

import keras_ssl
from keras_ssl import data, layers, losses, models
from keras_ssl.layers import _kmeans

pytestmark = pytest.mark.usefixtures("without_graphs")

SMALL = {"samples": 16, "projector": (16, 8), "prototypes": (5, 4, 3), "recluster_every": 2}


def unit(*shape, seed=0):
    x = np.random.default_rng(seed).normal(size=shape).astype("float32")
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def fresh(replicas=1, **options):
    """A compiled model with an empty memory; `build` fills it."""
    keras.utils.set_random_seed(0)
    model = models.DeepClusterV2(
        smooth_encoder(), views=light_views(), seed=5, **{**SMALL, **options}
    )
    model.compile(keras.optimizers.SGD(0.02, momentum=0.9))
    return model


# --- k-means -------------------------------------------------------------------------------------


def planted(clusters=4, each=25, width=16):
    """Vectors around well separated directions, shuffled, and their clusters."""
    centres = unit(clusters, width)
    labels = np.random.default_rng(1).permutation(np.repeat(np.arange(clusters), each))
    noise = np.random.default_rng(2).normal(size=(len(labels), width)).astype("float32")
    x = centres[labels] + 0.05 * noise
    return x / np.linalg.norm(x, axis=1, keepdims=True), labels, centres


@pytest.mark.parametrize("jit", [False, True])
def test_planted_clusters_are_found(jit):
    x, labels, centres = planted()
    # One start a cluster: k-means never leaves a start with two in one cluster.
    start = x[[int(np.flatnonzero(labels == cluster)[0]) for cluster in range(4)]]
    found, centroids = tf.function(layers.spherical_kmeans, jit_compile=jit, autograph=False)(
        x, start
    )
    np.testing.assert_array_equal(found, labels)
    assert np.sum(np.asarray(centroids) * centres, axis=1).min() > 0.98
    np.testing.assert_allclose(np.linalg.norm(centroids, axis=1), 1, atol=1e-5)


def test_an_empty_cluster_keeps_its_centroid():
    x, _, centres = planted(clusters=1)
    # Opposite to all vectors.
    start = np.stack([x[0], x[1], -centres[0]])
    found, centroids = layers.spherical_kmeans(x, start, 3)
    assert 2 not in np.asarray(found)
    np.testing.assert_array_equal(centroids[2], start[2])
    assert not np.allclose(centroids[:2], start[:2], atol=1e-3)


def test_the_last_step_assigns_to_the_centroids_returned():
    x = unit(200, 6)
    for rounds in (1, 2):
        found, centroids = layers.spherical_kmeans(x, x[:7], rounds)
        np.testing.assert_array_equal(found, np.argmax(x @ np.asarray(centroids).T, axis=1))


def test_rows_in_parts_give_the_same(monkeypatch):
    x = unit(50, 6)
    wanted = layers.spherical_kmeans(x, x[:7], 4)
    # 7 rows at a time, which do not divide 50.
    monkeypatch.setattr(_kmeans, "_MOST", 50)
    for part, whole in zip(layers.spherical_kmeans(x, x[:7], 4), wanted, strict=True):
        np.testing.assert_allclose(part, whole, atol=1e-6)


def test_kmeans_refuses_what_it_cannot_do():
    with pytest.raises(ValueError, match="centroids \\(K, D\\)"):
        layers.spherical_kmeans(unit(8, 4), unit(2, 3))
    with pytest.raises(ValueError, match="iterations > 0"):
        layers.spherical_kmeans(unit(8, 4), unit(2, 4), 0)


# --- the loss ------------------------------------------------------------------------------------


def test_uniform_scores_cost_the_log_of_the_number_of_clusters():
    flat = [np.zeros((3, 8, 5), "float32"), np.zeros((3, 8, 7), "float32")]
    wanted = (math.log(5) + math.log(7)) / 2
    targets = np.zeros((2, 8), "int32")
    assert float(losses.deepcluster_v2(flat, targets)) == pytest.approx(wanted, rel=1e-5)


def test_rows_without_target_are_left_out():
    given = np.random.default_rng(0).normal(size=(1, 2, 8, 5)).astype("float32")
    targets = np.array([[0, 1, 2, 3, 4, -1, -1, -1]])
    some = losses.deepcluster_v2(list(given), targets)
    kept = losses.deepcluster_v2(list(given[:, :, :5]), targets[:, :5])
    assert float(some) == pytest.approx(float(kept), rel=1e-5)
    assert float(losses.deepcluster_v2(list(given), np.full((1, 8), -1))) == 0
    swapped = losses.deepcluster_v2(list(given), np.where(targets < 0, 0, targets))
    assert float(swapped) != pytest.approx(float(some), rel=1e-3)


def test_the_loss_refuses_what_does_not_fit():
    with pytest.raises(ValueError, match="one .crops, batch, clusters. tensor"):
        losses.deepcluster_v2([np.zeros((8, 5))], np.zeros((1, 8), "int32"))
    with pytest.raises(ValueError, match="a row for each head"):
        losses.deepcluster_v2([np.zeros((2, 8, 5))], np.zeros((2, 8), "int32"))


# --- numbered rows -------------------------------------------------------------------------------


def test_arrays_are_numbered_by_fit():
    model = fresh()
    model.fit(images(), batch_size=8, verbose=0)
    np.testing.assert_allclose(np.linalg.norm(model.memory, axis=-1), 1, atol=1e-5)
    # Row i of the memory is image i, whatever the order in which fit shows them.
    other = fresh()
    other.fit(data.pipeline(images(), 16, seed=3, indices=True), verbose=0)
    similar = np.einsum("nd,nd->n", *(np.asarray(m.memory)[0] for m in (model, other)))
    mixed = np.einsum("nd,nd->n", np.asarray(model.memory)[0], np.asarray(other.memory)[0][::-1])
    assert similar.mean() > mixed.mean()


@pytest.mark.parametrize("form", ["dataset", "stream"])
def test_batches_bring_the_numbers_of_their_rows(form):
    numbers = np.arange(23, dtype="int32")[:, None]
    feed = data.EpochData(numbers, 5, seed=0, indices=True)
    batches = list(feed.dataset() if form == "dataset" else feed.stream(epochs=1))
    assert sorted(np.concatenate([np.asarray(i) for _, i in batches])) == list(range(23))
    for x, index in batches:
        np.testing.assert_array_equal(np.asarray(x)[:, 0], index)
    with pytest.raises(ValueError, match="not both"):
        data.EpochData((numbers, np.zeros(23, "int64")), 5, seed=0, labels=True, indices=True)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (lambda: tf.data.Dataset.from_tensors(images()), "yields none"),
        (lambda: tf.data.Dataset.from_tensors((images(), np.zeros(16))), "integers from 0"),
        (lambda: images(17), "made for samples=16 rows; received 17"),
        (lambda: tf.data.Dataset.from_tensors((images(), np.arange(16) + 1)), "samples=16 rows"),
        (lambda: tf.data.Dataset.from_tensors((images(), np.arange(16) - 1)), "samples=16 rows"),
    ],
)
def test_missing_and_wrong_numbers_are_named(given, message):
    with pytest.raises((ValueError, tf.errors.InvalidArgumentError), match=message):
        fresh().fit(given(), verbose=0)


def test_labels_are_not_taken_for_numbers():
    with pytest.raises(ValueError, match="Leave y out"):
        fresh().fit(images(), np.zeros(16, "int64"), verbose=0)


# --- the model -----------------------------------------------------------------------------------


def test_the_first_epoch_only_fills_the_memory():
    model = fresh()
    assert train(model, 1)[0]["loss"] == 0
    assert np.asarray(model.assignments).max() == -1
    np.testing.assert_allclose(np.linalg.norm(model.memory, axis=-1), 1, atol=1e-5)
    logs = train(model, 2, first=1)
    # Clustered every second step, with two steps of 16 rows.
    assert logs[0]["loss"] == 0 and logs[1]["loss"] > 0
    assert np.asarray(model.assignments).min() >= 0


def test_filling_gives_targets_from_the_first_step():
    model = fresh()
    before = [np.asarray(v) for v in model.trainable_variables]
    model.fill_memory(images(), batch_size=6)
    np.testing.assert_allclose(np.linalg.norm(model.memory, axis=-1), 1, atol=1e-5)
    for old, new in zip(before, model.trainable_variables, strict=True):
        np.testing.assert_array_equal(old, new)
    assert train(model, 1)[0]["loss"] > 0
    assert model.predict(images(4), verbose=0).shape == (4, 16)
    with pytest.raises(ValueError, match="received 17 images"):
        model.fill_memory(images(17))


@pytest.mark.parametrize("accumulate", [None, 2])
def test_the_steps_of_clustering(accumulate):
    """Centroids are set before steps 0, 2 and 4 and stand still in between."""
    model = build(models.DeepClusterV2, SMALL)
    model.compile(keras.optimizers.SGD(0.05, gradient_accumulation_steps=accumulate))
    for batch in range(5 * (accumulate or 1)):
        step, micro = divmod(batch, accumulate or 1)
        old = [np.asarray(scorer.vectors) for scorer in model.scorers]
        targets = np.asarray(model.assignments)
        train(model, 1, first=batch)
        moved = [not np.array_equal(a, s.vectors) for a, s in zip(old, model.scorers, strict=True)]
        assert moved == [step % 2 == 0 and micro == 0] * 3, batch
        if not any(moved):
            np.testing.assert_array_equal(targets, model.assignments)


def test_by_default_an_epoch_passes_between_two_clusterings():
    model = build(models.DeepClusterV2, {**SMALL, "samples": 16, "recluster_every": None})
    for step in range(6):
        train(model, 1, first=step, rows=6)  # 16 // 6 = 2
        assert int(model.clustered) == step // 2 * 2


def test_centroids_are_those_of_the_memory_of_their_crop():
    model = build(models.DeepClusterV2, SMALL)
    memory = np.asarray(model.memory)
    assert not np.allclose(memory[0], memory[1], atol=1e-2)
    train(model, 1)
    for head, scorer in enumerate(model.scorers):
        centroids = np.asarray(scorer.vectors)
        np.testing.assert_allclose(np.linalg.norm(centroids, axis=0), 1, atol=1e-5)
        found = np.argmax(memory[head % 2] @ centroids, axis=1)
        np.testing.assert_array_equal(model.assignments[head], found)
        other = np.argmax(memory[1 - head % 2] @ centroids, axis=1)
        assert not np.array_equal(found, other)
    assert not any(scorer.trainable_variables for scorer in model.scorers)


@pytest.mark.slow
def test_the_memory_takes_the_rows_of_all_replicas_in_place():
    model = build(models.DeepClusterV2, SMALL, replicas=2)
    alone = build(models.DeepClusterV2, SMALL)
    for one in (model, alone):
        one.memory.assign(ops.zeros_like(one.memory))
        train(one, 1)
    np.testing.assert_allclose(model.memory, alone.memory, atol=1e-5)
    assert np.abs(np.asarray(alone.memory)).max(axis=-1).min() > 0
    for variable in (model.memory, model.assignments, model.scorers[0].vectors):
        first, second = (np.asarray(part) for part in variable.value.values)
        np.testing.assert_array_equal(first, second)


def test_evaluation_needs_no_numbers():
    model = build(models.DeepClusterV2, SMALL)
    train(model, 1)
    memory = np.asarray(model.memory)
    loss = model.evaluate(images(40, seed=3), verbose=0)
    assert np.all(np.isfinite(loss))
    np.testing.assert_array_equal(memory, model.memory)


@pytest.mark.slow
def test_memory_and_targets_survive_a_file(tmp_path):
    model = build(models.DeepClusterV2, SMALL)
    train(model, 3)
    model.save(tmp_path / "model.keras")
    loaded = keras_ssl.load_model(tmp_path / "model.keras")
    for name in ("memory", "assignments", "clustered"):
        np.testing.assert_array_equal(getattr(model, name), getattr(loaded, name))
    # Step 3 uses the old clusters, step 4 new ones.
    assert_goes_on_alike(train(model, 2, first=3), train(loaded, 2, first=3))
    np.testing.assert_array_equal(model.assignments, loaded.assignments)


def test_the_model_refuses_what_it_cannot_do():
    with pytest.raises(ValueError, match="no more clusters than samples"):
        fresh(samples=4)
    with pytest.raises(ValueError, match="recluster_every is at least 1"):
        fresh(recluster_every=0)
