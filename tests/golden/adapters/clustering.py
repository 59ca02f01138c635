# SPDX-License-Identifier: Apache-2.0
"""Clustering: codes, k-means and the losses on them."""

from __future__ import annotations

import numpy as np
import tensorflow as tf
from adapters.common import run

from keras_ssl import layers, losses


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


def _deepcluster_v2(arrays: dict, meta: dict) -> dict:
    heads, width = arrays["in_scores"].shape[0], arrays["in_scores"].shape[-1]
    rows = arrays["in_scores"].shape[-2]

    def loss(x):
        scores = tf.unstack(tf.reshape(x["in_scores"], (heads, -1, rows, width)))
        return losses.deepcluster_v2(scores, arrays["in_targets"], temperature=meta["temperature"])

    result = run({"in_scores": arrays["in_scores"]}, meta, {"out_loss": loss})
    memory = arrays["in_embeddings"].astype("float32")
    found = [
        layers.spherical_kmeans(
            memory[head % len(memory)],
            memory[head % len(memory)][arrays["in_initial_index"]],
            meta["kmeans_iters"],
        )
        for head in range(heads)
    ]
    return result | {
        "out_assignments": np.stack([np.asarray(assigned) for assigned, _ in found]),
        "out_centroids": np.stack([np.asarray(centroids) for _, centroids in found]),
    }


CASES = {"deepcluster_v2": _deepcluster_v2, "swav": _swav}
