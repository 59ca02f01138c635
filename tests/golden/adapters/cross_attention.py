# SPDX-License-Identifier: Apache-2.0
"""Blocks that attend to other tokens than their own."""

from __future__ import annotations

import numpy as np
import tensorflow as tf
from adapters.common import run

from keras_ssl import losses, tokens


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


def _cae(arrays: dict, meta: dict) -> dict:
    regressor = tokens.LatentRegressor(
        meta["depth"], meta["heads"], meta["mlp_ratio"], meta["layerscale_init"]
    )
    regressor.build(arrays["in_visible"].shape)
    regressor.mask_token.assign(arrays["in_mask_token"])
    _assign(regressor.norm, arrays["in_w_norm.weight"], arrays["in_w_norm.bias"])
    for index, block in enumerate(regressor.blocks):
        name, attention = f"in_w_regressor_blocks.{index}", block.attention
        layers = {
            "cross_attn.proj": attention.out,
            "mlp_cross.fc1": block.feed_forward.rise,
            "mlp_cross.fc2": block.feed_forward.fall,
        }
        names = ("norm1_q", "norm1_k", "norm1_v", "norm2_cross")
        layers |= dict(zip(names, block.norms, strict=True))
        for part, layer in layers.items():
            _assign(layer, arrays[f"{name}.{part}.weight"], arrays[f"{name}.{part}.bias"])
        for part, layer in (("q", attention.query), ("k", attention.key), ("v", attention.value)):
            offset = arrays.get(f"{name}.cross_attn.{part}_bias")
            _assign(layer, arrays[f"{name}.cross_attn.{part}.weight"], offset)
        for number, scale in enumerate(block.scales, start=1):
            scale.scale.assign(arrays[f"{name}.gamma_{number}_cross"])

    def regressed(x):
        return regressor.regress(x["in_visible"], x["in_pos_visible"], x["in_pos_masked"])

    outputs = {
        "out_regressed": regressed,
        "out_loss_align": lambda x: (
            meta["align_weight"] * losses.token_error(regressed(x), x["in_target"])
        ),
        "out_loss_main": lambda x: losses.token_error(
            x["in_logits"], arrays["in_labels"], kind="cross_entropy"
        ),
    }
    # The file goes on in a formula after the name.
    gradients = {
        name: {**spec, "of": spec["of"].split(" ")[0]} for name, spec in meta["grad_of"].items()
    }
    return run(arrays, {**meta, "grad_of": gradients}, outputs)


CASES = {"mim_cropmae_decoder_block": _crop_mae, "mim_cae_regressor_alignment": _cae}
