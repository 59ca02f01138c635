# SPDX-License-Identifier: Apache-2.0
"""Resident memory of this process, and its peak."""

from __future__ import annotations

import contextlib
import pathlib
import re
import sys

STATUS, FORGET = pathlib.Path("/proc/self/status"), pathlib.Path("/proc/self/clear_refs")


def resident() -> int | None:
    """Bytes of memory that this process holds now; the peak from now on is `peak()`.

    Where the system does not tell (elsewhere than on Linux), the peak so far; None on Windows.
    """
    # Linux starts the peak anew where it lets the process ask for it.
    with contextlib.suppress(OSError):
        FORGET.write_text("5")
    return _status("VmRSS") or peak()


def peak() -> int | None:
    """Most bytes that this process held since `resident` was asked, None on Windows."""
    # Before getrusage: on Linux that starts with the peak of the process that started this one.
    found = _status("VmHWM")
    if found is not None:
        return found
    try:
        import resource
    except ImportError:
        return None
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * 1024


def _status(name: str) -> int | None:
    try:
        found = re.search(rf"^{name}:\s*(\d+) kB", STATUS.read_text(), re.MULTILINE)
    except OSError:
        return None
    return None if found is None else int(found[1]) * 1024
