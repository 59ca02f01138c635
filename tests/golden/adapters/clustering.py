# SPDX-License-Identifier: Apache-2.0
"""Clustering: codes, k-means and the losses on them."""

from __future__ import annotations

import tensorflow as tf
from adapters.common import run

from keras_ssl import losses


def _swav(arrays: dict, meta: dict) -> dict:
    sinkhorn = {"epsilon": meta["epsilon"], "iterations": meta["sinkhorn_iterations"]}

    def output(name, options):
        def value(x):
            full = tf.unstack(x["in_high"])
            queues = tf.unstack(x["in_queue_scores"]) if options["queue"] else None
            settings = {"queue_scores": queues, **sinkhorn}
            if name.startswith("out_codes"):
                return losses.swav_codes(full, **settings)
            return losses.swav(
                [*full, *tf.unstack(x["in_low"])],
                temperature=meta["temperature"],
                code_crops=len(full),
                **settings,
            )

        return value

    return run(arrays, meta, {name: output(name, o) for name, o in meta["options"].items()})


CASES = {"swav": _swav}
