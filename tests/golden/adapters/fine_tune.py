# SPDX-License-Identifier: Apache-2.0
"""Layer-wise learning-rate decay."""

from __future__ import annotations

import numpy as np

from keras_ssl import optimizers


def _eval_layer_decay(arrays: dict, meta: dict) -> dict:
    names = [str(name) for name in arrays["in_names"]]
    scales = optimizers.layer_decay_scales(names, meta["decay"], meta["depth"])
    return {"out_scale": np.array([scales[name] for name in names])}


CASES = {"eval_layer_decay": _eval_layer_decay}
