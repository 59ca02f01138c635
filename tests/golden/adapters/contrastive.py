# SPDX-License-Identifier: Apache-2.0
"""Contrastive losses and queues."""

from __future__ import annotations

import numpy as np
import tensorflow as tf
from adapters.common import numbered, run

from keras_ssl import layers, losses


def _simclr_nt_xent(arrays: dict, meta: dict) -> dict:
    names = numbered(arrays, "in_z")

    def output(options):
        inside = options.get("positives") == "log of the sum"
        scale = options.get("scale", 1.0)
        return lambda x: (
            scale
            * losses.nt_xent(
                [x[name] for name in names[: options["views"]]],
                temperature=meta["temperature"],
                positives="inside" if inside else "outside",
            )
        )

    return run(arrays, meta, {k: output(v) for k, v in meta["options"].items()})


def _dcl(arrays: dict, meta: dict) -> dict:
    names = numbered(arrays, "in_z")

    def output(options):
        shared = {"temperature": meta["temperature"], "symmetric": options["symmetric"]}
        if not options["weighted"]:
            return lambda x: losses.dcl([x[name] for name in names], **shared)
        detach = options["detach_weight"]
        return lambda x: losses.dclw(
            [x[name] for name in names], sigma=meta["sigma"], detach_weight=detach, **shared
        )

    return run(arrays, meta, {k: output(v) for k, v in meta["options"].items()})


def _sup_con(arrays: dict, meta: dict) -> dict:
    views = range(arrays["in_features"].shape[1])

    def output(options):
        inside = options["positives"] == "log of the sum"
        return lambda x: losses.sup_con(
            [x["in_features"][:, view] for view in views],
            arrays["in_labels"] if options["labels"] else None,
            temperature=meta["temperature"],
            base_temperature=options["base_temperature"],
            positives="inside" if inside else "outside",
        )

    return run(arrays, meta, {k: output(v) for k, v in meta["options"].items()})


def _cacr(arrays: dict, meta: dict) -> dict:
    views, queries = range(len(arrays["in_z"])), numbered(arrays, "in_q")

    def output(options):
        if options["form"] == "momentum":
            return lambda x: losses.cacr_momentum(
                [x[query] for query in queries],
                x["in_k"],
                temperature=meta["moco_T"],
                cost=options["cost"],
            )
        if options["scale"] == "alpha":
            return lambda x: losses.cacr_attraction(
                [x["in_z"][view] for view in views],
                alpha=meta["alpha"],
                temperature=meta["tau_pos"],
            )
        return lambda x: losses.cacr_repulsion(
            [x["in_z"][view] for view in views], beta=meta["beta"], temperature=meta["tau_neg"]
        )

    return run(arrays, meta, {k: output(v) for k, v in meta["options"].items()})


def _moco_v2(arrays: dict, meta: dict) -> dict:
    def loss(x):
        keys = tf.stop_gradient(x["in_k"])
        return losses.info_nce(
            x["in_q"], keys, queue=x["in_queue"], temperature=meta["temperature"]
        )

    names = ("in_q", "in_k", "in_queue")
    meta = {**meta, "grad_of": {"grad_q": {"of": "out_loss"}}}
    result = run({name: arrays[name] for name in names}, meta, {"out_loss": loss})
    queue = layers.Queue(*arrays["in_queue"].shape)
    queue.vectors.assign(arrays["in_queue"])
    vectors, pointers = [], []
    for batch in arrays["in_enqueue_batches"]:
        queue.enqueue(tf.constant(batch, "float32"))
        vectors.append(np.asarray(queue.vectors))
        pointers.append(int(queue.pointer))
    return result | {
        "out_queue_after_each": np.stack(vectors),
        "out_ptr_after_each": np.asarray(pointers),
    }


def _moco_v3(arrays: dict, meta: dict) -> dict:
    queries, keys = numbered(arrays, "in_q"), numbered(arrays, "in_k")

    def loss(x):
        return losses.moco_v3(
            [x[name] for name in queries],
            [x[name] for name in keys],
            temperature=meta["temperature"],
        )

    gradients = {f"grad_{name.removeprefix('in_')}": {"of": "out_loss"} for name in queries}
    return run(arrays, {**meta, "grad_of": gradients}, {"out_loss": loss})


def _nnclr(arrays: dict, meta: dict) -> dict:
    projections, predictions = numbered(arrays, "in_z"), numbered(arrays, "in_p")
    support = layers.Queue(*arrays["in_queue"].shape)
    support.vectors.assign(arrays["in_queue"])

    def output(options):
        return lambda x: losses.nnclr(
            [support(x[name]) for name in projections],
            [x[name] for name in predictions],
            temperature=meta["temperature"],
            negatives=options["negatives"],
        )

    result = run(arrays, meta, {k: output(v) for k, v in meta["options"].items()})
    for name in projections:
        index = np.asarray(support.nearest(arrays[name])).astype("int64")
        result["out_nn_index" + name.removeprefix("in_z")] = index
    return result


CASES = {
    "cacr": _cacr,
    "dcl": _dcl,
    "moco_v2": _moco_v2,
    "moco_v3": _moco_v3,
    "nnclr": _nnclr,
    "simclr_nt_xent": _simclr_nt_xent,
    "supcon": _sup_con,
}
