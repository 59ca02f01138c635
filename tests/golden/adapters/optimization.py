# SPDX-License-Identifier: Apache-2.0
"""Optimizers and schedules."""

from __future__ import annotations

import keras
import numpy as np
import tensorflow as tf
from adapters.common import numbered

from keras_ssl import optimizers, schedules


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
    parameters = numbered(arrays, "in_p")
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


def _schedule(kind: dict) -> keras.optimizers.schedules.LearningRateSchedule:
    """The schedule that an entry of `sched_values` describes."""
    clamp = kind.get("clamp_after_total", True)
    names = {"start": "start", "final": "end", "peak": "base", "total_steps": "total_steps"}
    given = {names[name]: value for name, value in kind.items() if name in names}
    warm = kind.get("warmup_steps", 0)
    match kind["kind"]:
        case "warmup_cosine":
            # One counts the warm-up's last step to the cosine.
            given["total_steps"] -= "cosine_denominator" in kind
            return schedules.WarmupCosine(**given, warmup_steps=warm, clamp=clamp)
        case "cosine":
            return schedules.CosineRamp(**given, clamp=False)
        case "linear":
            steps = kind.get("total_steps") or (
                kind["iterations_per_epoch"] * kind["epochs"] * kind["ipe_scale"]
            )
            return schedules.LinearWarmup(kind["start"], kind["final"], steps)
        case "warmup_stable_decay":
            decay = kind["anneal_steps"]
            return schedules.WarmupStableDecay(**given, warmup_steps=warm, decay_steps=decay)
        case "infinite":
            return _infinite(kind)
        case "warmup_cosine_epochs":
            given |= {"total_steps": kind["epochs"], "warmup_steps": kind["warmup_epochs"]}
            return schedules.WarmupCosine(**given)
        case "dino_cosine":
            epoch = kind["steps_per_epoch"]
            given |= {"base": kind["base"], "total_steps": kind["epochs"] * epoch}
            warm = kind["warmup_epochs"] * epoch
            return schedules.WarmupCosine(**given, warmup_steps=warm, peak_twice=True)
        case "byol_ema":
            return schedules.CosineMomentum(kind["base"], kind["total_steps"])
        case "barlow":
            epoch = kind["steps_per_epoch"]
            base = schedules.scale_by_batch(
                kind["rate_weights"], kind["batch_size"], reference=kind["reference_batch"]
            )
            return schedules.WarmupCosine(
                base,
                kind["epochs"] * epoch,
                warmup_steps=kind["warmup_epochs"] * epoch,
                end=base * kind["end_factor"],
            )
        case "simclr":
            rule, reference = {"linear": ("linear", 256), "sqrt": ("sqrt", 1)}[kind["scaling"]]
            base = schedules.scale_by_batch(
                kind["base"], kind["batch_size"], reference=reference, rule=rule
            )
            return schedules.WarmupCosine(base, kind["total_steps"], warmup_steps=warm)
        case "repeated_cosine":
            given["cycle_steps"] = kind["steps_per_task"]
            return schedules.RepeatedCosine(**given, warmup_steps=warm)
    raise ValueError(f"Unknown kind of schedule {kind['kind']!r}.")


def _infinite(kind: dict) -> schedules.InfiniteSchedule:
    """The first task has all phases, others begin with the constant."""
    total, first = kind["total_steps"], kind["task"] == 0
    style = kind["decay_style"].removesuffix("_infinite")
    names = {"cosine_cooldown": "cosine", "constant": "linear", "inverse_sqrt": "inverse_sqrt"}
    anneal = round(kind["constant_end"] * total)
    return schedules.InfiniteSchedule(
        kind["peak"],
        kind["constant"],
        warmup_steps=round(kind["warmup_end"] * total) if first else 0,
        cooldown_end=round(kind["cooldown_end"] * total) if first else 0,
        anneal_start=anneal,
        anneal_steps=total - anneal,
        end=kind["final"],
        cooldown=names[style],
    )


def _sched_values(arrays: dict, meta: dict) -> dict:
    result = {}
    for name, kind in meta["schedules"].items():
        schedule, first = _schedule(kind), kind.get("first_step", 0)
        count = kind.get("count") or kind["epochs"] * kind.get("steps_per_epoch", 1)
        steps = arrays[kind["at"]] if "at" in kind else np.arange(first, first + count)
        result[name] = np.asarray(schedule(steps))
        if "formula_until_step" in kind:
            # This one turns back a little before it stays at the end.
            turning = np.asarray(_schedule({**kind, "clamp_after_total": False})(steps))
            result[name] = np.where(steps <= kind["formula_until_step"], turning, result[name])
    return result


CASES = {
    "lars": _lars,
    "lars_steps": _lars_steps,
    "sched_values": _sched_values,
    "schedules": _schedules,
}
