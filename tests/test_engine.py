# SPDX-License-Identifier: Apache-2.0
"""The train step on an objective of two inputs: structures, labels and Keras's own options."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import ops
from strategies import run_on, scope

import keras_ssl
from keras_ssl.core import distribution

pytestmark = pytest.mark.usefixtures("without_graphs")


class Agreement(keras_ssl.SSLModel):
    """Predicts the right half of a record from the left one; `seen` keeps what the hooks got."""

    loss_terms = ("distance", "size")

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.left, self.right = keras.layers.Dense(3), keras.layers.Dense(3)
        self.left.build((None, 6))
        self.right.build((None, 4))
        self.built = True
        self.seen = []

    def make_views(self, batch):
        self.seen.append(keras.tree.map_structure(lambda t: tuple(t.shape[1:]), batch))
        return batch

    def compute_losses(self, views, training):
        first = self.left(views["pair"]["left"])
        second = self.right(views["pair"]["right"])
        distance = ops.mean(ops.square(first - second))
        size = ops.mean(ops.square(1.0 - ops.mean(ops.square(first), axis=-1)))
        return {"distance": distance, "size": size}

    def call(self, inputs, training=False):
        return self.left(inputs["pair"]["left"])


class Labelled(Agreement):
    """The same with labels."""

    uses_labels = True

    def make_views(self, batch):
        x, y = batch
        assert tuple(y.shape[1:]) == ()
        return super().make_views(x)


def records(rows=16, seed=0):
    rng = np.random.default_rng(seed)
    pair = {"left": rng.normal(size=(rows, 6)), "right": rng.normal(size=(rows, 4))}
    return {"pair": {name: value.astype("float32") for name, value in pair.items()}}


def compiled(cls=Agreement, replicas=1, **options):
    keras.utils.set_random_seed(0)
    with scope(replicas):
        model = cls(seed=0)
        model.compile(options.pop("optimizer", None) or keras.optimizers.SGD(0.1), **options)
    return model


@pytest.mark.parametrize("form", ["arrays", "dataset", "labelled dataset"])
def test_nested_records_reach_the_hooks_untouched(form):
    x, y = records(), np.zeros(16, "int64")
    data = {
        "arrays": x,
        "dataset": tf.data.Dataset.from_tensor_slices(x).batch(8),
        "labelled dataset": tf.data.Dataset.from_tensor_slices((x, y)).batch(8),
    }[form]
    model = compiled()
    history = model.fit(data, batch_size=8 if form == "arrays" else None, epochs=3, verbose=0)
    assert model.seen[0] == {"pair": {"left": (6,), "right": (4,)}}
    losses = history.history
    assert losses["loss"][-1] < losses["loss"][0]
    np.testing.assert_allclose(
        losses["loss"], np.add(losses["distance"], losses["size"]), rtol=1e-5
    )
    assert model.predict(x, verbose=0).shape == (16, 3)


def test_labels_arrive_only_where_the_class_asks():
    x, y = records(), np.zeros(16, "int64")
    compiled(Labelled).fit(x, y, verbose=0)
    with pytest.raises(ValueError, match="uses labels but the data yields none"):
        compiled(Labelled).fit(x, verbose=0)


def test_two_replicas_train_records_as_one_does():
    data = tf.data.Dataset.from_tensor_slices(records()).batch(8)
    results = []
    for replicas in (1, 2):
        model = compiled(replicas=replicas)
        model.fit(data, verbose=0)
        results.append([np.asarray(v) for v in model.trainable_variables])
    for one, two in zip(*results, strict=True):
        np.testing.assert_allclose(one, two, atol=1e-6)


def test_clipping_accumulation_and_averaged_weights_keep_working():
    x = records()
    clipped = compiled(optimizer=keras.optimizers.SGD(0.1, global_clipnorm=1e-9))
    before = [np.asarray(v) for v in clipped.trainable_variables]
    clipped.fit(x, verbose=0)
    for old, new in zip(before, clipped.trainable_variables, strict=True):
        np.testing.assert_allclose(old, new, atol=1e-7)

    halves = compiled(optimizer=keras.optimizers.SGD(0.1, gradient_accumulation_steps=2))
    halves.fit(x, batch_size=8, shuffle=False, verbose=0)
    assert int(halves.optimizer.iterations) == 1

    averaged = keras.optimizers.SGD(0.1, use_ema=True, ema_momentum=0.5, ema_overwrite_frequency=2)
    plain, smooth = compiled(), compiled(optimizer=averaged)
    for model in (plain, smooth):
        model.fit(x, batch_size=8, shuffle=False, verbose=0)
    pairs = zip(plain.trainable_variables, smooth.trainable_variables, strict=True)
    assert not any(np.allclose(a, b) for a, b in pairs if np.any(np.asarray(a)))


def test_loss_scaling_leaves_the_update_alone():
    x = records()
    plain = compiled()
    scaled = compiled(optimizer=keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD(0.1)))
    for model in (plain, scaled):
        model.fit(x, batch_size=16, shuffle=False, verbose=0)
    for a, b in zip(plain.trainable_variables, scaled.trainable_variables, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)


def test_metrics_of_compile_are_reported():
    class Width(keras.metrics.Mean):
        def update_state(self, y, representation, sample_weight=None):
            return super().update_state(ops.shape(representation)[-1])

    model = compiled(metrics=[Width(name="width")])
    x, y = records(), np.zeros(16, "int64")
    assert model.fit(x, y, verbose=0).history["width"] == [3.0]


def test_wrong_losses_are_named():
    class Other(Agreement):
        def compute_losses(self, views, training):
            return {"distance": ops.zeros(()), "other": ops.zeros(())}

    class Vector(Agreement):
        def compute_losses(self, views, training):
            return {"distance": ops.zeros((3,)), "size": ops.zeros(())}

    with pytest.raises(ValueError, match="loss_terms names"):
        compiled(Other).fit(records(), verbose=0)
    with pytest.raises(ValueError, match="a scalar"):
        compiled(Vector).fit(records(), verbose=0)


def test_gathering_is_the_identity_on_one_replica():
    rows = ops.ones((3, 2))
    assert distribution.all_gather(rows) is rows


@pytest.mark.parametrize("replicas", [1, 2])
def test_several_tensors_cross_together(replicas):
    rng = np.random.default_rng(0)
    matrix, column = rng.normal(size=(6, 2, 3)).astype("float32"), np.arange(6, dtype="float32")

    def exchange(matrix, column):
        gathered = distribution.all_gather([matrix, column])
        count = ops.cast(ops.shape(column)[0], "float32")
        sums = distribution.all_reduce_sum([ops.sum(matrix, axis=0), count])
        return *gathered, *sums

    for found in run_on(replicas, exchange, matrix, column):
        assert [part.shape for part in found] == [(6, 2, 3), (6,), (2, 3), ()]
        for part, wanted in zip(found, (matrix, column, matrix.sum(axis=0), 6.0), strict=True):
            np.testing.assert_allclose(part, wanted, rtol=1e-5, atol=1e-6)


class HalfFrozen(Agreement):
    """The left network stands still for two steps."""

    def frozen_variables(self):
        return [(self.left.trainable_variables, self.optimizer.iterations < 2)]


@pytest.mark.parametrize(
    ("kind", "replicas", "jit"),
    [
        # Keras itself does not accumulate gradients on several replicas.
        (kind, replicas, jit)
        for kind in ("decay", "momentum", "accumulation")
        for replicas, jit in ((1, True), (2, False))
        if (kind, replicas) != ("accumulation", 2)
    ],
)
def test_frozen_variables_stand_still_and_then_move(kind, replicas, jit):
    optimizers = {
        "decay": lambda: keras.optimizers.AdamW(0.1, weight_decay=0.5),
        "momentum": lambda: keras.optimizers.SGD(0.1, momentum=0.9, weight_decay=0.5),
        "accumulation": lambda: keras.optimizers.SGD(
            0.1, weight_decay=0.5, gradient_accumulation_steps=2
        ),
    }
    with scope(replicas):
        optimizer = optimizers[kind]()
        model = compiled(HalfFrozen, replicas, optimizer=optimizer, jit_compile=jit)
        optimizer.build(model.trainable_variables)
        if kind == "momentum":
            # A momentum from before the freeze.
            for buffer in optimizer.momentums:
                buffer.assign(ops.ones_like(buffer))
    data = tf.data.Dataset.from_tensor_slices(records(8)).batch(8)
    left = [np.asarray(v) for v in model.left.weights]
    right = np.asarray(model.right.kernel)
    micro = 2 if kind == "accumulation" else 1
    for step in range(2 * micro):
        model.fit(data, verbose=0)
        for old, now in zip(left, model.left.weights, strict=True):
            assert np.array_equal(old, now), f"{now.path} moved in step {step}"
    assert not np.array_equal(right, model.right.kernel)
    for _ in range(micro):
        model.fit(data, verbose=0)
    assert int(np.asarray(optimizer.iterations)) == 3
    assert not np.array_equal(left[0], model.left.kernel)


def test_a_frozen_gradient_does_not_wait_in_the_optimizer():
    model = compiled(HalfFrozen, optimizer=keras.optimizers.SGD(0.1, momentum=0.9))
    model.fit(records(8), batch_size=8, epochs=2, verbose=0)
    pairs = zip(model.trainable_variables, model.optimizer.momentums, strict=True)
    buffers = {variable.path: float(np.abs(buffer).max()) for variable, buffer in pairs}
    assert buffers[model.left.kernel.path] == 0
    assert buffers[model.right.kernel.path] > 0
