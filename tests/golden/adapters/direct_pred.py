# SPDX-License-Identifier: Apache-2.0
"""DirectPred's predictor."""

from __future__ import annotations

import numpy as np

from keras_ssl.layers import DirectPredictor


def _directpred(arrays: dict, meta: dict) -> dict:
    predictor = DirectPredictor(meta["rho"], meta["eps"], minimum=meta["min_eigenvalue"])
    moments, kernels = [], []
    for views in arrays["in_z"]:
        predictor.update_moment(list(views))
        predictor.set_kernel()
        moments.append(np.asarray(predictor.moment))
        kernels.append(np.asarray(predictor.kernel))
    return {"out_F": np.stack(moments), "out_W": np.stack(kernels)}


CASES = {"directpred": _directpred}
