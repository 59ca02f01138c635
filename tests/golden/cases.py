# SPDX-License-Identifier: Apache-2.0
"""One adapter per reference vector: from its inputs and settings to outputs of the public API.

An adapter reshapes, loads and calls; the arithmetic is the library's. Every number comes from the
file, so that files of the same names with other shapes and settings run as well.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

# The file is also loaded by its path, outside of any package.
sys.path.insert(0, str(Path(__file__).resolve().parent))

from adapters import contrastive, evaluation, labelled, non_contrastive, optimization

CASES: dict[str, Callable[[dict, dict], dict]] = {
    name: adapter
    for family in (contrastive, evaluation, labelled, non_contrastive, optimization)
    for name, adapter in family.CASES.items()
}
