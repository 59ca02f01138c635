# SPDX-License-Identifier: Apache-2.0
"""Order, resumption, checks and contents of the fed batches."""

import keras
import numpy as np
import pytest

from keras_ssl import data


def rows_fed(dataset):
    return [np.asarray(batch).ravel().tolist() for batch in dataset]


def numbered(rows=23):
    return np.arange(rows, dtype=np.int32)[:, None]


def test_order_is_a_function_of_seed_and_epoch():
    first = data.epoch_order(1000, 3, 5)
    assert np.array_equal(first, data.epoch_order(1000, 3, 5))
    assert not np.array_equal(first, data.epoch_order(1000, 3, 6))
    assert not np.array_equal(first, data.epoch_order(1000, 4, 5))
    assert np.array_equal(np.sort(first), np.arange(1000))


def test_order_is_the_same_on_every_machine():
    assert data.epoch_order(8, 0, 0).tolist() == [0, 2, 1, 5, 4, 3, 6, 7]


def test_negative_seed():
    assert sorted(data.epoch_order(5, -1, 0)) == list(range(5))


def test_every_row_once_in_each_epoch_and_another_order_in_the_next():
    dataset = data.pipeline(numbered(), 5, seed=1)
    epochs = [rows_fed(dataset) for _ in range(3)]
    for batches in epochs:
        assert [len(batch) for batch in batches] == [5, 5, 5, 5, 3]
        assert sorted(sum(batches, [])) == list(range(23))
    assert epochs[0] != epochs[1] != epochs[2]
    assert sum(epochs[2], []) == data.epoch_order(23, 1, 2).tolist()


def test_iteration_broken_off_is_repeated():
    dataset = data.pipeline(numbered(), 5, seed=1)
    for batch in dataset:
        started = np.asarray(batch).ravel().tolist()
        break
    assert rows_fed(dataset)[0] == started


def test_stored_order_without_shuffle():
    dataset = data.pipeline(numbered(7), 4, seed=1, shuffle=False)
    assert rows_fed(dataset) == rows_fed(dataset) == [[0, 1, 2, 3], [4, 5, 6]]


@pytest.mark.parametrize("form", ["dataset", "stream"])
@pytest.mark.parametrize("start", [(0, 0), (0, 3), (1, 0), (2, 4)])
def test_resumed_batches_are_the_rest_of_the_undisturbed_run(form, start):
    epoch, batch = start
    feed = data.EpochData(numbered(), 5, seed=9)
    whole = rows_fed(feed.stream(epochs=4))
    if form == "stream":
        rest = rows_fed(feed.stream(epoch, batch, epochs=4 - epoch))
    else:
        dataset = feed.dataset(epoch, batch)
        rest = [step for _ in range(epoch, 4) for step in rows_fed(dataset)]
    assert rest == whole[epoch * feed.steps_per_epoch + batch :]
    assert feed.rows(epoch, batch).tolist() == rest[0]


def test_drop_remainder():
    feed = data.EpochData(numbered(), 5, seed=0, drop_remainder=True)
    assert feed.steps_per_epoch == 4
    assert [len(batch) for batch in rows_fed(feed.dataset())] == [5, 5, 5, 5]


def test_cardinality():
    feed = data.EpochData(numbered(), 5, seed=0)
    assert int(feed.dataset().cardinality()) == feed.steps_per_epoch == 5
    assert int(feed.stream(1, 2, epochs=2).cardinality()) == 8
    assert int(feed.stream().cardinality()) == -1


def test_labels_stay_with_their_rows_and_types_are_kept():
    images = np.arange(12, dtype=np.uint8).reshape(12, 1, 1, 1)
    dataset = data.pipeline((images, np.arange(12) % 3), 4, seed=0, labels=True)
    for x, y in dataset:
        assert x.dtype == "uint8" and y.dtype == "int64"
        assert np.array_equal(np.asarray(x).ravel() % 3, y)


def test_nan_is_named_in_the_first_epoch_fed():
    images = np.zeros((20, 2, 2, 1), np.float32)
    images[13, 0, 1, 0] = np.nan
    for start in (0, 4):
        with pytest.raises(Exception, match="Row 13 of arrays holds NaN or infinity"):
            rows_fed(data.pipeline(images, 6, seed=0, start_epoch=start))
    assert len(rows_fed(data.pipeline(images, 6, seed=0, check_finite=False))) == 4


