# SPDX-License-Identifier: Apache-2.0
"""Self-distillation over prototypes: losses, centres and heads."""

from __future__ import annotations

import numpy as np
import tensorflow as tf
from adapters.common import numbered, run

from keras_ssl import layers, losses, schedules, tokens


def _of_each_call(values: list) -> np.ndarray:
    return np.stack([np.asarray(value) for value in values])


def _dino(arrays: dict, meta: dict) -> dict:
    warmup = meta["warmup_teacher_temp_epochs"]
    # One value an epoch, the last of the warm-up being the final one already.
    line = schedules.LinearWarmup(meta["warmup_teacher_temp"], meta["teacher_temp"], warmup - 1)
    center = layers.Center(arrays["in_teacher"].shape[-1], meta["center_momentum"])
    found = {"out_loss": [], "out_center": [], "grad_student": []}
    for call in range(meta["calls"]):
        student = tf.constant(arrays["in_student"][call], "float32")
        teacher = tf.constant(arrays["in_teacher"][call], "float32")
        with tf.GradientTape() as tape:
            tape.watch(student)
            teachers = tf.split(teacher, 2)
            loss = losses.dino(
                tf.split(student, meta["ncrops"]),
                teachers,
                center.value,
                student_temperature=meta["student_temp"],
                teacher_temperature=line(meta["epoch_of_call"][call]),
            )
        center.observe(teacher)
        center.move()
        found["out_loss"].append(loss)
        found["out_center"].append(np.array(center.value))
        found["grad_student"].append(tape.gradient(loss, student))
    temperatures = np.asarray(line(np.arange(meta["nepochs"])))
    return {name: _of_each_call(v) for name, v in found.items()} | {
        "out_teacher_temp": temperatures
    }


def _temperature(table, meta: dict, epoch: int):
    """Of two stated values: a line over the epochs of the warm-up, the last being the end."""
    return schedules.LinearWarmup(*table, meta["warmup_epochs"] - 1)(epoch)


def _ibot(arrays: dict, meta: dict) -> dict:
    inputs = {k: tf.constant(v, "float32") for k, v in arrays.items() if v.dtype.kind == "f"}
    width, views = arrays["in_teacher_cls"].shape[-1], meta["ngcrops"]
    centers = [layers.Center(width, meta["center_momentum"]) for _ in range(2)]
    masks = [mask.reshape(len(mask), -1) for mask in arrays["in_mask"]]
    found = {"out_cls": [], "out_patch": [], "out_loss": []}
    watched = ("in_student_cls", "in_student_patch", "in_student_local_cls")
    for epoch in meta["epoch_of_call"]:
        with tf.GradientTape() as tape:
            tape.watch([inputs[name] for name in watched])
            terms = losses.ibot(
                tf.split(inputs["in_student_cls"], views)
                + tf.split(inputs["in_student_local_cls"], meta["nlcrops"]),
                tf.split(inputs["in_teacher_cls"], views),
                tf.split(inputs["in_student_patch"], views),
                tf.split(inputs["in_teacher_patch"], views),
                masks,
                centers=[center.value for center in centers],
                student_temperature=meta["student_temp"],
                teacher_temperatures=[
                    _temperature(meta["teacher_temp"], meta, epoch),
                    _temperature(meta["teacher_patch_temp"], meta, epoch),
                ],
                weights=(meta["lambda1"], meta["lambda2"]),
            )
            total = terms["class_token"] + terms["patches"]
        gradients = tape.gradient(total, [inputs[name] for name in watched])
        centers[0].observe(inputs["in_teacher_cls"])
        centers[1].observe(inputs["in_teacher_patch"])
        for center in centers:
            center.move()
        found["out_cls"].append(terms["class_token"])
        found["out_patch"].append(terms["patches"])
        found["out_loss"].append(total)
    result = {name: _of_each_call(values) for name, values in found.items()}
    names = ("grad_student_cls", "grad_student_patch", "grad_student_local")
    result |= {name: np.asarray(g) for name, g in zip(names, gradients, strict=True)}
    result["out_center_cls"], result["out_center_patch"] = (np.asarray(c.value) for c in centers)
    return result


def _mmc(arrays: dict, meta: dict) -> dict:
    views, batch, places = arrays["in_mask"].shape
    images = arrays["in_images"].reshape(-1, *arrays["in_images"].shape[2:]).astype("float32")
    pixels = tokens.patchify(images, (meta["patch_size"],) * 2)
    mask = arrays["in_mask"].reshape(-1, places)

    def together(x):
        return tf.reshape(x, (views * batch, places, -1))

    def patches(x):
        teacher = together(x["in_teacher_patch"])
        return losses.patch_distillation(
            together(x["in_student_patch"]),
            losses.centered_softmax(teacher, x["in_center"], meta["teacher_temp"]),
            losses.masked_token_weights(mask),
            temperature=meta["student_temp"],
        )

    terms = {
        "out_pixels": lambda x: losses.token_error(
            together(x["in_pixels"]), together(pixels), mask, "l1"
        ),
        "out_patches": patches,
        "out_info_nce": lambda x: losses.moco_v3(
            list(x["in_queries"]), list(x["in_keys"]), temperature=meta["temperature"]
        ),
    }
    weighted = {
        name: lambda x, term=term, weight=weight: weight * term(x)
        for weight, (name, term) in zip(meta["weights"], terms.items(), strict=True)
    }
    total = {"out_loss": lambda x: sum(term(x) for term in weighted.values())}
    return run(arrays, meta, weighted | total)


