# SPDX-License-Identifier: Apache-2.0
"""One adapter per reference vector: from its inputs and settings to outputs of the public API.

An adapter reshapes, loads and calls; the arithmetic is the library's. Every number comes from the
file, so that files of the same names with other shapes and settings run as well.
"""

from __future__ import annotations

import re
from collections.abc import Callable

import keras
import numpy as np
import tensorflow as tf

from keras_ssl import evaluation, layers, losses, metrics, optimizers, schedules


def _numbered(arrays: dict, prefix: str) -> list[str]:
    """Names `prefix0`, `prefix1`, ... in the order of their numbers."""
    found = [re.fullmatch(re.escape(prefix) + r"(\d+)", name) for name in arrays]
    return [m.group() for m in sorted((m for m in found if m), key=lambda m: int(m.group(1)))]


def _run(arrays: dict, meta: dict, outputs: dict[str, Callable]) -> dict:
    """Evaluates functions of the float32 inputs, and the gradients that `meta` names."""
    inputs = {k: tf.constant(v, "float32") for k, v in arrays.items() if v.dtype.kind == "f"}
    gradients = meta.get("grad_of")
    if gradients is None:
        gradients = {f"grad_{name.removeprefix('in_')}": {"of": "out_loss"} for name in inputs}
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(inputs)
        values = {name: function(inputs) for name, function in outputs.items()}
    result = {name: np.asarray(value) for name, value in values.items()}
    for name, spec in gradients.items():
        source = spec.get("wrt", "in_" + name.removeprefix("grad_"))
        result[name] = np.asarray(tape.gradient(values[spec["of"]], inputs[source]))
    return result


def _simclr_nt_xent(arrays: dict, meta: dict) -> dict:
    names = _numbered(arrays, "in_z")

    def output(options):
        inside = options.get("positives") == "log of the sum"
        scale = options.get("scale", 1.0)
        return lambda x: (
            scale
            * losses.nt_xent(
                [x[name] for name in names[: options["views"]]],
                temperature=meta["temperature"],
                positives="inside" if inside else "outside",
            )
        )

    return _run(arrays, meta, {k: output(v) for k, v in meta["options"].items()})


def _byol_simsiam(arrays: dict, meta: dict) -> dict:
    predictions, targets = _numbered(arrays, "in_p"), _numbered(arrays, "in_z")

    def output(options):
        loss = {"2 - 2 cos": losses.byol, "-cos": losses.simsiam}[options["loss"]]
        pairs = [direction.split(",") for direction in options["directions"]]
        directions = [
            (predictions.index("in_" + p.strip()), targets.index("in_" + z.strip()))
            for p, z in pairs
        ]
        return lambda x: loss(
            [x[p] for p in predictions], [x[z] for z in targets], directions=directions
        )

    result = _run(arrays, meta, {k: output(v) for k, v in meta["options"].items()})
    first = targets[0]
    result["out_z_std_" + first.removeprefix("in_")] = np.asarray(
        metrics.feature_std(arrays[first])
    )
    return result


def _barlow_twins(arrays: dict, meta: dict) -> dict:
    first, second = _numbered(arrays, "in_z")

    def output(options):
        return lambda x: losses.barlow_twins(
            x[first],
            x[second],
            lambd=meta["lambd"],
            variance=options["variance"],
            epsilon=options["eps"],
            scale=options["scale"],
        )

    return _run(arrays, meta, {k: output(v) for k, v in meta["options"].items()})


def _vicreg(arrays: dict, meta: dict) -> dict:
    names = _numbered(arrays, "in_z")

    def terms(x, **weights):
        return losses.vicreg([x[name] for name in names], epsilon=meta["eps"], **weights)

    def total(options):
        return lambda x: sum(
            terms(
                x,
                invariance=meta["sim_coeff"],
                variance=meta["std_coeff"],
                covariance=meta["cov_coeff"],
                variance_scale=options["variance_scale"],
            ).values()
        )

    def unweighted(term):
        return lambda x: terms(x, invariance=1.0, variance=1.0, covariance=1.0)[term]

    outputs = {name: total(options) for name, options in meta["options"].items()}
    parts = ("invariance", "variance", "covariance")
    return _run(arrays, meta, outputs | {f"out_{part}": unweighted(part) for part in parts})