def test_a_dict_of_arrays_stays_together_and_may_have_gaps():
    table = {
        "numeric": np.arange(20, dtype=np.float32)[:, None],
        "categorical": np.arange(20, dtype=np.uint8)[:, None] * 2,
    }
    feed = data.EpochData((table, np.arange(20)), 6, seed=0, labels=True)
    assert feed.source.image_shape == {"numeric": (1,), "categorical": (1,)}
    assert len(feed.source.take(8)) == len(feed.source.holdout(0.4).images["numeric"]) - 4 == 8
    seen = []
    for x, y in feed.dataset():
        assert x["categorical"].dtype == "uint8" and x["numeric"].shape[1:] == (1,)
        assert np.array_equal(x["numeric"][:, 0], y) and np.array_equal(
            x["categorical"][:, 0], 2 * y
        )
        seen += y.numpy().tolist()
    assert sorted(seen) == list(range(20))
    table["numeric"][13] = np.nan
    with pytest.raises(Exception, match="Row 13 of 'numeric' of arrays .* check_finite='missing'"):
        list(data.pipeline(table, 6, seed=0))
    assert len(list(data.pipeline(table, 6, seed=0, check_finite="missing"))) == 4
    table["numeric"][13] = np.inf
    with pytest.raises(Exception, match="Row 13 of 'numeric' of arrays holds infinity"):
        list(data.pipeline(table, 6, seed=0, check_finite="missing"))
    with pytest.raises(ValueError, match="as many rows in each"):
        data.EpochData({**table, "categorical": np.zeros((3, 1))}, 6, seed=0)
    with pytest.raises(ValueError, match="check_finite is True, False or 'missing'"):
        data.EpochData(table, 6, seed=0, check_finite="nan")


def test_finite_check_ends_with_the_first_epoch():
    images = np.zeros((20, 2), np.float32)
    dataset = data.pipeline(images, 6, seed=0)
    rows_fed(dataset)
    images[3] = np.inf
    assert len(rows_fed(dataset)) == 4


@pytest.mark.parametrize("form", ["dataset", "stream"])
def test_keras_fit_sees_every_epoch_in_its_order(form):
    seen = []

    class Recorder(keras.Model):
        def train_step(self, batch):
            import tensorflow as tf

            tf.py_function(lambda x: seen.append(x.numpy().ravel().tolist()), [batch], [])
            return {"loss": 0.0}

    feed = data.EpochData(numbered(), 5, seed=2)
    model = Recorder()
    model.compile()
    if form == "dataset":
        model.fit(feed.dataset(), epochs=3, verbose=0)
    else:
        model.fit(feed.stream(), steps_per_epoch=feed.steps_per_epoch, epochs=3, verbose=0)
    assert seen == rows_fed(feed.stream(epochs=3))


def test_strategy_gets_each_row_of_a_global_batch_once():
    import tensorflow as tf

    devices = tf.config.list_logical_devices("CPU")
    if len(devices) < 2:
        pytest.skip("needs two logical devices")
    strategy = tf.distribute.MirroredStrategy([device.name for device in devices[:2]])
    feed = data.EpochData(numbered(12), 4, seed=2)
    dataset = strategy.experimental_distribute_dataset(feed.stream(epochs=2))
    fed = [
        np.concatenate([part.numpy().ravel() for part in batch.values]).tolist()
        for batch in dataset
    ]
    assert fed == rows_fed(feed.stream(epochs=2))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"source": np.zeros((0, 4)), "batch_size": 2}, "holds no rows"),
        ({"source": numbered(), "batch_size": 0}, "at least 1"),
        ({"source": numbered(3), "batch_size": 4, "drop_remainder": True}, "at most 3"),
        ({"source": numbered(), "batch_size": 4, "labels": True}, "has no labels"),
        ({"source": numbered(), "batch_size": 4, "start_batch": 6}, "from 0 to 5"),
        ({"source": (numbered(), np.zeros(4)), "batch_size": 4}, "shape \\(4,\\) for 23 rows"),
        ({"source": (numbered(),), "batch_size": 4}, "expected \\(x, y\\)"),
        ({"source": (numbered(), np.full(23, 0.5)), "batch_size": 4}, "not whole numbers"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        data.pipeline(**arguments, seed=0)