def _sinkhorn(logits, meta: dict):
    return losses.sinkhorn_knopp(
        logits, epsilon=meta["teacher_temp"], iterations=meta["sinkhorn_iterations"]
    )


def _dinov2(arrays: dict, meta: dict) -> dict:
    teacher = _sinkhorn(arrays["in_teacher"], meta)
    patches = _sinkhorn(arrays["in_patch_teacher"], meta)
    mask = arrays["in_mask"]
    weights = np.asarray(losses.masked_token_weights(mask))[mask]

    def dino_sum(x):
        return losses.self_distillation(
            tf.split(x["in_student"], meta["student_crops"]),
            tf.split(teacher, meta["teacher_crops"]),
            temperature=meta["student_temp"],
            pairs="all",
            reduction="sum",
        )

    outputs = {
        "out_dino_sum": dino_sum,
        "out_koleo": lambda x: losses.koleo(x["in_koleo"], epsilon=meta["koleo_eps"]),
        "out_ibot_masked": lambda x: losses.patch_distillation(
            x["in_patch_student"], patches, weights, temperature=meta["student_temp"]
        ),
    }
    sinkhorn = {"out_teacher_sinkhorn": teacher, "out_patch_teacher_sinkhorn": patches}
    return run(arrays, meta, outputs) | {k: np.asarray(v) for k, v in sinkhorn.items()}


def _franca(arrays: dict, meta: dict) -> dict:
    teachers = [_sinkhorn(arrays[name], meta) for name in numbered(arrays, "in_teacher_")]
    local = numbered(arrays, "in_student_local_")
    whole = numbered(arrays, "in_student_global_")

    def levels(x, names, crops, parts):
        return losses.nested_distillation(
            [tf.split(x[name], crops) for name in names],
            [tf.split(teacher, parts) for teacher in teachers],
            temperature=meta["student_temp"],
            pairs="all",
            reduction="sum",
        )

    outputs = {
        "out_local_sum": lambda x: levels(x, local, meta["n_local_crops"], meta["n_teacher_crops"]),
        # One cross-entropy over the crops together, in the order given.
        "out_global_sum": lambda x: levels(x, whole, 1, 1),
    }
    result = run(arrays, meta, outputs)
    result |= {f"out_teacher_{level}": np.asarray(t) for level, t in enumerate(teachers)}
    removal = layers.PositionalProjectionRemoval()
    tokens = tf.constant(arrays["in_rasa_x"], "float32")
    removal.build(tokens.shape)
    removal.directions.assign(arrays["in_rasa_w"])
    result["out_rasa_pos"] = np.asarray(removal.positional(tokens))
    result["out_rasa_clean"] = np.asarray(removal(tokens))
    return result


def _load(head, arrays: dict, linear: list, last: tuple) -> None:
    """Torch weights [out, in] into a `PrototypeHead`; `last` is direction and gain."""
    for layer, (weight, bias) in zip(head.mlp.blocks[::2], linear, strict=True):
        layer.kernel.assign(arrays[weight].T)
        layer.bias.assign(arrays[bias])
    head.last.direction.assign(arrays[last[0]].T)
    if last[1] is not None:
        head.last.gain.assign(arrays[last[1]].reshape(-1))


def _prototype_heads(arrays: dict, meta: dict) -> dict:
    depth = sum(name.startswith("in_w") for name in arrays)
    widths = [arrays[f"in_w{i + 1}"].shape[0] for i in range(depth)]
    dino = layers.PrototypeHead(widths, arrays["in_last_v"].shape[0])
    dino.build(arrays["in_x"].shape)
    _load(
        dino, arrays, [(f"in_w{i + 1}", f"in_b{i + 1}") for i in range(depth)], ("in_last_v", None)
    )
    x = tf.constant(arrays["in_x"], "float32")
    with tf.GradientTape() as tape:
        tape.watch(x)
        logits = dino(x)
        total = tf.reduce_sum(logits**2)
    result = {
        "out_logits": np.asarray(logits),
        "grad_x_of_sum_squares": np.asarray(tape.gradient(total, x)),
    }
    prefix = "in_franca_"
    places = sorted({int(n.split("_")[4]) for n in arrays if n.startswith(f"{prefix}mlps_0_")})
    widths = [arrays[f"{prefix}mlps_0_{place}_weight"].shape[0] for place in places]
    count = len(meta["levels"])
    largest = arrays[f"{prefix}last_layers_{count - 1}_weight_v"].shape[0]
    head = layers.NestedPrototypeHead(meta["levels"], largest, widths, projected=True)
    head.build(arrays["in_x"].shape)
    for level, one in enumerate(head.heads):
        projection = f"{prefix}matryoshka_projections_{level}"
        head.projections[level].kernel.assign(arrays[f"{projection}_weight"].T)
        head.projections[level].bias.assign(arrays[f"{projection}_bias"])
        linear = [f"{prefix}mlps_{level}_{place}" for place in places]
        last = f"{prefix}last_layers_{level}_weight"
        pairs = [(f"{name}_weight", f"{name}_bias") for name in linear]
        _load(one, arrays, pairs, (f"{last}_v", f"{last}_g"))
    every = zip(range(count), head(x), strict=True)
    return result | {f"out_franca_level_{level}": np.asarray(y) for level, y in every}


CASES = {
    "dino": _dino,
    "dinov2": _dinov2,
    "franca": _franca,
    "ibot": _ibot,
    "mmc": _mmc,
    "prototype_heads": _prototype_heads,
}
