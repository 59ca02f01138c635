# SPDX-License-Identifier: Apache-2.0
"""What several adapters share."""

from __future__ import annotations

import re
from collections.abc import Callable

import numpy as np
import tensorflow as tf


def numbered(arrays: dict, prefix: str) -> list[str]:
    """Names `prefix0`, `prefix1`, ... in the order of their numbers."""
    found = [re.fullmatch(re.escape(prefix) + r"(\d+)", name) for name in arrays]
    return [m.group() for m in sorted((m for m in found if m), key=lambda m: int(m.group(1)))]


def run(arrays: dict, meta: dict, outputs: dict[str, Callable]) -> dict:
    """Evaluates functions of the float32 inputs, and the gradients that `meta` names."""
    inputs = {k: tf.constant(v, "float32") for k, v in arrays.items() if v.dtype.kind == "f"}
    gradients = meta.get("grad_of")
    if gradients is None:
        gradients = {f"grad_{name.removeprefix('in_')}": {"of": "out_loss"} for name in inputs}
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(inputs)
        values = {name: function(inputs) for name, function in outputs.items()}
    result = {name: np.asarray(value) for name, value in values.items()}
    for name, spec in gradients.items():
        source = spec.get("wrt", "in_" + name.removeprefix("grad_"))
        # Some files go on in words after the name.
        loss = values[spec["of"].split(",")[0]]
        result[name] = np.asarray(tape.gradient(loss, inputs[source]))
    return result
