# SPDX-License-Identifier: Apache-2.0
"""Adapters of latent prediction."""

from __future__ import annotations

import numpy as np
import tensorflow as tf
from adapters.common import numbered, run
from adapters.masked_models import _affine, _block, _ours, _theirs

from keras_ssl import backbones, losses, masking, targets, tokens
from keras_ssl.core import distribution
from keras_ssl.models import IJEPA


def _encoder_variables(prefix, encoder):
    pairs = list(_affine(f"{prefix}.patch_embed.proj", encoder.tokenizer.projection))
    for index, block in enumerate(encoder.blocks):
        pairs += _block(f"{prefix}.blocks.{index}", block)
    return dict([*pairs, *_affine(f"{prefix}.norm", encoder.norm)])


def _predictor_variables(prefix, predictor):
    pairs = [(f"{prefix}.mask_token", predictor.mask_token)]
    for index, block in enumerate(predictor.blocks):
        pairs += _block(f"{prefix}.predictor_blocks.{index}", block)
    names = {"embed": predictor.embed, "norm": predictor.norm, "proj": predictor.head}
    for name, layer in names.items():
        pairs += _affine(f"{prefix}.predictor_{name}", layer)
    return dict(pairs)


def _blocks_first(x, sets):
    """Rows in the order of samples and sets, in that of sets and samples."""
    x = np.asarray(x)
    return x.reshape(-1, sets, *x.shape[1:]).swapaxes(0, 1).reshape(x.shape)


def _ijepa_step(inputs, meta):
    encoder = backbones.VisionTransformer(
        "tiny",
        (meta["image"], meta["image"], inputs["in_img"].shape[1]),
        meta["patch"],
        width=meta["embed"],
        depth=meta["depth"],
        heads=meta["heads"],
        mlp_ratio=meta["mlp_ratio"],
        class_token=False,
        positions="sincos",
    )
    sizes = (meta["pred_embed"], meta["pred_depth"], meta["heads"], meta["mlp_ratio"])
    model = IJEPA(
        encoder,
        masking.MultiBlockMasking(least=2),
        tokens.TransformerDecoder(None, *sizes),
        momentum=meta["ema_m"],
        views=None,
    )
    variables = _encoder_variables("enc", encoder) | _predictor_variables("pred", model.predictor)
    teacher = _encoder_variables("tgt", model.teacher_encoder)
    for name, variable in (variables | teacher).items():
        variable.assign(_ours(inputs[f"in_{name}"]).reshape(variable.shape))
    images = tf.constant(inputs["in_img"].transpose(0, 2, 3, 1), "float32")
    keep, decode = inputs["in_menc"][0], inputs["in_mpred"].swapaxes(0, 1)
    sets, grid = decode.shape[1], encoder.grid
    hidden = 1.0 - np.eye(np.prod(grid), dtype="float32")[keep].sum(axis=1)
    plan = masking.MaskPlan(hidden, keep.astype("int32"), decode=decode.astype("int32"))
    context = model.encode(images, plan)
    features = model.target(images)
    wanted = masking.asked_of(features, plan)
    predicted = model.predictor(
        tf.repeat(context, sets, axis=0), plan=masking.each_alone(plan), grid=grid
    )
    with tf.GradientTape() as tape:
        loss = model.compute_losses({"inputs": images, "plan": plan}, True)["prediction"]
    gradients = tape.gradient(loss, [variable.value for variable in variables.values()])
    for follower, student in model.teachers():
        follower.update(student)
    out = {
        "out_context": context,
        "out_target_full": features,
        "out_target": _blocks_first(wanted, sets),
        "out_pred": _blocks_first(predicted, sets),
        "out_loss": loss,
        "out_loss_l1": losses.token_error(predicted, wanted, kind="l1"),
        "out_loss_l2": losses.token_error(predicted, wanted, kind="l2"),
    }
    for name, gradient in zip(variables, gradients, strict=True):
        out[f"grad_{name}"] = _theirs(gradient, inputs[f"in_{name}"])
    for name, variable in teacher.items():
        out[name.replace("tgt", "out_ema", 1)] = _theirs(variable, inputs[f"in_{name}"])
    return out


