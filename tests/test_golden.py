# SPDX-License-Identifier: Apache-2.0
"""Every reference vector is recomputed through the public API.

`KERAS_SSL_GOLDEN` names another folder of vectors, which then replaces the one shipped here.
"""

from __future__ import annotations

import functools
import importlib.util
import json
import os
import sys
from pathlib import Path

import numpy as np
import pytest

import keras_ssl.losses


def _asks(path: Path) -> bool:
    """Whether a file wants any outputs."""
    with np.load(path, allow_pickle=False) as data:
        return any(name.startswith(("out_", "grad_")) for name in data.files)


HERE = Path(__file__).parent / "golden"
FOLDER = Path(os.environ.get("KERAS_SSL_GOLDEN") or HERE)
FILES = sorted(FOLDER.glob("*.npz"))
# Files of samples alone are for tests of statistics, which stand with what draws them.
ASKING = [path for path in FILES if _asks(path)]

# (file, key) -> (tolerance, why): the only exceptions from 1e-5 for out_ and 1e-4 for grad_.
TOLERANCE: dict[tuple[str, str], tuple[float, str]] = {}


def _load_cases():
    spec = importlib.util.spec_from_file_location("golden_cases", HERE / "cases.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


cases = _load_cases()


def _read(path: Path) -> tuple[dict, dict, dict]:
    """Inputs, settings and wanted arrays of a file."""
    with np.load(path, allow_pickle=False) as data:
        arrays = {name: data[name] for name in data.files}
    meta = json.loads(str(arrays.pop("meta")))
    inputs = {k: v for k, v in arrays.items() if k.startswith("in_")}
    wanted = {k: v for k, v in arrays.items() if k.startswith(("out_", "grad_"))}
    return inputs, meta, wanted


def _problems(name: str, got: dict, wanted: dict) -> list[str]:
    """What differs between an adapter's answer and a file."""
    found = []
    for key, want in wanted.items():
        if key not in got:
            found.append(f"{key}: missing")
            continue
        have = np.asarray(got[key])
        if have.shape != want.shape:
            found.append(f"{key}: shape {have.shape}, wanted {want.shape}")
        elif want.dtype.kind in "iubUS":
            if have.dtype.kind != want.dtype.kind or not np.array_equal(have, want):
                found.append(f"{key}: differs, exact equality wanted")
        elif want.size:
            default = 1e-4 if key.startswith("grad_") else 1e-5
            tolerance, _ = TOLERANCE.get((name, key), (default, ""))
            allowed = tolerance * max(1.0, float(np.max(np.abs(want))))
            error = float(np.max(np.abs(have.astype("float64") - want)))
            # Not `error > allowed`: a NaN must fail.
            if not error <= allowed:
                found.append(f"{key}: off by {error:.2e}, allowed {allowed:.2e}")
    return found


def _check(path: Path, answer: dict | None = None) -> list[str]:
    """What is wrong with the library's answer, or with one that is known already."""
    if path.stem not in cases.CASES:
        return [f"no adapter in cases.py for {path.name}"]
    inputs, meta, wanted = _read(path)
    answer = cases.CASES[path.stem](inputs, meta) if answer is None else answer
    return _problems(path.stem, answer, wanted)


@functools.cache
def _answer(path: Path) -> tuple[dict, set[str]]:
    """An adapter's answer, and the folders of the library whose code it ran."""
    root = os.path.abspath(Path(keras_ssl.losses.__file__).parents[1]) + os.sep
    folders = set()

    def profile(frame, event, argument):
        if event == "call":
            file = os.path.abspath(frame.f_code.co_filename)
            if file.startswith(root):
                folders.add(file.removeprefix(root).split(os.sep)[0])

    inputs, meta, _ = _read(path)
    sys.setprofile(profile)
    try:
        answer = cases.CASES[path.stem](inputs, meta)
    finally:
        sys.setprofile(None)
    return answer, folders


def test_there_are_vectors():
    assert FILES, f"no .npz in {FOLDER}"


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_vector(path):
    known = path.stem in cases.CASES
    problems = _check(path, _answer(path)[0] if known else None)
    assert not problems, "\n".join(problems)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_adapter_runs_the_library(path):
    _, folders = _answer(path)
    assert folders


@pytest.mark.parametrize("path", ASKING, ids=lambda path: path.stem)
def test_one_wrong_number_is_noticed(path, tmp_path):
    inputs, meta, wanted = _read(path)
    got, _ = _answer(path)
    for key in wanted:
        broken = np.array(wanted[key], copy=True)
        # The largest margin of an exception is 1e-3; a real error is larger than that.
        step = 1 if broken.dtype.kind in "iu" else 2e-3 * max(1.0, float(np.abs(broken).max()))
        broken.flat[broken.size // 2] += step
        assert _problems(path.stem, got, wanted | {key: broken}), key

    copied = tmp_path / path.name
    np.savez(copied, **inputs, **(wanted | {key: broken}), meta=json.dumps(meta))
    assert _check(copied, got)


def _doubled(function):
    def twice(*args, **kwargs):
        result = function(*args, **kwargs)
        if isinstance(result, dict):
            return {name: 2.0 * value for name, value in result.items()}
        return 2.0 * result

    return twice


def test_doubled_losses_fail_every_loss_vector(monkeypatch):
    known = [path for path in FILES if path.stem in cases.CASES]
    vectors = [path for path in known if "losses" in _answer(path)[1]]
    if FOLDER == HERE:
        names = {"simclr_nt_xent", "byol_simsiam", "barlow_twins", "vicreg"}
        assert names <= {path.stem for path in vectors}
    for name in keras_ssl.losses.__all__:
        function = getattr(keras_ssl.losses, name)
        if hasattr(function, "distributed_kind"):
            monkeypatch.setattr(keras_ssl.losses, name, _doubled(function))
    unnoticed = [path.stem for path in vectors if not _check(path)]
    assert not unnoticed


def test_a_file_without_adapter_fails(tmp_path):
    np.savez(tmp_path / "unheard_of.npz", in_x=np.zeros(2), out_x=np.zeros(2), meta="{}")
    assert _check(tmp_path / "unheard_of.npz")


def test_what_the_runner_refuses():
    wanted = {"out_a": np.zeros((2, 2)), "out_i": np.array([1, 2])}
    right = {"out_a": np.zeros((2, 2)), "out_i": np.array([1, 2])}
    assert not _problems("x", right, wanted)
    assert _problems("x", {"out_i": wanted["out_i"]}, wanted)
    assert _problems("x", right | {"out_a": np.zeros(4)}, wanted)
    assert _problems("x", right | {"out_a": np.full((2, 2), np.nan)}, wanted)
    assert _problems("x", right | {"out_i": np.array([1, 3])}, wanted)
    assert _problems("x", right | {"out_i": np.array([1.0, 2.0])}, wanted)
