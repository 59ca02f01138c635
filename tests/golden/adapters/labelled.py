# SPDX-License-Identifier: Apache-2.0
"""Losses that see labels or clusters."""

from __future__ import annotations

import numpy as np
from adapters.common import run

from keras_ssl import data, losses


def _simlap_gate(arrays: dict, meta: dict) -> dict:
    classes, partners = arrays["in_class"], arrays["in_partner_class"]
    settings = {"temperature": 1.0 / meta["scale"]}
    return run(
        {name: arrays[name] for name in ("in_z", "in_gate")},
        meta,
        {
            "out_loss": lambda x: losses.simlap(
                x["in_z"], x["in_gate"], classes, partners, **settings
            )
        },
    )


def _sla(arrays: dict, meta: dict) -> dict:
    labels, count = arrays["in_labels"], meta["num_transforms"]

    def distilled(x):
        joint, single = x["in_joint_logits"], x["in_single_logits"][::count]
        gap = losses.sla_distillation(joint, single, transforms=count, temperature=meta["T"])
        return (
            losses.sla(joint, labels, transforms=count)
            + losses.classification(single, labels)
            + gap
        )

    outputs = {
        "out_joint_loss": lambda x: losses.sla(x["in_joint_logits"], labels, transforms=count),
        "out_aggregated_logits": lambda x: losses.sla_aggregate(
            x["in_joint_logits"], transforms=count
        ),
        "out_single_view_logits": lambda x: x["in_joint_logits"][::count, ::count],
        "out_sd_loss": distilled,
    }
    return run(arrays, meta, outputs)


def _gsimclr_guided_order(arrays: dict, meta: dict) -> dict:
    rank, order = data.guided_order(arrays["in_cluster"])
    return {"out_rank": np.asarray(rank), "out_order": np.asarray(order)}


CASES = {
    "gsimclr_guided_order": _gsimclr_guided_order,
    "simlap_gate": _simlap_gate,
    "sla": _sla,
}
