# SPDX-License-Identifier: Apache-2.0
"""Says so when a release of Keras moves a private part that this package leans on."""

import keras
import numpy as np
import pytest

from keras_ssl.core import keras_private

MOVED = "Keras {} moved {}: mend keras_ssl/core/keras_private.py"


def model():
    inputs = keras.Input((3,))
    inner = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2, name="deep")])
    return keras.Model(inputs, inner(inputs))


def test_the_losses_of_a_layer_are_a_list():
    layer = keras.layers.Dense(2)
    moved = MOVED.format(keras.__version__, "Layer._losses, _get_own_losses or _clear_losses")
    assert layer._losses == [] and layer._get_own_losses() == [], moved
    layer.add_loss(keras.ops.ones(()))
    layer._clear_losses()
    assert layer._losses == [], moved


@pytest.mark.parametrize(
    "name",
    ["_loss_tracker", "_compile_metrics", "_flatten_layers", "_maybe_symbolic_build"],
)
def test_the_private_name_is_there(name):
    compiled = model()
    compiled.compile("sgd", "mse")
    assert hasattr(compiled, name), MOVED.format(keras.__version__, f"Model.{name}")


def test_the_loss_tracker_is_what_fit_reports():
    class Fixed(keras.Model):
        def train_step(self, data):
            keras_private.loss_tracker(self).update_state(7.0)
            return self.get_metrics_result()

    found = Fixed()
    found.compile("sgd", "mse")
    history = found.fit(np.zeros((4, 3), "float32"), verbose=0).history
    assert history["loss"] == [7.0], MOVED.format(keras.__version__, "the tracker of `loss`")


def test_compiled_metrics_are_noticed():
    plain, measured = model(), model()
    plain.compile("sgd", "mse")
    measured.compile("sgd", "mse", metrics=["mae"])
    assert not keras_private.has_compiled_metrics(plain)
    assert keras_private.has_compiled_metrics(measured)


def test_layers_are_found_at_any_depth():
    names = {layer.name for layer in keras_private.all_layers(model())}
    assert "deep" in names, MOVED.format(keras.__version__, "Layer._flatten_layers")


def test_the_graph_of_a_model_is_read():
    inputs = keras.Input((3,))
    inner = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2, name="deep")])
    deep = inner(inputs, training=False)
    x = keras.layers.Dense(2, name="wide")(inputs) + deep
    steps = keras_private.graph_steps(keras.Model(inputs, keras.layers.ReLU(name="last")(x)))
    moved = MOVED.format(keras.__version__, "Function._nodes_by_depth or Node")
    names = [step.operation.name for step in steps]
    assert sorted(names[:2]) == ["deep", "wide"] and names[3] == "last", moved
    assert [step.inputs for step in steps[:2]] == [(0,), (0,)], moved
    assert sorted(steps[2].inputs) == [1, 2] and steps[3].inputs == (3,), moved
    assert [step.shape for step in steps] == [(None, 2)] * 4, moved
    told = {step.operation.name: step.training for step in steps}
    assert told["deep"] is False and told["wide"] is None, moved
    sums = [keras_private.is_addition(step.operation) for step in steps]
    assert sums == [False, False, True, False], MOVED.format(keras.__version__, "ops.numpy.Add")


def test_fit_asks_the_model_to_build_itself():
    asked = []

    class Asked(keras_private.BuiltBeforeFit, keras.Model):
        def __init__(self):
            super().__init__()
            self.dense = keras.layers.Dense(1)
            self.dense.build((None, 3))

        def call(self, inputs):
            return self.dense(inputs)

        def _maybe_symbolic_build(self, *args, **kwargs):
            asked.append(True)
            return super()._maybe_symbolic_build(*args, **kwargs)

    found = Asked()
    found.compile("sgd", "mse")
    found.fit(np.zeros((4, 3), "float32"), np.zeros((4, 1), "float32"), verbose=0)
    assert asked and found.optimizer.built, MOVED.format(
        keras.__version__, "Model._maybe_symbolic_build"
    )


@pytest.mark.parametrize("decoupled", [True, False])
def test_weight_decay_asks_the_optimizer_which_variables(decoupled):
    class Chosen(keras_private.WeightDecayHooks, keras.optimizers.SGD):
        decay_in_gradient = not decoupled

        def is_decayed(self, variable):
            return self.variable_index(variable) == 1

    variables = [keras.Variable(np.ones(2, "float32")) for _ in range(2)]
    optimizer = Chosen(0.1, weight_decay=0.5)
    optimizer.apply([np.zeros(2, "float32")] * 2, variables)
    values = [float(np.asarray(v)[0]) for v in variables]
    moved = MOVED.format(keras.__version__, "the hooks of Optimizer's weight decay")
    assert values == pytest.approx([1.0, 0.95 if decoupled else 1.0]), moved
