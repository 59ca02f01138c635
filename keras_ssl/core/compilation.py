# SPDX-License-Identifier: Apache-2.0
"""Compiles the parts of a step that XLA makes faster, on whichever backend runs."""

from __future__ import annotations

from collections.abc import Callable

import keras


def compiled(function: Callable) -> Callable:
    """Wraps a pure function of tensors so that XLA compiles it.

    On TensorFlow the result is a nested `tf.function`: it may be called eagerly, in a graph
    and in replica context. On other backends the surrounding step is compiled already and
    the function is returned as it is. Random numbers must be drawn outside and passed in,
    because a trace is shared by replicas.

    Args:
        function: function of tensors, without side effects on variables.

    Returns:
        A callable with the same signature.
    """
    if keras.backend.backend() != "tensorflow":
        return function
    import tensorflow as tf

    return tf.function(function, jit_compile=True, reduce_retracing=True, autograph=False)
