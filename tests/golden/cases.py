# SPDX-License-Identifier: Apache-2.0
"""One adapter per reference vector: from its inputs and settings to outputs of the public API.

An adapter reshapes, loads and calls; the arithmetic is the library's. Every number comes from the
file, so that files of the same names with other shapes and settings run as well.
"""

from __future__ import annotations

import importlib
import pkgutil
import sys
from collections.abc import Callable
from pathlib import Path

# The file is also loaded by its path, outside of any package.
sys.path.insert(0, str(Path(__file__).resolve().parent))

import adapters

CASES: dict[str, Callable[[dict, dict], dict]] = {
    name: adapter
    for module in pkgutil.iter_modules(adapters.__path__)
    for name, adapter in getattr(
        importlib.import_module(f"adapters.{module.name}"), "CASES", {}
    ).items()
}
