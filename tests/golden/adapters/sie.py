# SPDX-License-Identifier: Apache-2.0
"""SIE: the losses with a linear hyper-network, projectors being the identity."""

from __future__ import annotations

import tensorflow as tf
from adapters.common import run

from keras_ssl import layers, losses


def _sie(arrays: dict, meta: dict) -> dict:
    size = meta["inv_size"]
    predictor = layers.HyperLinear(meta["equi_size"])
    predictor.build([(None, meta["equi_size"]), arrays["in_latent"].shape])
    predictor.kernel.assign(arrays["in_hyper_weight"].T)

    def predicted(x):
        return predictor([x["in_x"][:, size:], x["in_latent"]])

    def terms(x, **weights):
        settings = {"invariant_size": size, "epsilon": meta["eps"], **weights}
        return losses.sie(x["in_x"], x["in_y"], predicted(x), **settings)

    def unweighted(name):
        ones = dict.fromkeys(("invariance", "equivariance_factor", "variance", "covariance"), 1.0)
        return lambda x: terms(x, **ones)[name]

    weights = {
        "invariance": meta["sim"],
        "equivariance_factor": meta["equi_factor"],
        "variance": meta["std"],
        "covariance": meta["cov"],
    }
    outputs = {
        "out_pred": predicted,
        "out_loss": lambda x: tf.add_n(list(terms(x, **weights).values())),
        "out_repr_loss_inv": unweighted("invariance"),
        "out_repr_loss_equi": unweighted("equivariance"),
        "out_std_loss": unweighted("variance"),
        "out_pred_std_loss": unweighted("prediction_variance"),
        "out_cov_loss": unweighted("covariance"),
    }
    inputs = {name: arrays[name] for name in ("in_x", "in_y", "in_latent")}
    return run(inputs, meta, outputs)


CASES = {"sie": _sie}