def _lars_run(start: list, gradients: list, rates: list, **options) -> list[list[np.ndarray]]:
    """The parameters after every step."""
    optimizer = optimizers.LARS(rates[0], **options)
    variables = [keras.Variable(p, dtype="float32") for p in start]
    history = []
    for rate, step in zip(rates, gradients, strict=True):
        optimizer.learning_rate = rate
        tensors = [tf.constant(g, "float32") for g in step]
        optimizer.apply_gradients(list(zip(tensors, variables, strict=True)))
        history.append([keras.ops.convert_to_numpy(v) for v in variables])
    return history


def _lars(arrays: dict, meta: dict) -> dict:
    gradients = list(zip(arrays["in_grad_weight"], arrays["in_grad_bias"], strict=True))
    result = {}
    for name, options in meta["options"].items():
        history = _lars_run(
            [arrays["in_weight"], arrays["in_bias"]],
            gradients,
            [meta["lr"]] * len(gradients),
            momentum=meta["momentum"],
            weight_decay=meta["weight_decay"],
            trust_coefficient=meta["trust_coefficient"],
            exclude_rank=1 if meta["bias_excluded"] else -1,
            ratio="gradient" if "|g + wd w|" in options["trust_ratio"] else "separate",
            clip=options["clip_lr"],
            epsilon=options["eps"],
        )
        for position, kind in enumerate(("out_weight_", "out_bias_")):
            key = kind + name.removeprefix("out_weight_")
            result[key] = np.stack([step[position] for step in history])
    return result


def _lars_steps(arrays: dict, meta: dict) -> dict:
    parameters = _numbered(arrays, "in_p")
    gradients = [
        [arrays[f"in_g{p.removeprefix('in_p')}_step{step}"] for p in parameters]
        for step in range(len(meta["lrs"]))
    ]
    ratios = {"decayed gradient": "gradient", "momentum-averaged update": "update"}
    runs, result = {}, {}
    for name, options in meta["options"].items():
        settings = {
            "momentum": meta["momentum"],
            "weight_decay": meta["weight_decay"],
            "trust_coefficient": meta["trust"],
            "lr_in_momentum": options["lr_inside_momentum"],
            "exclude_rank": 1 if options["exclude_1d"] else -1,
            "nesterov": options.get("nesterov", False),
            "ratio": ratios[options["ratio_on"]],
        }
        key = tuple(settings.items())
        if key not in runs:
            start = [arrays[p] for p in parameters]
            runs[key] = _lars_run(start, gradients, meta["lrs"], **settings)
        result[name] = runs[key][options["after_step"]][options["parameter"]]
    return result


