# SPDX-License-Identifier: Apache-2.0
"""Norms of gradients and updates by part, and temperatures, in TensorBoard."""

import keras
import numpy as np
import pytest
from keras import ops
from strategies import scope
from test_callbacks import tags

from keras_ssl.callbacks import TrainingBoard
from keras_ssl.callbacks._norms import parts
from keras_ssl.callbacks.training_board import schedules
from keras_ssl.core import SSLModel, Teacher

RNG = np.random.default_rng(0)
X = RNG.normal(size=(8, 3)).astype("float32")


def dense(units, width):
    layer = keras.layers.Dense(units, kernel_initializer=keras.initializers.GlorotNormal(units))
    layer.build((None, width))
    return layer


class Line(SSLModel):
    """Two linear maps whose output is to be one, with a temperature that trains."""

    loss_terms = ("square",)

    def __init__(self, teacher_temperature=0.5, **kwargs):
        super().__init__(**kwargs)
        self.encoder, self.heads = dense(4, 3), [dense(2, 4), dense(1, 2)]
        self.teacher = Teacher(self.encoder, momentum=0.9)
        self.temperature = self.add_weight(shape=(), initializer="ones", name="temperature")
        self.teacher_temperature = teacher_temperature
        self.constant_temperature = 0.1

    def compute_losses(self, views, training):
        y = self.heads[1](self.heads[0](self.encoder(views))) * self.temperature
        return {"square": ops.mean(ops.square(ops.cast(y, "float32") - 1.0))}


def gradients(model):
    """Norms of the true gradient over X, by hand."""
    (a, c), (b, d), (e, f) = (
        [np.array(w) for w in layer.get_weights()] for layer in (model.encoder, *model.heads)
    )
    hidden = X @ a + c
    middle = hidden @ b + d
    out = middle @ e + f
    temperature = float(ops.convert_to_numpy(model.temperature))
    slope = 2 * (out * temperature - 1) / len(X)
    lead = slope * temperature
    by_part = {
        "encoder": (X.T @ lead @ e.T @ b.T, (lead @ e.T @ b.T).sum(axis=0)),
        "heads_0": (hidden.T @ lead @ e.T, (lead @ e.T).sum(axis=0)),
        "heads_1": (middle.T @ lead, lead.sum(axis=0)),
        "model": (np.sum(slope * out),),
    }
    return {k: sum(np.sum(g**2) for g in found) ** 0.5 for k, found in by_part.items()}


def written(folder, group):
    """{part: [(step, value), ...]} of a group of tags."""
    found = tags(folder)[0]
    return {tag.split("/")[1]: v for tag, v in found.items() if tag.startswith(f"{group}/")}


def test_parts_are_named_as_attributes_and_hold_each_variable_once():
    model = Line()
    found = parts(model)
    assert list(found) == ["encoder", "heads_0", "heads_1", "model"]
    assert sum(map(len, found.values())) == len(model.trainable_variables) == 7
    model.again = model.encoder
    assert sum(map(len, parts(model).values())) == 7


WAYS = {
    "replicas": {"replicas": 2},
    "half": {"dtype": "mixed_float16"},
    "executions": {"steps_per_execution": 2, "epochs": 2},
    "compiled": {"jit_compile": True},
}


