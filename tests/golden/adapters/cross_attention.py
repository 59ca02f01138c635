# SPDX-License-Identifier: Apache-2.0
"""Blocks that attend to other tokens than their own."""

from __future__ import annotations

import numpy as np
import tensorflow as tf
from adapters.common import run

from keras_ssl import tokens


def _assign(layer, weight, bias=None):
    """Torch's matrix and offset into a Keras layer; norms have both names otherwise."""
    if hasattr(layer, "kernel"):
        layer.kernel.assign(weight.T)
        if layer.use_bias:
            layer.bias.assign(bias)
    else:
        layer.gamma.assign(weight)
        layer.beta.assign(bias)


def _attention(layer, arrays, name):
    """Torch's multi-head attention, whose queries, keys and values stand below one another."""
    maps = (layer.query, layer.key, layer.value)
    weights = np.split(arrays[f"{name}.in_proj_weight"], 3)
    offsets = np.split(arrays[f"{name}.in_proj_bias"], 3)
    for part, weight, offset in zip(maps, weights, offsets, strict=True):
        _assign(part, weight, offset)
    _assign(layer.out, arrays[f"{name}.out_proj.weight"], arrays[f"{name}.out_proj.bias"])


def _crop_mae(arrays: dict, meta: dict) -> dict:
    width = arrays["in_target"].shape[-1]
    block = tokens.CrossSelfBlock(meta["heads"], meta["ff"] / width, dropout=0.0)
    block.build(arrays["in_target"].shape)
    _attention(block.cross_attention, arrays, "in_w_multihead_attn")
    _attention(block.self_attention, arrays, "in_w_self_attn")
    names = {"linear1": block.feed_forward.rise, "linear2": block.feed_forward.fall}
    names |= dict(zip(("norm2", "norm3", "norm1"), block.norms, strict=True))
    for name, layer in names.items():
        _assign(layer, arrays[f"in_w_{name}.weight"], arrays[f"in_w_{name}.bias"])

    def output(x):
        return block(x["in_target"], x["in_memory"])

    outputs = {"out_tokens": output}
    # What is differentiated has its formula for a name.
    for spec in meta["grad_of"].values():
        outputs[spec["of"]] = lambda x: tf.reduce_sum(output(x) ** 2)
    return run(arrays, meta, outputs)


CASES = {"mim_cropmae_decoder_block": _crop_mae}
