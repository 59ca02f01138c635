# SPDX-License-Identifier: Apache-2.0
"""A convolutional network on some cells of its images, with the weights that it has."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import keras
from keras import ops

from keras_ssl.core.keras_private import Step, graph_steps, is_addition
from keras_ssl.layers._batch_norm import masked_batch_norm


def _of_any_rank(*names: str) -> tuple[type, ...]:
    every = (getattr(keras.layers, f"{name}{rank}D", None) for name in names for rank in (1, 2, 3))
    return tuple(cls for cls in every if cls is not None)


PADDING = _of_any_rank("ZeroPadding")
GLOBAL_POOLING = _of_any_rank("GlobalAveragePooling", "GlobalMaxPooling")
SUPPORTED = (
    *_of_any_rank("Conv", "DepthwiseConv", "SeparableConv", "MaxPooling", "AveragePooling"),
    *PADDING,
    *(keras.layers.Activation, keras.layers.ReLU, keras.layers.LeakyReLU),
    *(keras.layers.ELU, keras.layers.PReLU),
    *(keras.layers.BatchNormalization, keras.layers.LayerNormalization),
    *(keras.layers.Add, keras.layers.Dense),
)


class SparseCNN:
    """Runs a convolutional network on the seen cells of images as a sparse convolution would.

    Every map of the network is zero outside of the seen cells: what is hidden never enters, and
    what is seen does not grow into it. Statistics of batch norms are those of seen positions. The
    network stays as it is and shares its weights; with all cells seen this is the network itself.

    The layers may be convolutions, batch and layer normalization, activations, pooling, padding
    with zeros, sums and `Dense` on maps, behind the last map global pooling; models inside of the
    model are opened. A cell has the sides of the network's total stride.

    Args:
        network: functional or sequential Keras model of one input, channels last, from samples of
            known size `(n1, ..., nd, channels)`.
        scales: from how many resolutions a map is given, counted from the smallest.

    Call: `sparse(inputs, active, training=False)` with inputs `(B, n1, ..., nd, C)` and active
    boolean `(B, g1, ..., gd, 1)`, a value a cell, gives a list of maps, the smallest first, each
    twice as large as the one before: the last tensor of that size through which everything passes.
    `None` stands for a size that the network has not, or above `scales`; the list ends before maps
    as large as the samples.

    Attributes:
        sample_shape: shape of one sample.
        patch: sides of a cell.
        grid: cells on every axis.
        encoded_shape: shapes of the list of maps.

    Raises:
        ValueError: for a layer of another kind, by its name, or where samples are not halved, alike
            on all axes, until the last map: the total stride must divide their sides.

    Source: SparK, Tian et al. 2023, sections 3.1 and 3.2.

    Example:
        >>> sparse = SparseCNN(backbones.ResNet(50, (224, 224, 3), "imagenet"))
        >>> sparse.patch, [shape[-1] for shape in sparse.encoded_shape if shape]
        ((32, 32), [2048, 1024, 512, 256])
    """

    def __init__(self, network: keras.Model, scales: int = 4):
        if scales < 1:
            raise ValueError(f"scales is at least 1; received {scales}.")
        if not getattr(network, "inputs", None) or len(network.inputs) != 1:
            raise ValueError(
                "SparseCNN runs functional or sequential models of one input; "
                f"{network.name!r} ({type(network).__name__}) is none."
            )
        shape = tuple(network.input_shape)
        if len(shape) < 3 or None in shape[1:]:
            raise ValueError(
                "SparseCNN needs a network of samples (n1, ..., nd, channels) of known size; "
                f"{network.name!r} takes {shape[1:]}. Build it with an input_shape."
            )
        self.sample_shape = shape[1:]
        steps = graph_steps(network)
        maps = _maps(steps, len(shape))
        last = max(maps, default=0)
        for step in steps[:last] or steps:
            _check_kind(step, len(shape))
        for step in steps[last:]:
            if type(step.operation) not in GLOBAL_POOLING:
                _refuse(step, "stands behind the last map, where only global pooling may stand")
        self._steps = steps[:last]
        self.grid = steps[last - 1].shape[1:-1] if last else shape[1:-1]
        for step in self._steps:
            _check_size(step, self.sample_shape[:-1], self.grid)
        self.patch = (shape[1] // self.grid[0],) * len(self.grid)
        if self.patch[0] == 1:
            raise ValueError(
                f"the last maps of {network.name!r} are as large as its samples, so that a cell is "
                "one position. Take a network that halves them at least once."
            )
        found: list[int | None] = []
        for level in range(self.patch[0].bit_length() - 1):
            wanted = tuple(side * 2**level for side in self.grid)
            alike = [number for number in maps if steps[number - 1].shape[1:-1] == wanted]
            found.append(max(alike) if alike and level < scales else None)
        self._outputs = found
        self.encoded_shape = [None if n is None else steps[n - 1].shape for n in found]

    @property
    def batch_shape(self) -> tuple:
        """Shape of a batch of samples, its rows `None`."""
        return (None, *self.sample_shape)

    def grid_of(self, inputs: Any) -> tuple[int, ...]:
        """The grid of cells of samples `(B, n1, ..., nd, C)`.

        Raises:
            ValueError: if the cells do not tile them.
        """
        sides = tuple(inputs.shape)[1:-1]
        if None in sides:
            return self.grid
        if any(side % step for side, step in zip(sides, self.patch, strict=True)):
            raise ValueError(
                f"cells of {self.patch}, the network's total stride, do not tile samples of "
                f"{sides}: every side must be a multiple. Resize, crop or pad the samples."
            )
        return tuple(side // step for side, step in zip(sides, self.patch, strict=True))

    def encode(
        self, inputs: Any, plan: Any, mask_token: Any = None, training: bool = False
    ) -> list[Any]:
        """Maps of what a plan shows.

        Args:
            inputs: samples `(B, n1, ..., nd, C)`.
            plan: a `masking.MaskPlan` of the cells; its `mask` counts.
            mask_token: not needed.
            training: whether batch norms run in training mode.

        Returns:
            List of maps as of a call.
        """
        active = ops.reshape(plan.mask < 0.5, (-1, *self.grid_of(inputs), 1))
        return self(inputs, active, training)

    def __call__(self, inputs: Any, active: Any, training: bool = False) -> list[Any]:
        at = functools.cache(functools.partial(active_at, active))
        x = ops.convert_to_tensor(inputs)
        if None in x.shape[1:]:
            # Pipelines may lose the shape; the network knows it.
            x = ops.reshape(x, (-1, *self.sample_shape))
        tensors = [ops.where(at(tuple(x.shape[1:-1])), x, ops.zeros_like(x))]
        for step in self._steps:
            own = training if step.training is None else step.training
            given = [tensors[number] for number in step.inputs]
            tensors.append(_run(step.operation, given, at, own))
        return [None if number is None else tensors[number] for number in self._outputs]


def masked_call(layer: Any, inputs: Any, active: Any, training: bool = False) -> Any:
    """Runs one layer of a convolutional network on the seen cells of its maps.

    Args:
        layer: a built layer of a kind that `SparseCNN` takes.
        inputs: map `(B, n1, ..., nd, C)`, or a list of them for a sum.
        active: boolean `(B, g1, ..., gd, 1)`, which cells are seen.
        training: whether a batch norm runs in training mode.

    Returns:
        The layer's map, zero where a cell is not seen.

    Example:
        >>> active = np.array([[[[True], [False]]]])
        >>> pool = keras.layers.MaxPooling2D(2)
        >>> masked_call(pool, keras.ops.ones((1, 2, 4, 1)), active).numpy().ravel()
        [1.0, 0.0]
    """
    given = list(inputs) if isinstance(inputs, (list, tuple)) else [inputs]
    return _run(layer, given, functools.partial(active_at, active), training)


def active_at(active: Any, sizes: Sequence[int]) -> Any:
    """Boolean `(B, *sizes, 1)` of the cells' `(B, g1, ..., gd, 1)`."""
    for axis, size in enumerate(sizes, start=1):
        active = ops.repeat(active, size // active.shape[axis], axis=axis)
    return active


def _run(operation: Any, inputs: list, at: Callable, training: bool) -> Any:
    if isinstance(operation, keras.layers.BatchNormalization):
        active = at(tuple(inputs[0].shape[1:-1]))
        return masked_batch_norm(operation, inputs[0], active, training)
    if is_addition(operation):
        return operation(*inputs)
    outputs = operation(inputs[0] if len(inputs) == 1 else inputs)
    if isinstance(operation, (*PADDING, keras.layers.Add)):
        return outputs
    return outputs * ops.cast(at(tuple(outputs.shape[1:-1])), outputs.dtype)


def _maps(steps: list[Step], rank: int) -> list[int]:
    """Numbers of the maps through which everything passes: nothing before is used behind."""
    last_use = [0] * (len(steps) + 1)
    for number, step in enumerate(steps, start=1):
        for used in step.inputs:
            last_use[used] = number
    found, latest = [], last_use[0]
    for number, step in enumerate(steps, start=1):
        if latest <= number and len(step.shape) == rank and type(step.operation) not in PADDING:
            found.append(number)
        latest = max(latest, last_use[number])
    return found


def _check_kind(step: Step, rank: int) -> None:
    layer = step.operation
    if is_addition(layer) and len(step.inputs) == 2:
        return
    if type(layer) not in SUPPORTED or len(step.shape) != rank:
        _refuse(
            step,
            "is none of convolution, batch or layer normalization, activation, pooling, padding "
            "with zeros and sum of maps",
        )
    if getattr(layer, "data_format", "channels_last") != "channels_last":
        _refuse(step, "has its channels first; build the network with channels last")
    axis = getattr(layer, "axis", -1) if hasattr(layer, "epsilon") else -1
    if axis not in (-1, rank - 1, [-1], [rank - 1]):
        _refuse(step, f"normalises over axis {axis} instead of the channels, the last one")
    if getattr(layer, "renorm", False):
        _refuse(step, "renormalises; take a BatchNormalization without renorm")


def _refuse(step: Step, reason: str) -> None:
    operation = step.operation
    raise ValueError(
        f"the layer {operation.name!r} ({type(operation).__name__}) {reason}, so the network "
        "cannot run on a part of its samples."
    )


def _check_size(step: Step, sides: Sequence[int], grid: Sequence[int]) -> None:
    """Requires maps of the samples' sides over a power of two, alike on all axes."""
    sizes = step.shape[1:-1]
    halved = tuple(side / 2 ** round(math.log2(sides[0] / sizes[0])) for side in sides)
    if sizes != halved and type(step.operation) not in PADDING:
        total = 2 ** math.ceil(math.log2(sides[0] / grid[0]))
        _refuse(
            step,
            f"gives maps of {sizes} for samples of {tuple(sides)}, which are not halved (again): "
            f"every side must be a multiple of the total stride (here about {total}), and every "
            "convolution keep or halve the size, as with padding='same'",
        )
