# SPDX-License-Identifier: Apache-2.0
"""Runs a function under a number of logical CPU replicas."""

import contextlib
import functools

import tensorflow as tf


@functools.cache
def strategy(replicas: int):
    """A mirrored strategy over logical CPU devices, or `None` for one replica."""
    if replicas == 1:
        return None
    return tf.distribute.MirroredStrategy([f"CPU:{i}" for i in range(replicas)])


def scope(replicas: int):
    """The scope to build a model in."""
    return contextlib.nullcontext() if replicas == 1 else strategy(replicas).scope()


def run_on(replicas: int, function, *rows):
    """Calls `function(*local_rows)` on every replica with its share of each global array.

    Returns:
        One result per replica, in order.
    """
    if replicas == 1:
        return [function(*(tf.convert_to_tensor(x) for x in rows))]
    mirrored = strategy(replicas)

    def share(x):
        parts = tf.split(tf.convert_to_tensor(x), replicas)
        return mirrored.experimental_distribute_values_from_function(
            lambda context: parts[context.replica_id_in_sync_group]
        )

    results = tf.function(lambda *local: mirrored.run(function, args=local), autograph=False)(
        *map(share, rows)
    )
    local = [mirrored.experimental_local_results(part) for part in tf.nest.flatten(results)]
    return [tf.nest.pack_sequence_as(results, [part[i] for part in local]) for i in range(replicas)]
