# SPDX-License-Identifier: Apache-2.0
"""Adapter of SparK."""

import keras
import numpy as np
import tensorflow as tf

from keras_ssl import layers, masking, models, targets

CNN = "sparse_encoder.sp_cnn"


def _encoder(weights, shape, meta):
    """Convolutions of stride 2 with batch norm and ReLU, and their layers under torch's names."""
    inputs = x = keras.Input(shape)
    named, number = {}, 1
    while f"{CNN}.conv{number}.weight" in weights:
        kernel = weights[f"{CNN}.conv{number}.weight"]
        size, bias = kernel.shape[-1], f"{CNN}.conv{number}.bias" in weights
        conv = keras.layers.Conv2D(len(kernel), size, strides=2, use_bias=bias)
        norm = layers.batch_norm(momentum=1 - meta["bn_momentum_torch"], epsilon=meta["bn_eps"])
        x = norm(conv(keras.layers.ZeroPadding2D(size // 2)(x)))
        x = keras.layers.ReLU()(x)
        named |= {f"{CNN}.conv{number}": conv, f"{CNN}.bn{number}": norm}
        number += 1
    return keras.Model(inputs, keras.layers.GlobalAveragePooling2D()(x)), named


def _decoder(decoder):
    """The decoder's layers under torch's names."""
    named = {"dense_decoder.proj": decoder.head}
    for level, (rise, first, first_norm, second, second_norm) in enumerate(decoder.blocks):
        prefix = f"dense_decoder.dec.{level}"
        named |= {f"{prefix}.up_sample": rise, f"{prefix}.conv.0": first}
        named |= {f"{prefix}.conv.1": first_norm, f"{prefix}.conv.3": second}
        named[f"{prefix}.conv.4"] = second_norm
        named[f"densify_norms.{level}"] = decoder.norms[level]
        named[f"densify_projs.{level}"] = decoder.projections[level]
    return {name: layer for name, layer in named.items() if layer is not None}


def _load(named, weights):
    for name, layer in named.items():
        kernel, bias = (
            (layer.gamma, layer.beta) if hasattr(layer, "gamma") else (layer.kernel, layer.bias)
        )
        array = weights[f"{name}.weight"]
        kernel.assign(array.transpose(2, 3, 1, 0) if array.ndim == 4 else array)
        if bias is not None:
            bias.assign(weights[f"{name}.bias"])


def _running(named, meta):
    """Moving statistics after one step from 0 and 1, with torch's unbiased variance."""
    statistics, out = meta["running_stats"], {}
    rate, start = statistics["momentum_torch"], statistics["initial_var"]
    for name in statistics["count"]:
        norm, key = named[name], f"out_run_{name}.running_var"
        batch = (np.asarray(norm.moving_variance) - (1 - rate) * start) / rate
        unbiased = batch * statistics["unbiased_factor"][key]
        out[key] = (1 - rate) * start + rate * unbiased
        out[f"out_run_{name}.running_mean"] = np.asarray(norm.moving_mean)
    return out


def _single_layers(arrays, active, meta):
    """A pooling and a normalization by themselves."""
    x = tf.constant(arrays["in_sparse_layer"], "float32")
    norm = keras.layers.LayerNormalization(epsilon=meta["ln_eps"])
    norm.build(x.shape)
    norm.set_weights([arrays["in_ln_weight"], arrays["in_ln_bias"]])
    # The pooling of a ResNet's stem, which pads by what no maximum takes.
    pool = keras.layers.MaxPooling2D(3, 2)
    padded = tf.pad(x, [[0, 0], [1, 1], [1, 1], [0, 0]], constant_values=x.dtype.min)
    return {
        "out_sparse_maxpool": layers.masked_call(pool, padded, active),
        "out_sparse_layernorm": layers.masked_call(norm, x, active),
    }


def spark_forward(arrays, meta):
    weights = {n.removeprefix("in_w_"): v for n, v in arrays.items() if n.startswith("in_w_")}
    active = arrays["in_active"][..., None]
    encoder, named = _encoder(weights, arrays["in_images"].shape[1:], meta)
    cell = encoder.input_shape[1] // active.shape[1]
    unbiased = meta["target_variance"] == "unbiased"
    target = targets.PixelTarget(
        (cell, cell), normalize="patch", epsilon=meta["target_eps"], unbiased=unbiased
    )
    model = models.SparK(
        encoder, meta["mask_ratio"], meta["decoder_width"], target=target, views=None
    )
    named |= _decoder(model.decoder)
    _load(named, weights)
    for level, filling in enumerate(model.decoder.fillings):
        filling.assign(weights[f"mask_tokens.{level}"].reshape(filling.shape))
    images = tf.constant(arrays["in_images"], "float32")
    plan = masking.MaskPlan(tf.reshape(1.0 - tf.cast(active, "float32"), (len(active), -1)))
    first = named[f"{CNN}.conv1"].kernel
    with tf.GradientTape() as tape:
        losses = model.compute_losses({"inputs": images, "plan": plan}, True)
        loss = losses["reconstruction"]
    gradient = np.asarray(tape.gradient(loss, first.value))
    out = {"out_loss": loss, "grad_w_conv1": gradient.transpose(3, 2, 0, 1)}
    out |= _running(named, meta) | _single_layers(arrays, active, meta)
    maps = model.encode(images, plan, training=True)
    for level, (x, projection) in enumerate(zip(maps, model.decoder.projections, strict=True)):
        filled = model.decoder.fill(level, x, active, training=True)
        out[f"out_feature_{len(maps) - 1 - level}"] = x
        out[f"out_densified_{level}"] = filled
        out[f"out_projected_{level}"] = filled if projection is None else projection(filled)
    return {name: np.asarray(value) for name, value in out.items()}


CASES = {"mim_spark_forward": spark_forward}