def _mask_mechanics(inputs, meta):
    x, contexts = tf.constant(inputs["in_x"], "float32"), inputs["in_menc"].astype("int32")
    decode = inputs["in_mpred"].swapaxes(0, 1).astype("int32")
    sets, seen, wanted = decode.shape[1], [], []
    for keep in contexts:
        plan = masking.MaskPlan(np.zeros(inputs["in_x"].shape[:2]), keep, decode=decode)
        wanted.append(_blocks_first(masking.asked_of(x, plan), sets))
        kept = tokens.gather_tokens(tf.repeat(x, sets, axis=0), masking.each_alone(plan).keep)
        seen.append(_blocks_first(kept, sets))

    def ordered(parts):
        """Targets, contexts, samples."""
        parts = np.stack([part.reshape(sets, -1, *part.shape[1:]) for part in parts], axis=1)
        return parts.reshape(-1, *parts.shape[3:])

    return {
        "out_targets": wanted[0],
        "out_targets_rep": ordered(wanted),
        "out_ctx_rep": ordered(seen),
    }


def _ijepa_masks(inputs, meta):
    cfg = meta["cfg"]
    grid = (cfg["input_size"] // cfg["patch_size"],) * 2

    def sizes(scale, aspect):
        found = [masking.block_size(grid, scale, aspect, draw) for draw in inputs["in_u"]]
        return np.array(found, "int64")

    return {
        "out_pred_size": sizes(cfg["pred_mask_scale"], cfg["aspect_ratio"]),
        "out_enc_size": sizes(cfg["enc_mask_scale"], (1.0, 1.0)),
    }


def _positions(inputs, meta):
    orders = {"column, row": (1, 0), "row, column": (0, 1)}
    found = {}
    for name, table in meta["tables"].items():
        options, settings = meta["options"].get(name, {}), {}
        grid = (table["grid"],) * 2 if "grid" in table else (table["length"],)
        if "depth" in table:
            grid = (table["depth"], *grid)
            settings["split"] = "half" if isinstance(options["split"], list) else "cut"
        if "order" in options:
            settings["order"] = orders[options["order"]]
        found[name] = tokens.sincos_table(grid, table["dim"], base=float(meta["base"]), **settings)
    return found


def _vjepa_masks(inputs, meta):
    grid, options = meta["grid"], meta["cfg_masks"][0]
    layer = masking.MultiTubeMasking(
        options["num_blocks"],
        options["spatial_scale"],
        options["aspect_ratio"],
        options["temporal_scale"],
        latest=options["max_temporal_keep"],
    )
    seen = masking.TubeMasking(meta["tube_ratio"], "floor_visible").visible(grid)
    return {
        "out_size": np.array([layer.size(grid, *draws) for draws in inputs["in_u"]], "int64"),
        "out_tube_counts": np.array([seen, np.prod(grid) - seen], "int64"),
    }


def _vjepa_loss(inputs, meta):
    count = len(numbered(inputs, "in_z"))

    def loss(exponent):
        kind = {1: "l1", 2: "l2"}[exponent]

        def mean(x):
            h = targets.standardized(x["in_h"], meta["ln_eps"])
            errors = [
                losses.token_error(
                    x[f"in_z{i}"], tokens.tokens_at(h, inputs[f"in_mask{i}"]), kind=kind
                )
                for i in range(count)
            ]
            return sum(errors) / (count * exponent)

        return mean

    outputs = {f"out_loss_exp{p}": loss(p) for p in meta["exponents"]}
    outputs["out_reg"] = lambda x: losses.token_variance(
        [x[f"in_z{i}"] for i in range(count)], epsilon=meta["var_eps"]
    )
    return run(inputs, meta, outputs)


def _rotary(inputs, meta):
    def turned(legacy):
        x, places = inputs["in_x"].astype("float32"), inputs["in_pos"]
        layer = tokens.RotaryPositions(
            x.shape[-1], base=float(meta["rope_base"]), pairs="neighbours", legacy=legacy
        )
        angles = np.asarray(layer.angles((int(places.max()) + 1,)))[:, places]
        return tokens.rotate(x, angles)

    x, ids = inputs["in_xa"].astype("float32"), inputs["in_mask"].astype("int32")
    layer = tokens.RotaryPositions(
        meta["head_dim"], base=float(meta["rope_base"]), pairs="neighbours", legacy=True
    )
    frames = int(ids.max()) // meta["grid"] ** 2 + 1
    angles = layer.angles((frames, meta["grid"], meta["grid"]))
    attention = tokens.SelfAttention(x.shape[-1] // meta["head_dim"])
    attention.build(x.shape)
    weights = [inputs[f"in_{name}"] for name in ("qkv_w", "qkv_b", "proj_w", "proj_b")]
    attention.set_weights([w.T for w in weights])
    return {
        "out_rot_released": turned(True),
        "out_rot_fixed": turned(False),
        "out_attn": attention(x, angles=tokens.angles_at(angles, ids, 0)),
    }


def _dseq_regions(inputs, meta):
    count, grid = meta["regions"], (meta["grid"],) * 2
    saliency = (inputs["in_z"] * inputs["in_q"]).sum(-1) / np.sqrt(inputs["in_z"].shape[-1])
    regions = masking.salient_regions(saliency, grid, count, meta["alpha"])
    seen, asked = (np.asarray(x) for x in masking.region_sequence(regions))
    asked = asked.reshape(-1, asked.shape[-1])
    # The released masks lag: the second context has no more than the first.
    late = seen[:, [max(n - 1, 0) for n in range(count - 1)]].reshape(asked.shape)
    loss = losses.token_error(
        inputs["in_pred"], inputs["in_tgt"], asked, "smooth_l1", meta["smooth_l1_beta"]
    )
    return {
        "out_regions": np.asarray(regions).astype("uint8"),
        "out_context_mask_code": (1 - late).astype("uint8"),
        "out_target_mask_code": asked.astype("uint8"),
        "out_context_visible_paper": seen.astype("uint8"),
        "out_loss": loss,
    }


def _ratio_gradients(inputs, meta):
    image = np.moveaxis(inputs["in_img"][meta["image_index"]][None], 1, -1)
    patch, offset = (meta["patch"],) * 2, meta["epsilon"]
    target = targets.RatioGradientTarget(patch, meta["radii"], offset)
    sobel = sum(np.square(part) for part in targets.sobel(image))
    magnitudes = {
        name: targets.ratio_gradient(image, o["radius"], offset)[..., 0]
        for name, o in meta["options"].items()
    }
    # The file keeps the first six tokens.
    return {
        **magnitudes,
        "out_sobel": np.sqrt(sobel)[..., 0],
        "out_target": np.asarray(target(image))[0, :6],
    }


def _runs(inputs, meta):
    layer = masking.ContiguousMasking(meta["keep"], meta["min_block"])
    layer.plan(4, (meta["n"],), distribution.fixed_seed(meta["seed"]))
    # The file holds samples alone.
    return {}


CASES = {
    "jepa_blocks1d": _runs,
    "jepa_sar_gradient": _ratio_gradients,
    "jepa_dseq_regions": _dseq_regions,
    "jepa_vjepa_masks": _vjepa_masks,
    "jepa_vjepa_loss": _vjepa_loss,
    "jepa_vjepa2_rope": _rotary,
    "jepa_ijepa_step": _ijepa_step,
    "jepa_mask_mechanics": _mask_mechanics,
    "jepa_ijepa_masks": _ijepa_masks,
    "jepa_pos_embed": _positions,
}
