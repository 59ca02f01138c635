# SPDX-License-Identifier: Apache-2.0
"""What installing and importing the package costs and gives."""

import configparser
import os
import pathlib
import subprocess
import sys

import keras_ssl

ROOT = pathlib.Path(keras_ssl.__file__).parents[1]
MEASURE = """
import sys
import time
import keras
before = set(sys.modules)
started = time.process_time()
import keras_ssl
print(time.process_time() - started)
heavy = ["sklearn", "matplotlib", "tensorflow_datasets", "keras_cv", "tensorboard", "PIL.Image"]
print(",".join(name for name in heavy if name in set(sys.modules) - before))
"""


def measure() -> tuple[float, str]:
    """CPU seconds that the package adds to importing Keras, and heavy modules that it loaded."""
    # Byte code is kept, as an installation keeps it, whatever the environment says.
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": ""}
    command = [sys.executable, "-c", MEASURE]
    done = subprocess.run(
        command, capture_output=True, text=True, check=True, cwd=ROOT, env=environment
    )
    seconds, heavy = done.stdout.split("\n")[:2]
    return float(seconds), heavy


def test_importing_is_cheap_and_loads_nothing_heavy():
    # The best of a few, because the budget is on the package and not on a busy machine.
    runs = [measure()]
    while min(seconds for seconds, _ in runs) > 0.3 and len(runs) < 4:
        runs.append(measure())
    assert runs[0][1] == ""
    assert min(seconds for seconds, _ in runs) <= 0.3


def test_the_version_is_stated_once_over():
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    if setup.has_section("metadata"):
        assert setup["metadata"]["version"] == keras_ssl.__version__
    assert keras_ssl.__version__ == "0.1.0"


def test_the_package_is_typed():
    assert (pathlib.Path(keras_ssl.__file__).parent / "py.typed").exists()


def test_every_file_states_its_licence_and_stays_short():
    package = pathlib.Path(keras_ssl.__file__).parent
    for path in package.rglob("*.py"):
        lines = path.read_text().splitlines()
        assert lines[0] == "# SPDX-License-Identifier: Apache-2.0", path
        assert len(lines) <= 400, f"{path} has {len(lines)} lines"
