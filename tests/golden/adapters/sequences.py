# SPDX-License-Identifier: Apache-2.0
"""Prediction along sequences of views."""

from __future__ import annotations

import keras
import numpy as np
import tensorflow as tf
from adapters.cross_attention import _assign, _attention

from keras_ssl import tokens
from keras_ssl.models import SeqJEPA


def _seq_jepa(arrays: dict, meta: dict) -> dict:
    views = np.concatenate([arrays["in_enc_obs"], arrays["in_enc_next"][:, None]], axis=1)
    actions = np.concatenate([arrays["in_act_obs"], arrays["in_act_next"][:, None]], axis=1)
    # The vectors of views are given, so that the encoder has nothing to do.
    vectors = keras.Input(views.shape[2:])
    aggregator = tokens.SequenceAggregator(
        meta["layers"], meta["heads"], meta["mlp_ratio"], meta["dropout"]
    )
    model = SeqJEPA(
        keras.Model(vectors, keras.layers.Identity()(vectors)),
        actions=actions.shape[-1],
        action_width=len(arrays["in_action_proj.0.weight"]),
        aggregator=aggregator,
        predictor=len(arrays["in_predictor.0.weight"]),
        momentum=None,
    )
    _assign(model.action_projector.blocks[0], arrays["in_action_proj.0.weight"])
    first, norm, _, last = model.predictor.blocks
    _assign(first, arrays["in_predictor.0.weight"])
    for number, layer in ((1, norm), (3, last)):
        weights = (arrays[f"in_predictor.{number}.{part}"] for part in ("weight", "bias"))
        _assign(layer, *weights)
    aggregator.token.assign(arrays["in_agg_token"][0, 0])
    encoder = "in_transformer_encoder"
    named = {f"{encoder}.norm": aggregator.norm}
    for index, block in enumerate(aggregator.blocks):
        name = f"{encoder}.transformer_encoder.layers.{index}"
        _attention(block.self_attention, arrays, f"{name}.self_attn")
        feed_forward = block.feed_forward
        named |= {f"{name}.linear1": feed_forward.rise, f"{name}.linear2": feed_forward.fall}
        named |= {f"{name}.norm{k}": norm for k, norm in enumerate(block.norms, start=1)}
    for name, layer in named.items():
        _assign(layer, arrays[f"{name}.weight"], arrays[f"{name}.bias"])
    batch = {"views": tf.constant(views, "float32"), "actions": tf.constant(actions, "float32")}
    seen = model.make_views(batch)
    changes = seen["actions"][:, 1:] - seen["actions"][:, :-1]
    return {
        "out_agg": model.aggregate(seen["views"][:, :-1], changes[:, :-1], training=True),
        "out_loss": model.compute_losses(seen, True)["prediction"],
    }


CASES = {"jepa_seqjepa": _seq_jepa}
