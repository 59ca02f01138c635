# SPDX-License-Identifier: Apache-2.0
"""Callbacks on two workers: one writes, and none waits for one that broke."""

import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import keras
import numpy as np
import pytest
from test_callbacks import tags

from keras_ssl.callbacks import _board

TESTS = Path(__file__).parent
# TensorFlow misses a worker after some ten seconds; a busy machine takes longer.
BOUND = 60


def run(folder, raising="none", limit=240):
    """Runs two workers; their exit codes, the seconds from the first end to the last, and logs."""
    held = [socket.socket() for _ in range(2)]
    for one in held:
        one.bind(("127.0.0.1", 0))
    workers = [f"127.0.0.1:{one.getsockname()[1]}" for one in held]
    for one in held:
        one.close()
    root = os.pathsep.join([str(TESTS.parent), os.environ.get("PYTHONPATH", "")])
    cluster = {"cluster": {"worker": workers}}
    configs = [json.dumps(cluster | {"task": {"type": "worker", "index": i}}) for i in range(2)]
    logs = [folder / f"{rank}.log" for rank in range(2)]
    workers = [
        subprocess.Popen(
            [sys.executable, TESTS / "one_worker.py", str(rank), folder, raising],
            env=os.environ | {"PYTHONPATH": root, "TF_CONFIG": configs[rank]},
            stdout=logs[rank].open("w"),
            stderr=subprocess.STDOUT,
        )
        for rank in range(2)
    ]
    ends = {}
    until = time.monotonic() + limit
    while len(ends) < 2 and time.monotonic() < until:
        time.sleep(0.2)
        for rank, worker in enumerate(workers):
            if worker.poll() is not None:
                ends.setdefault(rank, time.monotonic())
    for worker in workers:
        worker.kill()
        worker.wait()
    said = [log.read_text() for log in logs]
    assert len(ends) == 2, said
    return [worker.returncode for worker in workers], max(ends.values()) - min(ends.values()), said


def files(folder):
    return {path.name.split(".")[0] for path in folder.glob("*")}


@pytest.mark.slow
def test_only_the_chief_writes_and_both_learn_the_same(tmp_path):
    codes, _, said = run(tmp_path)
    assert codes == [0, 0], said
    first, second = (json.loads((tmp_path / f"{rank}.json").read_text()) for rank in range(2))
    assert first == second and first[-1] < first[0]
    assert not (tmp_path / "1").exists()
    written = {"projector_images", "projector_labels", "projector_config", "events", "best"}
    assert written | {"projector_00000008"} <= files(tmp_path / "0")
    scalars, pictures = tags(tmp_path / "0")
    assert {"quality/knn", "quality/rank_me", "gradient_norm/encoder"} <= set(scalars)
    assert [step for step, _ in scalars["loss/total"]] == list(range(1, 9))
    assert pictures == {"neighbours"}


@pytest.mark.slow
@pytest.mark.parametrize("raising", [0, 1])
def test_a_broken_callback_ends_all_workers(raising, tmp_path):
    codes, between, said = run(tmp_path, str(raising))
    assert all(codes), said
    assert "this callback is broken" in said[raising]
    assert "this callback is broken" not in said[1 - raising]
    assert between < BOUND
    assert not any((tmp_path / f"{rank}.json").exists() for rank in range(2))
    # What the chief wrote of the first epoch is there.
    assert "events" in files(tmp_path / "0") and not (tmp_path / "1").exists()
    assert len(tags(tmp_path / "0")[0]["quality/knn"]) >= 1


def test_one_process_is_its_own_chief(tmp_path):
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    assert _board.is_chief(model)

    class Extended:
        should_save_summary = False

    class Strategy:
        extended = Extended()

    class Other:
        distribute_strategy = Strategy()

    silent = _board.board(tmp_path / "logs", Other())
    silent.scalar("loss/total", 1.0, 1)
    silent.image("views", np.zeros((2, 2, 3), "uint8"), 1)
    silent.lay_out(1)
    silent.flush()
    assert not (tmp_path / "logs").exists() and _board.board(None, Other()) is None
