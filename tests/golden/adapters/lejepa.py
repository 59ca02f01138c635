# SPDX-License-Identifier: Apache-2.0
"""SIGReg and LeJEPA."""

from __future__ import annotations

import tensorflow as tf
from adapters.common import run

from keras_ssl import losses


def _lejepa(arrays: dict, meta: dict) -> dict:
    quadrature = {"knots": meta["knots"], "t_max": meta["t_max"]}

    def views(x):
        return tf.unstack(x["in_proj"])

    def output(options):
        return lambda x: tf.add_n(
            list(
                losses.lejepa(
                    views(x),
                    x["in_directions"],
                    trade_off=meta["lamb"],
                    centre=options["centre"].split()[0],
                    global_views=meta["n_global"],
                    **quadrature,
                ).values()
            )
        )

    outputs = {name: output(options) for name, options in meta["options"].items()}
    outputs["out_epps_pulley"] = lambda x: losses.epps_pulley(x["in_x"], **quadrature)
    outputs["out_sigreg"] = lambda x: losses.sigreg(views(x), x["in_directions"], **quadrature)
    # The gradient of a vector is that of its sum.
    gradients = {
        name: {**spec, "of": spec["of"].removeprefix("sum(").removesuffix(")")}
        for name, spec in meta["grad_of"].items()
    }
    return run(arrays, {**meta, "grad_of": gradients}, outputs)


CASES = {"lejepa": _lejepa}
