# SPDX-License-Identifier: Apache-2.0
"""Students of frozen teachers."""

from __future__ import annotations

import numpy as np
import tensorflow as tf
from adapters.common import run

from keras_ssl import layers, losses, targets, tokens


def _mask_align(arrays: dict, meta: dict) -> dict:
    depth, *shape = arrays["in_student"].shape
    # The embeddings, level 0 of the teacher, are not aligned.
    teacher = targets.standardized(arrays["in_teacher"][1:], meta["layernorm_eps"])
    taught = [
        np.concatenate([x[:, :1], tokens.tokens_at(x[:, 1:], arrays["in_ids_keep"])], axis=1)
        for x in teacher
    ]
    alignment = layers.DynamicAlignment(teacher.shape[-1])
    alignment.build([shape] * depth)

    def student(x):
        heads = zip(x["in_w_heads"], x["in_b_heads"], strict=True)
        weights = [x["in_w_fusion"], *(w for k, b in heads for w in (tf.transpose(k), b))]
        return alignment.stateless_call(weights, [], tf.unstack(x["in_student"]))[0]

    top = meta["top"]
    outputs = {
        "out_student": lambda x: tf.stack(student(x)),
        "out_loss": lambda x: losses.feature_alignment(
            student(x)[-top:], taught[-top:], kind={"smoothl1": "smooth_l1"}.get(meta["loss"], "l2")
        ),
    }
    return run(arrays, meta, outputs) | {"out_teacher": np.stack(taught)}


def _token_relations(arrays: dict, meta: dict) -> dict:
    def loss(x):
        student, teacher = (tf.unstack(x[name]) for name in ("in_student", "in_teacher"))
        return losses.token_relation_kl(student, teacher, heads=meta["relation_heads"])

    meta = {"grad_of": {"grad_student": {"of": "out_loss"}}, **meta}
    return run(arrays, meta, {"out_loss": loss})


def _g2sd(arrays: dict, meta: dict) -> dict:
    wanted = targets.standardized(arrays["in_teacher"], meta["layernorm_eps"])
    options = {"temperature": meta["nkd_temperature"], "alpha": meta["nkd_alpha"]}
    outputs = {
        "out_loss": lambda x: losses.token_error(
            x["in_pred"], wanted, kind="smooth_l1", beta=meta["beta"]
        ),
        "out_nkd": lambda x: losses.nkd(
            x["in_logits_student"], x["in_logits_teacher"], x["in_y"], **options
        ),
    }
    return run(arrays, meta, outputs)


CASES = {
    "mim_maskalign_dynamic_alignment": _mask_align,
    "mim_token_relation_kl": _token_relations,
    "mim_g2sd_losses": _g2sd,
}
