# SPDX-License-Identifier: Apache-2.0
"""What crosses replicas, and random numbers that do not depend on how many there are.

On one replica every function here is the identity (or the plain draw). Under a
`tf.distribute` strategy the functions must be called in replica context, that is inside a
training step.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

KINDS = ("local", "gathered", "reduced")


def kind(name: str) -> Callable:
    """Declares how a loss behaves when the batch is spread over replicas.

    Args:
        name: `"local"` (needs its own rows only), `"gathered"` (needs the rows of every
            replica) or `"reduced"` (needs statistics summed over replicas).

    Returns:
        A decorator that sets `function.distributed_kind`.

    Raises:
        ValueError: if `name` is none of the three.
    """
    if name not in KINDS:
        raise ValueError(f"A loss is one of {KINDS}; received kind={name!r}.")

    def declare(function):
        function.distributed_kind = name
        return function

    return declare


def replica_context():
    """The `tf.distribute` context of this replica when several run, else `None`."""
    if keras.backend.backend() != "tensorflow":
        return None
    import tensorflow as tf

    if not tf.distribute.has_strategy():
        return None
    context = tf.distribute.get_replica_context()
    if context is None or context.num_replicas_in_sync == 1:
        return None
    return context


def replica_count() -> int:
    """Number of replicas that share the current step (1 without a strategy)."""
    context = replica_context()
    return 1 if context is None else context.num_replicas_in_sync


def replica_id() -> Any:
    """Index of this replica among all replicas (an int or an int32 scalar; 0 without one)."""
    context = replica_context()
    return 0 if context is None else context.replica_id_in_sync_group


def worker_count() -> int:
    """Number of processes of the current strategy (1 without one)."""
    if keras.backend.backend() != "tensorflow":
        return 1
    import tensorflow as tf

    resolver = getattr(tf.distribute.get_strategy(), "cluster_resolver", None)
    return len(resolver.cluster_spec().as_dict().get("worker", [0])) if resolver else 1


def all_gather(x: Any) -> Any:
    """Concatenates `x` of every replica along the batch axis, with gradient.

    Args:
        x: `(b, ...)`, the same shape on every replica, or a list of such tensors of one dtype
            whose other axes are known: they cross in one exchange.

    Returns:
        `(b * replicas, ...)` in replica order, equal on every replica; a list for a list. The
        gradient that reaches a replica is the sum of all replicas' gradients for its rows.
    """
    context = replica_context()
    if context is None:
        return x
    if not isinstance(x, (list, tuple)):
        return context.all_gather(x, axis=0)
    shapes = [tuple(part.shape[1:]) for part in x]
    sizes = [math.prod(shape) for shape in shapes]
    flat = [ops.reshape(part, (-1, size)) for part, size in zip(x, sizes, strict=True)]
    everyone = context.all_gather(ops.concatenate(flat, axis=1), axis=0)
    parts = _cut(everyone, sizes)
    return [ops.reshape(part, (-1, *shape)) for part, shape in zip(parts, shapes, strict=True)]


def all_reduce_sum(x: Any) -> Any:
    """Sums `x` over replicas, with gradient (which is summed over replicas too).

    Args:
        x: tensor of any shape, the same on every replica, or a list of such tensors of one
            dtype and known shapes: they cross in one exchange.

    Returns:
        Tensor of the same shape, equal on every replica; a list for a list.
    """
    context = replica_context()
    if context is None:
        return x
    if not isinstance(x, (list, tuple)):
        return context.all_reduce("SUM", x)
    sizes = [math.prod(part.shape) for part in x]
    total = context.all_reduce("SUM", ops.concatenate([ops.reshape(part, (-1,)) for part in x]))
    parts = _cut(total, sizes)
    return [ops.reshape(part, whole.shape) for part, whole in zip(parts, x, strict=True)]


def _cut(x: Any, sizes: Sequence[int]) -> list:
    """Pieces of the last axis, of given sizes."""
    ends = np.cumsum(sizes)
    return [x[..., end - size : end] for end, size in zip(ends, sizes, strict=True)]


def own_rows(everyone: Any, rows: Any) -> Any:
    """The rows of this replica of a tensor that holds those of all.

    Args:
        everyone: `(b * replicas, ...)` in replica order.
        rows: b, the number of rows of this replica (int or int32 scalar).

    Returns:
        `(b, ...)`.
    """
    start = replica_id() * rows
    return everyone[start : start + rows]


def all_reduce_mean(x: Any) -> Any:
    """Averages `x` over replicas, with gradient.

    Args:
        x: tensor of any shape, the same on every replica.

    Returns:
        Tensor of the same shape, equal on every replica.
    """
    context = replica_context()
    return x if context is None else context.all_reduce("MEAN", x)


def assign_all(variables: Sequence, values: Sequence, equal: bool = False) -> None:
    """Assigns values to variables; under several replicas, the mean of their values.

    Args:
        variables: Keras variables.
        values: tensors of the same shapes.
        equal: whether all replicas hold the same values already, which saves the mean.
    """
    context = replica_context()
    if context is None:
        for variable, value in zip(variables, values, strict=True):
            variable.assign(ops.cast(value, variable.dtype))
        return
    if len(values) and not equal:
        values = context.all_reduce("MEAN", list(values))

    def update(strategy, targets, new):
        for target, value in zip(targets, new, strict=True):
            strategy.extended.update(
                target, lambda local, x: local.assign(x), args=(value,), group=True
            )

    context.merge_call(update, args=([variable.value for variable in variables], values))


# --- random numbers -------------------------------------------------------------------------


@functools.cache
def _tensorflow_draw(name: str) -> Callable:
    """A stateless TensorFlow draw that is always compiled.

    The same seed gives other numbers under XLA than outside of it (measured, philox too), so
    a step compiled as a whole would see other views than one that is not.
    """
    import tensorflow as tf

    def bits(seed):
        whole: Any = None
        return tf.random.stateless_uniform((2,), seed, whole, whole, "int32", alg="philox")

    def fold(data, seed):
        # Hashed before the sum too: seed 3 with stream 1 must not be seed 4 with stream 0.
        return bits(bits(seed) + tf.stack([data, tf.zeros_like(data)]))

    draws = {
        "uniform": lambda shape, seed: tf.random.stateless_uniform(shape, seed, alg="philox"),
        "normal": lambda shape, seed: tf.random.stateless_normal(shape, seed, alg="philox"),
        "fold_in": fold,
    }
    return tf.function(draws[name], jit_compile=True, autograph=False, reduce_retracing=True)


def next_seed(generator: keras.random.SeedGenerator) -> Any:
    """The next seed of a generator: an int32 tensor `(2,)`, the same on every replica.

    Args:
        generator: the `SeedGenerator` owned (and so saved) by the calling layer.

    Returns:
        int32 tensor `(2,)`.
    """
    return ops.cast(generator.next(), "int32")


def fixed_seed(value: int) -> Any:
    """A constant seed: int32 tensor `(2,)` made from a Python integer."""
    low, high = value & 0x7FFFFFFF, (value >> 31) & 0x7FFFFFFF
    return ops.convert_to_tensor(np.array([low, high], "int32"))


def fold_in(seed: Any, data: Any) -> Any:
    """Derives an independent seed, for example one per view and transform.

    Args:
        seed: int32 `(2,)`.
        data: integer that tells the streams apart.

    Returns:
        int32 `(2,)`.
    """
    if keras.backend.backend() == "tensorflow":
        return _tensorflow_draw("fold_in")(ops.cast(data, "int32"), seed)
    import jax

    key = jax.random.fold_in(_jax_key(seed), data)
    return ops.cast(jax.random.bits(key, (2,), "uint32") >> 1, "int32")


def _jax_key(seed):
    import jax

    key = jax.random.key(0)
    return jax.random.fold_in(jax.random.fold_in(key, seed[0]), seed[1])


def _shape(shape: Sequence) -> Any:
    return tuple(shape) if all(isinstance(n, int) for n in shape) else ops.stack(list(shape))


def uniform_batch(seed: Any, shape: Sequence, minval: float = 0.0, maxval: float = 1.0) -> Any:
    """Uniform float32 numbers that every replica draws alike (randomness of the whole batch).

    Args:
        seed: int32 `(2,)`.
        shape: shape of the result.
        minval: lower bound, included.
        maxval: upper bound, excluded.

    Returns:
        float32 tensor of `shape`.
    """
    if keras.backend.backend() == "tensorflow":
        unit = _tensorflow_draw("uniform")(_shape(shape), seed)
        return unit if (minval, maxval) == (0.0, 1.0) else minval + unit * (maxval - minval)
    import jax

    return jax.random.uniform(_jax_key(seed), tuple(shape), "float32", minval, maxval)


def normal_batch(seed: Any, shape: Sequence) -> Any:
    """Standard normal float32 numbers that every replica draws alike.

    Args:
        seed: int32 `(2,)`.
        shape: shape of the result.

    Returns:
        float32 tensor of `shape`.
    """
    if keras.backend.backend() == "tensorflow":
        return _tensorflow_draw("normal")(_shape(shape), seed)
    import jax

    return jax.random.normal(_jax_key(seed), tuple(shape), "float32")


def _own_draw(draw: Callable, rows: Any) -> Any:
    replicas = replica_count()
    if replicas == 1:
        return draw(rows)
    # One SeedGenerator gives the same numbers on every replica, so drawing for the local
    # rows only would augment image i and image i + B/R alike.
    return own_rows(draw(rows * replicas), rows)


def uniform_rows(
    seed: Any, rows: Any, shape: Sequence = (), minval: float = 0.0, maxval: float = 1.0
) -> Any:
    """Uniform float32 numbers per sample: drawn for the global batch, each replica its rows.

    Args:
        seed: int32 `(2,)`, the same on every replica.
        rows: number of rows of this replica's batch (int or int32 scalar).
        shape: shape of the numbers of one row.
        minval: lower bound, included.
        maxval: upper bound, excluded.

    Returns:
        float32 `(rows, *shape)`.
    """
    return _own_draw(lambda n: uniform_batch(seed, (n, *shape), minval, maxval), rows)


def normal_rows(seed: Any, rows: Any, shape: Sequence = ()) -> Any:
    """Standard normal float32 numbers per sample, as `uniform_rows`.

    Args:
        seed: int32 `(2,)`, the same on every replica.
        rows: number of rows of this replica's batch (int or int32 scalar).
        shape: shape of the numbers of one row.

    Returns:
        float32 `(rows, *shape)`.
    """
    return _own_draw(lambda n: normal_batch(seed, (n, *shape)), rows)
