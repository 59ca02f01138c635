# SPDX-License-Identifier: Apache-2.0
"""Losses without negatives."""

from __future__ import annotations

import numpy as np
from adapters.common import numbered, run

from keras_ssl import losses, metrics


def _byol_simsiam(arrays: dict, meta: dict) -> dict:
    predictions, targets = numbered(arrays, "in_p"), numbered(arrays, "in_z")

    def output(options):
        loss = {"2 - 2 cos": losses.byol, "-cos": losses.simsiam}[options["loss"]]
        pairs = [direction.split(",") for direction in options["directions"]]
        directions = [
            (predictions.index("in_" + p.strip()), targets.index("in_" + z.strip()))
            for p, z in pairs
        ]
        return lambda x: loss(
            [x[p] for p in predictions], [x[z] for z in targets], directions=directions
        )

    result = run(arrays, meta, {k: output(v) for k, v in meta["options"].items()})
    first = targets[0]
    result["out_z_std_" + first.removeprefix("in_")] = np.asarray(
        metrics.feature_std(arrays[first])
    )
    return result


def _barlow_twins(arrays: dict, meta: dict) -> dict:
    first, second = numbered(arrays, "in_z")

    def output(options):
        return lambda x: losses.barlow_twins(
            x[first],
            x[second],
            lambd=meta["lambd"],
            variance=options["variance"],
            epsilon=options["eps"],
            scale=options["scale"],
        )

    return run(arrays, meta, {k: output(v) for k, v in meta["options"].items()})


def _vicreg(arrays: dict, meta: dict) -> dict:
    names = numbered(arrays, "in_z")

    def terms(x, **weights):
        return losses.vicreg([x[name] for name in names], epsilon=meta["eps"], **weights)

    def total(options):
        return lambda x: sum(
            terms(
                x,
                invariance=meta["sim_coeff"],
                variance=meta["std_coeff"],
                covariance=meta["cov_coeff"],
                variance_scale=options["variance_scale"],
            ).values()
        )

    def unweighted(term):
        return lambda x: terms(x, invariance=1.0, variance=1.0, covariance=1.0)[term]

    outputs = {name: total(options) for name, options in meta["options"].items()}
    parts = ("invariance", "variance", "covariance")
    return run(arrays, meta, outputs | {f"out_{part}": unweighted(part) for part in parts})


CASES = {
    "barlow_twins": _barlow_twins,
    "byol_simsiam": _byol_simsiam,
    "vicreg": _vicreg,
}
