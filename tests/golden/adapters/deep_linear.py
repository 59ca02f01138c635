# SPDX-License-Identifier: Apache-2.0
"""Adapter of the experiment on deep linear networks."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import keras_ssl


def program():
    """The program that holds the equations, as a module."""
    file = Path(keras_ssl.__file__).parents[1] / "examples" / "jepa_avoids_noisy_features.py"
    spec = importlib.util.spec_from_file_location(file.stem, file)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _deep_linear(inputs, meta):
    pairs, times, found = inputs["in_pairs"], inputs["in_t"], program()
    return {
        name: found.trajectory(o["model"], o["depth"], pairs[:, 0], pairs[:, 1], times, meta["u0"])
        for name, o in meta["options"].items()
    }


CASES = {"jepa_deep_linear": _deep_linear}
