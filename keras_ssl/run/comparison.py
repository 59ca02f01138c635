# SPDX-License-Identifier: Apache-2.0
"""Several methods with the same encoder on the same data for the same number of steps."""

from __future__ import annotations

import concurrent.futures
import dataclasses
import json
import multiprocessing
import pathlib
import textwrap
import traceback
from collections.abc import Callable, Sequence
from concurrent.futures.process import BrokenProcessPool
from typing import Any

from keras_ssl.core import registry
from keras_ssl.run import comparison_page, contender
from keras_ssl.run.contender import Entry
from keras_ssl.run.folder import RunFolder, write_atomically
from keras_ssl.run.settings import Settings

BATCH_SIZE, STEPS = 128, 500
UNTRAINED = "untrained"
# Of a reason in the table, in characters.
LONGEST = 120


def compare(
    methods: Sequence[str],
    settings: Settings,
    *,
    output: str | None = None,
    verbose: str | int = "auto",
) -> tuple[pathlib.Path, dict[str, Any]]:
    """Pre-trains each method with its own recipe and writes what they learned side by side.

    Encoder, initial weights, data, steps and batch size are the same for all. Each method trains in
    a process of its own, so that memory is its own and a failure is no other's.

    Args:
        methods: names of model classes, in the order of the rows.
        settings: what they have in common: data, backbone, steps, batch size, seed. By default the
            backbone of the first method's recipe, 500 steps and 128 images.
        output: folder that is written to; None for a fresh one under `runs/`.
        verbose: as in `keras.Model.fit`.

    Returns:
        The folder and the content of its `compare.json`; a row with `"failed"` is of a method that
        did not get through.

    Raises:
        ValueError: for methods that cannot take the data or the encoder, all of them at once.
        FileExistsError: if the folder holds anything.
    """
    defaults = {"steps": settings.steps or STEPS, "batch_size": settings.batch_size or BATCH_SIZE}
    settings = dataclasses.replace(settings, **defaults)
    if output is not None and any(pathlib.Path(output).expanduser().glob("*")):
        raise FileExistsError(
            f"{output} is not empty, and nothing is overwritten. Name another folder with --output."
        )
    names, refused = _known(methods)
    print(f"Checks {', '.join(methods)} against {settings.data}", flush=True)
    start = apart(contender.prepare, list(names), settings) if names else contender.Start({})
    refused |= start.refused
    if refused:
        reasons = "\n".join(f"  {name}: {reason}" for name, reason in refused.items())
        raise ValueError(
            f"{len(refused)} of {len(methods)} methods cannot take part, so none was trained. "
            f"Leave them out, or change data, backbone or batch size.\n{reasons}"
        )
    name = f"compare-{start.config['data']['name']}".replace(":", "-").replace("/", "-")
    folder = RunFolder.create(output, name).path
    print(f"Comparison folder: {folder}", flush=True)
    entries: dict[str, Entry] = {UNTRAINED: start.untrained or Entry({}, {})}
    failed: dict[str, str] = {}
    for number, (name, own) in enumerate(start.settings.items(), start=1):
        print(f"\n{name} ({number} of {len(start.settings)})", flush=True)
        try:
            entries[name] = apart(contender.train, own, str(folder / name), verbose)
        except Exception as error:
            failed[name] = _told(error, folder / name)
        # After each: what is finished outlives whatever comes.
        content = _content(start, entries, failed)
        _write(folder, content)
    return folder, content


def apart(function: Callable, *arguments: Any) -> Any:
    """Calls a function in a new process, whose memory is its own.

    Args:
        function: of a module.
        *arguments: of the function.

    Returns:
        What it returns.

    Raises:
        RuntimeError: if the process was ended from outside.
        Exception: what the function raises.
    """
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(1, mp_context=context) as pool:
        try:
            return pool.submit(_portable, function, *arguments).result()
        except BrokenProcessPool as error:
            raise RuntimeError(
                "its process was ended from outside, most often for want of memory"
            ) from error


def _portable(function: Callable, *arguments: Any) -> Any:
    """Calls a function; of its errors those that another process can be sent."""
    try:
        return function(*arguments)
    except Exception as error:
        if type(error).__module__ == "builtins":
            raise
        raise RuntimeError(f"{type(error).__name__}: {error}") from error


def _known(methods: Sequence[str]) -> tuple[dict[str, None], dict[str, str]]:
    """The methods' own names, each once, and what there is to say of those that do not exist."""
    names, refused = {}, {}
    for given in methods:
        try:
            names[registry.find(given).__name__] = None
        except ValueError as error:
            refused[given] = str(error)
    return names, refused


def _told(error: Exception, folder: pathlib.Path) -> str:
    """A failure in one line; the whole of it goes into a file."""
    path = RunFolder(folder).path / "error.txt"
    write_atomically(path, "".join(traceback.format_exception(error)).encode())
    first = textwrap.shorten(str(error) or type(error).__name__, LONGEST, placeholder=" ...")
    print(f"failed: {first} (see {path})", flush=True)
    return first


def _content(
    start: contender.Start, entries: dict[str, Entry], failed: dict[str, str]
) -> dict[str, Any]:
    """What `compare.json` holds, in the order in which the methods were named."""
    from keras_ssl.evaluation.comparison import of_right_rows

    rows = {name: dict(entry.row) for name, entry in entries.items()}
    right = {name: entry.right for name, entry in entries.items() if entry.right}
    confidence = None
    if right:
        found = of_right_rows(right)
        confidence = found.confidence
        for name, accuracies in found.accuracy.items():
            for protocol, accuracy in accuracies.items():
                rows[name][protocol] = {
                    "accuracy": accuracy,
                    "interval": found.interval[name][protocol],
                    "above_untrained": found.difference[name][protocol],
                }
    rows |= {name: {"failed": reason} for name, reason in failed.items()}
    order = [name for name in (UNTRAINED, *start.settings) if name in rows]
    return {
        "format": 1,
        **start.config,
        "confidence": confidence,
        "without_accuracies": start.without_labels,
        "rows": {name: rows[name] for name in order},
    }


def _write(folder: pathlib.Path, content: dict[str, Any]) -> None:
    text = json.dumps(content, indent=2) + "\n"
    write_atomically(folder / "compare.json", text.encode())
    write_atomically(folder / "compare.md", comparison_page.page(content).encode())
    comparison_page.picture(content).save(folder / "compare.png")
