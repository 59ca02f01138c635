# SPDX-License-Identifier: Apache-2.0
"""Measures of a representation."""

from __future__ import annotations

import re

import numpy as np
from adapters.common import run

from keras_ssl import evaluation, metrics


def _eval_rankme(arrays: dict, meta: dict) -> dict:
    kinds = {"singular values": "singular", "eigenvalues of the covariance": "covariance"}

    def rank(name, options):
        return np.asarray(
            metrics.rank_me(
                arrays[name],
                epsilon=options["eps"],
                center=options["center"],
                values=kinds[options["values"]],
            )
        )

    result = {name: rank("in_Z", options) for name, options in meta["options"].items()}
    paper = {"eps": meta["eps"], "center": False, "values": "singular values"}
    for name in set(arrays) - {"in_Z"}:
        result["out_" + name.removeprefix("in_")] = rank(name, paper)
    return result


def _eval_align_uniform(arrays: dict, meta: dict) -> dict:
    def output(options):
        if "alpha" in options:
            return lambda x: metrics.alignment(x["in_x"], x["in_y"], alpha=options["alpha"])
        return lambda x: metrics.uniformity(x["in_x"], t=options["t"])

    return run(arrays, meta, {k: output(v) for k, v in meta["options"].items()})


def _eval_knn(arrays: dict, meta: dict) -> dict:
    result = {}
    for name, options in meta["options"].items():
        settings = {
            "k": options["k"],
            "temperature": options["temperature"],
            "num_classes": meta["num_classes"],
        }
        bank = arrays["in_train"], arrays["in_ytr"]
        top = re.match(r"out_top(\d+)_", name)
        if top is None:
            result[name] = np.asarray(evaluation.knn_scores(*bank, arrays["in_test"], **settings))
        else:
            share = evaluation.knn_accuracy(
                *bank, arrays["in_test"], arrays["in_yte"], top=int(top.group(1)), **settings
            )
            result[name] = np.asarray(100.0 * share)
    return result


def _eval_alpha_req(arrays: dict, meta: dict) -> dict:
    low, high = meta["fit"]
    ranks = np.arange(1, len(arrays["in_eig"]) + 1)
    spectra = {"out_alpha": arrays["in_eig"], "out_alpha_exact": ranks ** -arrays["in_alpha_true"]}
    return {
        name: np.asarray(metrics.power_law(spectrum, ranks=(low + 1, high)).alpha)
        for name, spectrum in spectra.items()
    }


def _eval_lidar(arrays: dict, meta: dict) -> dict:
    x, options = arrays["in_X"], {"delta": meta["delta"], "epsilon": meta["eps"]}
    result = {
        name: np.asarray(
            metrics.lidar(x, **options, renormalize=chosen["eps"].startswith("before"))
        )
        for name, chosen in meta["options"].items()
    }
    return result | {"out_eig": np.asarray(metrics.lidar_spectrum(x, delta=meta["delta"]))[::-1]}


CASES = {
    "eval_align_uniform": _eval_align_uniform,
    "eval_alpha_req": _eval_alpha_req,
    "eval_knn": _eval_knn,
    "eval_lidar": _eval_lidar,
    "eval_rankme": _eval_rankme,
}
