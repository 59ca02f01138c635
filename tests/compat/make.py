# SPDX-License-Identifier: Apache-2.0
"""Writes the small saved models that later versions must still read: `python tests/compat/make.py`.

A file stays for good once released; a new format number gets new files beside the old ones.
"""

import pathlib
import sys

import numpy as np

FOLDER = pathlib.Path(__file__).parent
sys.path.insert(0, str(FOLDER.parent))

from model_test import build, images, train  # noqa: E402

from keras_ssl import models  # noqa: E402
from keras_ssl.core.model import FORMAT  # noqa: E402

# One method per engine; BYOL has a teacher besides.
ENGINES = {
    "joint_embedding": (
        models.BYOL,
        {"projector": (16, 8), "predictor": (16, 8), "momentum": 0.9},
    )
}

if __name__ == "__main__":
    for engine, (cls, kwargs) in ENGINES.items():
        model = build(cls, kwargs)
        train(model, 2)
        name = FOLDER / f"{engine}_format{FORMAT}"
        model.save(f"{name}.keras")
        expected = model.predict(images(4), verbose=0)
        after = train(model, 1, first=2)[0]["loss"]
        np.savez_compressed(f"{name}.npz", expected=expected, loss=after)
