# SPDX-License-Identifier: Apache-2.0
"""Files of earlier versions open, predict the same and train on; newer ones are refused."""

import json
import pathlib
import zipfile

import numpy as np
import pytest
from compat.make import ENGINES
from model_test import images, train

import keras_ssl
from keras_ssl.core.model import FORMAT

FILES = sorted((pathlib.Path(__file__).parent / "compat").glob("*.keras"))


def test_every_engine_has_a_file_of_the_present_format():
    assert {f"{engine}_format{FORMAT}.keras" for engine in ENGINES} <= {f.name for f in FILES}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_an_old_file_opens_and_trains_on(path):
    model = keras_ssl.load_model(path)
    wanted = np.load(path.with_suffix(".npz"))
    np.testing.assert_allclose(model.predict(images(4), verbose=0), wanted["expected"], atol=1e-5)
    loss = train(model, 1, first=2)[0]["loss"]
    assert loss == pytest.approx(float(wanted["loss"]), rel=1e-4)


def test_a_newer_file_is_refused(tmp_path):
    newer = tmp_path / "newer.keras"
    with zipfile.ZipFile(FILES[0]) as old, zipfile.ZipFile(newer, "w") as new:
        for item in old.namelist():
            content = old.read(item)
            if item == "config.json":
                config = json.loads(content)
                config["config"]["format"] = FORMAT + 1
                content = json.dumps(config)
            new.writestr(item, content)
    with pytest.raises(ValueError, match="Upgrade keras_ssl"):
        keras_ssl.load_model(newer)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 cut off", b"\x89HDF\r\n\x1a\n"])
def test_an_unreadable_file_is_named(tmp_path, content):
    path = tmp_path / "broken.keras"
    path.write_bytes(content)
    with pytest.raises(ValueError, match="not a readable .keras file"):
        keras_ssl.load_model(path)
