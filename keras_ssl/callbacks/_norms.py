# SPDX-License-Identifier: Apache-2.0
"""Lengths of gradients and updates, by part of a model."""

from typing import Any

import keras
import numpy as np
from keras import ops, tree

from keras_ssl.callbacks._board import updates
from keras_ssl.core import distribution


def parts(model: keras.Model) -> dict[str, list]:
    """What trains in a model, by the part that holds it.

    Args:
        model: a Keras model.

    Returns:
        `{name: variables}`: a part is a layer of the model itself, named as its attribute is; what
        the model holds besides is "model". A variable of two parts counts for the first.
    """
    names = {}
    for name, value in vars(model).items():
        held = [] if name.startswith("_") else tree.flatten(value)
        for index, one in enumerate(held):
            if isinstance(one, keras.Layer):
                names.setdefault(id(one), name if len(held) == 1 else f"{name}_{index}")
    left = {id(variable): variable for variable in model.trainable_variables}
    found = {}
    for layer in model.layers:
        own = [left.pop(id(v)) for v in layer.trainable_variables if id(v) in left]
        if own:
            found[names.get(id(layer), layer.name)] = own
    return {**found, "model": list(left.values())} if left else found


class UpdateNorms:
    """How far an update moves each part, from weights that are looked at now and then.

    A copy of them stays in the host's memory.

    Args:
        model: a compiled Keras model.
    """

    def __init__(self, model: keras.Model) -> None:
        self._model, self._parts = model, parts(model)
        self._step, self._weights = updates(model), self._look()

    def _look(self) -> dict[str, list[np.ndarray]]:
        # A copy: on a CPU the array would be the variable's own memory.
        return {
            name: [np.array(ops.convert_to_numpy(v), "float32") for v in variables]
            for name, variables in self._parts.items()
        }

    def read(self) -> dict[str, float]:
        """Length of the way since the last call, by the number of updates; empty without one."""
        steps = updates(self._model) - self._step
        if steps < 1:
            return {}
        before, self._weights = self._weights, self._look()
        self._step += steps
        found = {}
        for name, after in self._weights.items():
            pairs = zip(after, before[name], strict=True)
            squares = sum(
                float(np.sum(np.square(new - old), dtype="float64")) for new, old in pairs
            )
            found[name] = squares**0.5 / steps
        return found


class GradientNorms:
    """The length of each part's gradient, kept by the training step.

    Args:
        model: a compiled `SSLModel`; its `gradient_watch` is to be this.
    """

    def __init__(self, model: Any) -> None:
        self._model, self._parts = model, parts(model)
        with model.distribute_strategy.scope():
            self._norms = {name: keras.Variable(0.0, trainable=False) for name in self._parts}

    def __call__(self, gradients: list, variables: list) -> None:
        """Keeps the norms of the global batch's gradient, free of the scale of the loss.

        Args:
            gradients: of this replica, tensors or None.
            variables: whose they are.
        """
        by_variable = {id(v): g for v, g in zip(variables, gradients, strict=True) if g is not None}
        scale = self._model.optimizer.scale_loss(ops.ones(()))
        norms = []
        for own in self._parts.values():
            found = [by_variable[id(v)] for v in own if id(v) in by_variable]
            found = [ops.cast(ops.convert_to_tensor(g), "float32") for g in found]
            found = distribution.all_reduce_sum(found) if found else found
            squares = [ops.sum(ops.square(g / scale)) for g in found]
            norms.append(ops.sqrt(sum(squares, ops.zeros(()))))
        distribution.assign_all(list(self._norms.values()), norms, equal=True)

    def read(self) -> dict[str, float]:
        """The norms in the last step."""
        return {name: float(ops.convert_to_numpy(v)) for name, v in self._norms.items()}
