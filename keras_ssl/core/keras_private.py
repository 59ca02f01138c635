# SPDX-License-Identifier: Apache-2.0
"""The private parts of Keras that this package leans on, all in one place.

`tests/test_keras_private.py` fails with a plain message when a release of Keras moves one.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from typing import Any, NamedTuple

import keras

from keras_ssl.core import distribution


def loss_tracker(model: keras.Model) -> keras.metrics.Metric:
    """The built-in `loss` metric of a compiled model.

    Keras replaces `loss` in the logs of an epoch by this metric's result, so a step that
    does not update it reports 0.
    """
    return model._loss_tracker  # noqa: SLF001


def has_compiled_metrics(model: keras.Model) -> bool:
    """Whether `compile(metrics=...)` was given any."""
    return model._compile_metrics is not None  # noqa: SLF001


def all_layers(model: keras.Layer) -> Iterator[keras.Layer]:
    """Every layer below a model, at any depth, itself excluded."""
    return model._flatten_layers(include_self=False)  # noqa: SLF001


class Step(NamedTuple):
    """One call in the graph of a functional model.

    Attributes:
        operation: the layer, or the operation behind a function of `keras.ops`.
        inputs: numbers of the tensors that it takes.
        shape: of what it gives.
        training: what the call itself says of training, or `None`.
    """

    operation: Any
    inputs: tuple[int, ...]
    shape: tuple
    training: bool | None


def graph_steps(model: keras.Model) -> list[Step]:
    """The calls of a functional model of one input, in an order in which they can run.

    Tensor 0 is the input and step k, counted from 0, makes tensor k + 1. Models inside of the model
    are opened.
    """
    steps: list[Step] = []
    _add_steps(model, {id(model.inputs[0]): 0}, steps, None)
    return steps


def _add_steps(model: Any, numbers: dict[int, int], steps: list[Step], training: Any) -> None:
    by_depth = keras.Function(model.inputs, model.outputs)._nodes_by_depth  # noqa: SLF001
    for node in (node for depth in sorted(by_depth, reverse=True) for node in by_depth[depth]):
        if any(id(x) not in numbers for x in node.input_tensors) or node.is_input:
            continue
        own = node.arguments.kwargs.get("training")
        own = training if own is None else own
        inputs, part = [numbers[id(x)] for x in node.input_tensors], node.operation
        if isinstance(part, keras.Model) and getattr(part, "inputs", None) and len(inputs) == 1:
            inner = {id(part.inputs[0]): inputs[0]}
            _add_steps(part, inner, steps, own)
            numbers |= {
                id(x): inner[id(y)] for x, y in zip(node.outputs, part.outputs, strict=True)
            }
            continue
        steps.append(Step(part, tuple(inputs), tuple(node.outputs[0].shape), own))
        numbers |= {id(x): len(steps) for x in node.outputs}


def is_addition(operation: Any) -> bool:
    """Whether an operation of a graph is the `x + y` of two tensors."""
    return type(operation).__name__ == "Add" and type(operation).__module__ == "keras.src.ops.numpy"


class BuiltBeforeFit:
    """Keeps Keras from building symbolically on a distributed batch.

    Under several workers that build reduces a nested per-replica batch and raises, and
    under any strategy it cannot copy weights into a teacher. Everything here is built in
    `__init__`, so only the optimizer is left to build.
    """

    def _maybe_symbolic_build(self, iterator: Any = None, data_batch: Any = None) -> None:
        optimizer = getattr(self, "optimizer", None)
        if optimizer is not None and not optimizer.built:
            with self.distribute_strategy.scope():
                optimizer.build(self.trainable_variables)


class LossesOfReplica:
    """Mixin for layers: what `add_loss` added belongs to the replica that added it.

    All replicas call one layer. Where something crosses replicas within a model, all are in the
    midst of it together: the first would lose its losses when the next one begins, and the last
    would find those of the others among its own.
    """

    def add_loss(self, loss: Any) -> None:
        """As `keras.layers.Layer.add_loss`, by replica."""
        if not self._losses:
            self._owners: list[Any] = []
        super().add_loss(loss)
        here = distribution.replica_context()
        # Weak: contexts are made anew for every trace, and nobody clears what old ones added.
        owner = type(None) if here is None else weakref.ref(here)
        self._owners.extend([owner] * (len(self._losses) - len(self._owners)))

    def _owned(self) -> list[tuple[Any, Any]]:
        """Losses with the replica that added them, `None` where there is but one or it is gone."""
        owners = [owner() for owner in self._owners] if self._losses else []
        return list(zip(self._losses, owners, strict=True))

    def _get_own_losses(self) -> list:
        if not self._losses:
            return super()._get_own_losses()
        here = distribution.replica_context()
        return [loss for loss, owner in self._owned() if owner is here]

    def _clear_losses(self) -> None:
        here = distribution.replica_context()
        others = [(x, owner) for x, owner in self._owned() if owner not in (None, here)]
        super()._clear_losses()
        self._losses.extend(loss for loss, _ in others)
        self._owners = [weakref.ref(owner) for _, owner in others]


class WeightDecayHooks:
    """Mixin for optimizers: the private hooks of weight decay under names of our own."""

    decay_in_gradient = False

    def is_decayed(self, variable: Any) -> bool:
        """Whether weight decay applies to a variable; the optimizer's class says."""
        raise NotImplementedError

    def variable_index(self, variable: Any) -> int:
        """Position of a variable among those the optimizer was built with."""
        return self._get_variable_index(variable)

    def _use_weight_decay(self, variable: Any) -> bool:
        return self.is_decayed(variable)

    def _apply_weight_decay(self, variables: Any) -> None:
        if not self.decay_in_gradient:
            super()._apply_weight_decay(variables)
