# SPDX-License-Identifier: Apache-2.0
"""Adapters of whole masked models."""

import keras
import numpy as np
import tensorflow as tf

from keras_ssl import backbones, losses, targets
from keras_ssl.masking import RandomMasking, plan_of
from keras_ssl.models import MAE
from keras_ssl.tokens import TransformerDecoder, gather_tokens, patchify


def _block(prefix, block):
    """Pairs of a block's variables and torch's arrays, to be turned where they are matrices."""
    names = {
        "norm1": block.attention_norm,
        "attn.qkv": block.attention.qkv,
        "attn.proj": block.attention.out,
        "norm2": block.feed_forward_norm,
        "mlp.fc1": block.feed_forward.rise,
        "mlp.fc2": block.feed_forward.fall,
    }
    for name, layer in names.items():
        yield from _affine(f"{prefix}.{name}", layer)


def _affine(name, layer):
    norm = isinstance(layer, keras.layers.LayerNormalization)
    yield f"{name}.weight", layer.gamma if norm else layer.kernel
    yield f"{name}.bias", layer.beta if norm else layer.bias


def _variables(model):
    encoder, decoder = model.encoder, model.decoder
    pairs = [("cls_token", encoder.prefix.tokens[0]), ("mask_token", decoder.mask_token)]
    pairs += _affine("patch_embed.proj", encoder.tokenizer.projection)
    for index, block in enumerate(encoder.blocks):
        pairs += _block(f"blocks.{index}", block)
    for index, block in enumerate(decoder.blocks):
        pairs += _block(f"decoder_blocks.{index}", block)
    layers = {
        "norm": encoder.norm,
        "decoder_embed": decoder.embed,
        "decoder_norm": decoder.norm,
        "decoder_pred": decoder.head,
    }
    for name, layer in layers.items():
        pairs += _affine(name, layer)
    return dict(pairs)


def _ours(array):
    """A torch array in Keras' layout."""
    if array.ndim == 4:
        return array.transpose(2, 3, 1, 0).reshape(-1, array.shape[0])
    return array.T if array.ndim == 2 else array


def _theirs(gradient, like):
    gradient = np.asarray(gradient)
    if like.ndim == 4:
        out, channels, *sides = like.shape
        return gradient.reshape(*sides, channels, out).transpose(3, 2, 0, 1)
    return (gradient.T if like.ndim == 2 else gradient).reshape(like.shape)


def mae_forward(inputs, meta):
    encoder = backbones.VisionTransformer(
        "tiny",
        (meta["img"], meta["img"], inputs["in_images"].shape[-1]),
        meta["p"],
        width=meta["D"],
        depth=meta["depth"],
        heads=meta["h"],
        mlp_ratio=meta["mlp_ratio"],
        positions="sincos",
    )
    decoder = TransformerDecoder(None, meta["dd"], meta["ddep"], meta["dh"], meta["mlp_ratio"])
    model = MAE(encoder, meta["ratio"], decoder, "pixels", views=None)
    variables = _variables(model)
    for name, variable in variables.items():
        variable.assign(_ours(inputs[f"in_w_{name}"]).reshape(variable.shape))
    noise = inputs["in_noise"]
    visible = RandomMasking(meta["ratio"]).visible(model.encoder.grid)
    plan = plan_of(tf.constant(noise, "float32"), visible)
    images = tf.constant(inputs["in_images"], "float32")
    grid = model.encoder.grid
    raw = targets.PixelTarget(model.encoder.patch)
    normal = targets.PixelTarget(model.encoder.patch, normalize="patch")
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(images)
        latent = model.encode(images, plan)
        every = model.decoder(latent, plan=plan, grid=grid, seen=True)
        predicted = every[:, visible:]
        wanted = gather_tokens(raw(images), plan.hidden)
        loss = losses.token_error(predicted, wanted)
        # The library stops the gradient at the target; the square has the same on both sides.
        patches = tf.reshape(patchify(images, model.encoder.patch), raw(images).shape)
        mirrored = losses.token_error(gather_tokens(patches, plan.hidden), predicted)
    weights = {n: v for n, v in variables.items() if f"in_w_{n}" in inputs}
    gradients = tape.gradient(loss, [v.value for v in weights.values()])
    out = {
        "out_loss": loss,
        "out_loss_norm": losses.token_error(predicted, gather_tokens(normal(images), plan.hidden)),
        "out_pred": gather_tokens(every, plan.restore),
        "out_mask": plan.mask,
        "out_latent": latent,
        "out_ids_restore": plan.restore,
        "grad_images": tape.gradient(loss, images) + tape.gradient(mirrored, images),
    }
    for (name, _), gradient in zip(weights.items(), gradients, strict=True):
        out[f"grad_w_{name}"] = _theirs(gradient, inputs[f"in_w_{name}"])
    return out


CASES = {"mim_mae_forward": mae_forward}