def _schedules(arrays: dict, meta: dict) -> dict:
    def values(schedule, steps):
        return np.asarray(schedule(np.arange(steps)))

    barlow, dino, moco = meta["barlow"], meta["dino"], meta["mocov3"]
    result = {}
    steps = barlow["epochs"] * barlow["steps_per_epoch"]
    for kind in ("weights", "biases"):
        base = schedules.scale_by_batch(
            barlow[f"rate_{kind}"], barlow["batch_size"], reference=barlow["reference_batch"]
        )
        schedule = schedules.WarmupCosine(
            base,
            steps,
            warmup_steps=barlow["warmup_epochs"] * barlow["steps_per_epoch"],
            end=base * barlow["end_factor"],
        )
        result[f"out_barlow_lr_{kind}"] = values(schedule, steps)

    steps = dino["epochs"] * dino["steps_per_epoch"]
    names = {"lr": "lr", "wd": "weight_decay", "momentum": "teacher_momentum"}
    for key, name in names.items():
        warm = key in dino["warmup_epochs_of"]
        epochs = dino["warmup_epochs"] if warm else dino.get(f"{key}_warmup_epochs", 0)
        schedule = schedules.WarmupCosine(
            dino[key][0],
            steps,
            warmup_steps=epochs * dino["steps_per_epoch"],
            start=dino["warmup_start"],
            end=dino[key][1],
            peak_twice=True,
        )
        result[f"out_dino_{name}"] = values(schedule, steps)

    steps = moco["epochs"] * moco["steps_per_epoch"]
    momentum = schedules.CosineMomentum(moco["m"], steps, end=moco["final"])
    result["out_mocov3_momentum"] = values(momentum, steps)
    solo = meta["sololearn"]
    tau = schedules.CosineMomentum(solo["base_tau"], solo["max_steps"], end=solo["final_tau"])
    result["out_sololearn_tau"] = values(tau, solo["max_steps"])
    return result


def _eval_rankme(arrays: dict, meta: dict) -> dict:
    kinds = {"singular values": "singular", "eigenvalues of the covariance": "covariance"}

    def rank(name, options):
        return np.asarray(
            metrics.rank_me(
                arrays[name],
                epsilon=options["eps"],
                center=options["center"],
                values=kinds[options["values"]],
            )
        )

    result = {name: rank("in_Z", options) for name, options in meta["options"].items()}
    paper = {"eps": meta["eps"], "center": False, "values": "singular values"}
    for name in set(arrays) - {"in_Z"}:
        result["out_" + name.removeprefix("in_")] = rank(name, paper)
    return result


def _eval_align_uniform(arrays: dict, meta: dict) -> dict:
    def output(options):
        if "alpha" in options:
            return lambda x: metrics.alignment(x["in_x"], x["in_y"], alpha=options["alpha"])
        return lambda x: metrics.uniformity(x["in_x"], t=options["t"])

    return _run(arrays, meta, {k: output(v) for k, v in meta["options"].items()})


def _eval_knn(arrays: dict, meta: dict) -> dict:
    result = {}
    for name, options in meta["options"].items():
        settings = {
            "k": options["k"],
            "temperature": options["temperature"],
            "num_classes": meta["num_classes"],
        }
        bank = arrays["in_train"], arrays["in_ytr"]
        top = re.match(r"out_top(\d+)_", name)
        if top is None:
            result[name] = np.asarray(evaluation.knn_scores(*bank, arrays["in_test"], **settings))
        else:
            share = evaluation.knn_accuracy(
                *bank, arrays["in_test"], arrays["in_yte"], top=int(top.group(1)), **settings
            )
            result[name] = np.asarray(100.0 * share)
    return result


def _dcl(arrays: dict, meta: dict) -> dict:
    names = _numbered(arrays, "in_z")

    def output(options):
        shared = {"temperature": meta["temperature"], "symmetric": options["symmetric"]}
        if not options["weighted"]:
            return lambda x: losses.dcl([x[name] for name in names], **shared)
        detach = options["detach_weight"]
        return lambda x: losses.dclw(
            [x[name] for name in names], sigma=meta["sigma"], detach_weight=detach, **shared
        )

    return _run(arrays, meta, {k: output(v) for k, v in meta["options"].items()})


def _sup_con(arrays: dict, meta: dict) -> dict:
    views = range(arrays["in_features"].shape[1])

    def output(options):
        inside = options["positives"] == "log of the sum"
        return lambda x: losses.sup_con(
            [x["in_features"][:, view] for view in views],
            arrays["in_labels"] if options["labels"] else None,
            temperature=meta["temperature"],
            base_temperature=options["base_temperature"],
            positives="inside" if inside else "outside",
        )

    return _run(arrays, meta, {k: output(v) for k, v in meta["options"].items()})


