# SPDX-License-Identifier: Apache-2.0
"""What reads frozen tokens."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from keras_ssl import layers, losses, tokens


def _attentive_probe(arrays: dict, meta: dict) -> dict:
    x = arrays["in_x"].astype("float32")
    pool = tokens.AttentivePooling(
        meta["heads"], mlp_ratio=meta["mlp_ratio"], epsilon=meta["ln_eps"]
    )
    pool.build(x.shape)

    def weight(name):
        return arrays[f"in_pooler.{name}"]

    pool.query.assign(weight("query_tokens")[0])
    block = "cross_attention_block."
    keys, values = np.split(weight(block + "xattn.kv.weight"), 2)
    attention, offset = pool.attention, np.split(weight(block + "xattn.kv.bias"), 2)[1]
    for layer, kernel in (
        (attention.query, weight(block + "xattn.q.weight")),
        (attention.key, keys),
        (attention.value, values),
        (pool.feed_forward.rise, weight(block + "mlp.fc1.weight")),
        (pool.feed_forward.fall, weight(block + "mlp.fc2.weight")),
    ):
        layer.kernel.assign(kernel.T)
    attention.query.bias.assign(weight(block + "xattn.q.bias"))
    attention.value.bias.assign(offset)
    pool.feed_forward.rise.bias.assign(weight(block + "mlp.fc1.bias"))
    pool.feed_forward.fall.bias.assign(weight(block + "mlp.fc2.bias"))
    for norm, name in ((pool.norms[0], "norm1"), (pool.feed_forward_norm, "norm2")):
        norm.gamma.assign(weight(f"{block}{name}.weight"))
        norm.beta.assign(weight(f"{block}{name}.bias"))
    found = np.asarray(pool(x)) @ arrays["in_linear.weight"].T + arrays["in_linear.bias"]
    return {"out_logits": found}


def _prototypical_head(prototypes, weight, bias):
    """A head with prototypes `(classes · J, D, 1, 1)` of a file."""
    classes, each = weight.shape
    head = layers.PrototypicalHead(classes, each, bias=None if bias is None else 0.0)
    width = prototypes.shape[1]
    head.build((None, None, width))
    head.kernel.assign(prototypes.reshape(classes, each, width))
    head.weight.assign(weight)
    if bias is not None:
        head.bias.assign(bias)
    return head


def _eval_prototypical_probe(arrays: dict, meta: dict) -> dict:
    bias = arrays.get("in_last_bias")
    head = _prototypical_head(arrays["in_prototypes"], arrays["in_last_weight"], bias)
    x = arrays["in_x"].transpose(0, 2, 3, 1).astype("float32")
    activation = np.asarray(head.scores(x)).reshape(len(x), -1)
    return {"out_activation": activation, "out_logits": np.asarray(head(x))}


def _prototypical_probing(arrays: dict, meta: dict) -> dict:
    head = _prototypical_head(arrays["in_protos"], arrays["in_last_w"], arrays["in_last_b"])
    features = tf.constant(arrays["in_feat"], "float32")
    asl = meta["asl"]
    options = {"gamma_negative": asl["gamma_neg"], "gamma_positive": asl["gamma_pos"]}
    options |= {"clip": asl["clip"], "epsilon": asl["eps"]}
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(features)
        x = tf.transpose(features, (0, 2, 3, 1))
        logits = head(x)
        values = {
            "out_asl": losses.asymmetric_loss(logits, arrays["in_labels"], **options),
            "out_orth": losses.prototype_orthogonality(head.kernel, epsilon=meta["eps"]),
        }
    result = {name: np.asarray(value) for name, value in values.items()}
    result["out_logits"] = np.asarray(logits)
    result["out_scores"] = np.asarray(head.scores(x)).reshape(len(logits), -1)
    sources = {"feat": features, "protos": head.kernel.value, "last_w": head.weight.value}
    for name, spec in meta["grad_of"].items():
        parts = [values[part] for part in spec["of"].split(" + ")]
        source = sources[name.removeprefix("grad_")]
        gradient = sum(
            found for found in (tape.gradient(part, source) for part in parts) if found is not None
        )
        result[name] = np.asarray(gradient).reshape(
            arrays[f"in_{name.removeprefix('grad_')}"].shape
        )
    return result


CASES = {
    "eval_attentive_probe": _attentive_probe,
    "eval_prototypical_probe": _eval_prototypical_probe,
    "prototypical_probing": _prototypical_probing,
}