@pytest.mark.parametrize(
    "way", [pytest.param(w, marks=[pytest.mark.slow] * (w == "compiled")) for w in WAYS]
)
def test_norms_are_those_of_gradient_and_update(way, tmp_path):
    options = {"replicas": 1, "dtype": None, "epochs": 1, **WAYS[way]}
    replicas, epochs = options.pop("replicas"), options.pop("epochs")
    with scope(replicas):
        model = Line(seed=0, dtype=options.pop("dtype"))
        true, start = gradients(model), [np.array(w) for w in model.encoder.get_weights()]
        total = sum(v**2 for v in true.values()) ** 0.5
        # Clipped to nearly nothing, which the norms of gradients must not see. Keras clips the part
        # of each replica by itself.
        clipped = keras.optimizers.SGD(0.5, global_clipnorm=1e-3)
        optimizer = keras.optimizers.SGD(float(0.0005 / total)) if replicas > 1 else clipped
        if way == "half":
            optimizer = keras.optimizers.LossScaleOptimizer(optimizer, initial_scale=64.0)
        model.compile(optimizer, **options)
    board = TrainingBoard(tmp_path, every_steps=1, gradient_norms=True)
    data = np.concatenate([X, X])
    model.fit(data, batch_size=8, epochs=epochs, shuffle=False, verbose=0, callbacks=[board])
    after, close = written(tmp_path, "gradient_norm"), {"rel": 2e-2 if way == "half" else 1e-2}
    # A step of length 0.0005 in all changes gradients by less than 1 %.
    for part, value in true.items():
        assert after[part][0][1] == pytest.approx(value, **close), part
    points = written(tmp_path, "update_norm")
    assert list(points) == ["encoder", "heads_0", "heads_1", "model"]
    ways = [points[part][0][1] for part in points]
    assert np.sum(np.square(ways)) ** 0.5 == pytest.approx(0.0005, rel=1e-2)
    assert ways[0] == pytest.approx(0.0005 * true["encoder"] / total, rel=2e-2)
    # All points together are the whole way, which here goes straight on.
    steps = [step for step, _ in points["encoder"]]
    assert steps == ([2, 4] if way == "executions" else [1, 2])
    moved = [new - old for new, old in zip(model.encoder.get_weights(), start, strict=True)]
    whole = sum(np.sum(m**2) for m in moved) ** 0.5
    strides = np.diff([0, *steps])
    assert points["encoder"][-1][1] * strides[-1] < whole
    assert sum(v * n for (_, v), n in zip(points["encoder"], strides, strict=True)) == (
        pytest.approx(whole, rel=1e-2)
    )


def test_only_who_asks_pays_and_training_stays_the_same(tmp_path):
    results, during = [], {}
    for watched in (False, True):
        model = Line(seed=0)
        model.compile(keras.optimizers.SGD(0.01))
        keep = keras.callbacks.LambdaCallback(
            on_epoch_end=lambda *_, model=model: during.update(step=model.train_function)
        )
        board = TrainingBoard(tmp_path, every_steps=1, gradient_norms=True)
        # The step is compiled before the callback comes.
        for callbacks in ([], [board, keep] if watched else []):
            model.fit(X, batch_size=4, shuffle=False, verbose=0, callbacks=callbacks)
            assert model.gradient_watch is None
        results.append(model.get_weights())
    for plain, other in zip(*results, strict=True):
        np.testing.assert_array_equal(plain, other)
    points = written(tmp_path, "gradient_norm")["encoder"]
    assert [step for step, _ in points] == [3, 4] and points[0][1] != points[1][1]
    # Later training has a step of its own again.
    assert model.train_function is not during["step"]


def test_gradient_norms_need_the_step_of_this_package(tmp_path):
    plain = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
    plain.compile("sgd", "mse", run_eagerly=True)
    board = TrainingBoard(tmp_path, every_steps=1)
    plain.fit(X, X[:, :1], verbose=0, callbacks=[board])
    assert list(written(tmp_path, "update_norm")) == [plain.layers[0].name]
    none = TrainingBoard(tmp_path / "none", update_norms=False)
    plain.fit(X, X[:, :1], verbose=0, callbacks=[none])
    assert not any("norm" in tag for tag in tags(tmp_path / "none")[0])
    with pytest.raises(ValueError, match="Sequential is no SSLModel"):
        plain.fit(X, verbose=0, callbacks=[TrainingBoard(tmp_path, gradient_norms=True)])


def test_temperatures_that_move_are_shown():
    model = Line(teacher_temperature=keras.optimizers.schedules.PolynomialDecay(0.04, 4, 0.07))
    model.compile("sgd", run_eagerly=True)
    model.temperature.assign(0.25)
    model.optimizer.iterations.assign(2)
    found = schedules(model)
    assert found["teacher_temperature"] == pytest.approx(0.055)
    assert found["temperature"] == 0.25
    assert set(found) == {"learning_rate", "teacher_temperature", "temperature"}
    constant = Line()
    constant.compile("sgd")
    assert "teacher_temperature" not in schedules(constant)