def _cacr(arrays: dict, meta: dict) -> dict:
    views, queries = range(len(arrays["in_z"])), _numbered(arrays, "in_q")

    def output(options):
        if options["form"] == "momentum":
            return lambda x: losses.cacr_momentum(
                [x[query] for query in queries],
                x["in_k"],
                temperature=meta["moco_T"],
                cost=options["cost"],
            )
        if options["scale"] == "alpha":
            return lambda x: losses.cacr_attraction(
                [x["in_z"][view] for view in views],
                alpha=meta["alpha"],
                temperature=meta["tau_pos"],
            )
        return lambda x: losses.cacr_repulsion(
            [x["in_z"][view] for view in views], beta=meta["beta"], temperature=meta["tau_neg"]
        )

    return _run(arrays, meta, {k: output(v) for k, v in meta["options"].items()})


def _moco_v2(arrays: dict, meta: dict) -> dict:
    def loss(x):
        keys = tf.stop_gradient(x["in_k"])
        return losses.info_nce(
            x["in_q"], keys, queue=x["in_queue"], temperature=meta["temperature"]
        )

    names = ("in_q", "in_k", "in_queue")
    meta = {**meta, "grad_of": {"grad_q": {"of": "out_loss"}}}
    result = _run({name: arrays[name] for name in names}, meta, {"out_loss": loss})
    queue = layers.Queue(*arrays["in_queue"].shape)
    queue.vectors.assign(arrays["in_queue"])
    vectors, pointers = [], []
    for batch in arrays["in_enqueue_batches"]:
        queue.enqueue(tf.constant(batch, "float32"))
        vectors.append(np.asarray(queue.vectors))
        pointers.append(int(queue.pointer))
    return result | {
        "out_queue_after_each": np.stack(vectors),
        "out_ptr_after_each": np.asarray(pointers),
    }


def _moco_v3(arrays: dict, meta: dict) -> dict:
    queries, keys = _numbered(arrays, "in_q"), _numbered(arrays, "in_k")

    def loss(x):
        return losses.moco_v3(
            [x[name] for name in queries],
            [x[name] for name in keys],
            temperature=meta["temperature"],
        )

    gradients = {f"grad_{name.removeprefix('in_')}": {"of": "out_loss"} for name in queries}
    return _run(arrays, {**meta, "grad_of": gradients}, {"out_loss": loss})


def _nnclr(arrays: dict, meta: dict) -> dict:
    projections, predictions = _numbered(arrays, "in_z"), _numbered(arrays, "in_p")
    support = layers.Queue(*arrays["in_queue"].shape)
    support.vectors.assign(arrays["in_queue"])

    def output(options):
        return lambda x: losses.nnclr(
            [support(x[name]) for name in projections],
            [x[name] for name in predictions],
            temperature=meta["temperature"],
            negatives=options["negatives"],
        )

    result = _run(arrays, meta, {k: output(v) for k, v in meta["options"].items()})
    for name in projections:
        index = np.asarray(support.nearest(arrays[name])).astype("int64")
        result["out_nn_index" + name.removeprefix("in_z")] = index
    return result


CASES: dict[str, Callable[[dict, dict], dict]] = {
    "barlow_twins": _barlow_twins,
    "byol_simsiam": _byol_simsiam,
    "cacr": _cacr,
    "dcl": _dcl,
    "eval_align_uniform": _eval_align_uniform,
    "eval_knn": _eval_knn,
    "eval_rankme": _eval_rankme,
    "lars": _lars,
    "lars_steps": _lars_steps,
    "moco_v2": _moco_v2,
    "moco_v3": _moco_v3,
    "nnclr": _nnclr,
    "schedules": _schedules,
    "simclr_nt_xent": _simclr_nt_xent,
    "supcon": _sup_con,
    "vicreg": _vicreg,
}
