# SPDX-License-Identifier: Apache-2.0
"""Which tokens are hidden, and losses of those."""

from __future__ import annotations

import numpy as np
import tensorflow as tf
from adapters.common import run
from adapters.targets import videomae_targets

from keras_ssl import losses, masking, targets, tokens
from keras_ssl.core import distribution


def _mae_random_masking(arrays: dict, meta: dict) -> dict:
    noise = arrays["in_noise"]
    plan = masking.plan_of(noise, masking.visible_count(noise.shape[1], meta["mask_ratio"]))
    return {
        "out_ids_shuffle": np.concatenate([plan.keep, plan.hidden], axis=1),
        "out_ids_keep": np.asarray(plan.keep),
        "out_ids_restore": np.asarray(plan.restore),
        "out_mask": np.asarray(plan.mask),
        "out_visible": np.asarray(tokens.gather_tokens(arrays["in_tokens"], plan.keep)),
    }


def _mae_loss(arrays: dict, meta: dict) -> dict:
    patch = (meta["patch_size"],) * (arrays["in_images"].ndim - 2)

    def output(options):
        target = targets.PixelTarget(
            patch,
            normalize="patch" if options["norm_pix"] else None,
            epsilon=meta["norm_pix_eps"],
            unbiased=meta["norm_pix_variance"] == "unbiased",
        )
        return lambda x: losses.token_error(x["in_pred"], target(x["in_images"]), x["in_mask"])

    return run(arrays, meta, {name: output(options) for name, options in meta["options"].items()})


def _simmim(arrays: dict, meta: dict) -> dict:
    images, order = arrays["in_images"], arrays["in_perm"]
    axes, small, stride = images.ndim - 2, meta["model_patch_size"], meta["encoder_stride"]
    grid = [side // small for side in images.shape[1:-1]]
    strategy = masking.GroupedMasking(
        (meta["mask_patch_size"] // small,) * axes, meta["mask_ratio"], "ceil_hidden"
    )
    # A strategy shows the first ones of an order, the file hides them.
    plan = strategy.plan_of_units(order[:, ::-1], grid)
    pixels = tokens.spread(plan.mask, grid, (small,) * axes)[..., 0]
    head = tokens.MLPDecoder(len(arrays["in_head_weight"]))
    head.build((None, None, arrays["in_head_weight"].shape[1]))
    target = targets.PixelTarget((stride,) * axes, order="channel_first")
    replace = tokens.MaskToken()
    replace.build(arrays["in_embeddings"].shape)
    replace.set_weights([arrays["in_mask_token"]])

    def reconstruction(x):
        features = x["in_features"]
        features = tf.reshape(features, (features.shape[0], -1, features.shape[-1]))
        weights = [tf.transpose(x["in_head_weight"]), x["in_head_bias"]]
        # All tokens are seen: the head maps each by itself.
        everything = masking.MaskPlan(tf.zeros(features.shape[:2]))
        places = [side // stride for side in images.shape[1:-1]]
        values, _ = head.stateless_call(weights, [], features, plan=everything, grid=places)
        return target.to_pixels(values, x["in_images"])

    outputs = {
        "out_reconstruction": reconstruction,
        "out_loss": lambda x: losses.token_error(
            reconstruction(x), x["in_images"], pixels, kind="l1"
        ),
        "out_replaced": lambda x: replace(x["in_embeddings"], plan.mask),
    }
    masks = {
        "out_mask": np.asarray(plan.mask, "int32").reshape(-1, *grid),
        "out_mask_pixels": np.asarray(pixels, "int32"),
    }
    return run(arrays, meta, outputs) | masks


def _color_mae(arrays: dict, meta: dict) -> dict:
    found, sigmas = {}, (meta["sigma1"], meta["sigma2"])
    for color in meta["colours"]:
        noise, window = arrays["in_noise"][:1], arrays[f"in_window_{color}"]
        window = window.reshape(len(window), -1)
        plan = masking.plan_of(-window, masking.visible_count(window.shape[1], meta["mask_ratio"]))
        filtered = masking.colored_noise(noise, color, sigmas, truncate=meta["truncate"])
        found |= {
            f"out_filtered_{color}": np.asarray(filtered),
            f"out_mask_{color}": np.asarray(plan.mask),
            f"out_ids_restore_{color}": np.asarray(plan.restore),
            f"out_ids_keep_{color}": np.asarray(plan.keep),
        }
    return found


def _video_mae(arrays: dict, meta: dict) -> dict:
    grid = meta["token_grid"]
    wanted = videomae_targets(arrays, meta)
    everything = wanted["out_targets_normalised"]
    maps = masking.running_cells(grid, meta["running_cell_ratio"])
    # The files state masks: as scores they show what is not masked, in the order of the tokens.
    encoder, decoder = (
        masking.plan_of(mask, int((~mask[0]).sum()))
        for mask in (arrays["in_encoder_mask"], arrays["in_decoder_mask"])
    )

    def output(options):
        both = options["decoder_masking"]
        plan = masking.decode_of(encoder, decoder) if both else encoder
        target = tokens.tokens_at(everything, plan.decode)
        name = "in_pred_v2" if both else "in_pred_v1"
        return lambda x: losses.token_error(x[name], target, plan.weight)

    outputs = {name: output(options) for name, options in meta["options"].items()}
    return run(arrays, meta, outputs) | wanted | {"out_running_cell_maps": maps}


def _lv_mae(arrays: dict, meta: dict) -> dict:
    sequence = arrays["in_tokens"][None]
    strategy = masking.GuidedMasking(masking.predecessor_similarity, meta["mask_ratio"], show="low")
    plan = strategy.plan(
        1, sequence.shape[1:-1], distribution.fixed_seed(meta["seed"]), inputs=sequence
    )
    outputs = {
        "out_loss": lambda x: losses.token_error(
            x["in_pred"], x["in_target"], x["in_mask"], kind="cosine"
        )
    }
    return run(arrays, meta, outputs) | {
        "out_visible": np.asarray(tokens.gather_tokens(sequence, plan.keep))[0],
        "out_mask": np.asarray(plan.mask)[0],
        "out_ids_restore": np.asarray(plan.restore)[0],
        "out_ids_shuffle": np.concatenate([plan.keep, plan.hidden], axis=1)[0],
    }


CASES = {
    "mim_mae_random_masking": _mae_random_masking,
    "mim_mae_loss": _mae_loss,
    "mim_simmim_loss": _simmim,
    "mim_colormae_mask": _color_mae,
    "mim_videomae_masks_targets": _video_mae,
    "mim_lvmae_importance_cosine": _lv_mae,
}
