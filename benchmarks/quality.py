# SPDX-License-Identifier: Apache-2.0
"""What every objective learns on CIFAR-10 in the same number of steps, beside a random encoder.

    python benchmarks/quality.py --data tfds:cifar10 --data-dir DIR [--methods SimCLR BYOL]
        [--seeds 0 1 2] [--steps 550] [--write docs/benchmarks/quality.md]

All methods get the same 10,000 images, the same ResNet of width 32 with four blocks, batch 256 and
AdamW with a cosine. What differs is what the method is: views, heads, loss. These are small
settings for two CPU cores and say what learns at all, not which method is best.
"""

import argparse
import dataclasses
import json
import math
import os
import pathlib
import statistics
import textwrap
import time
from collections.abc import Iterable, Mapping
from typing import Any

# On CPUs without AVX-512 TensorFlow leaves it off, and convolutions take longer.
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")

IMAGES, TEST, BATCH, STEPS = 10_000, 2_000, 256, 550
WIDTH = 32


@dataclasses.dataclass(frozen=True)
class Setting:
    """How a method is trained here.

    Args:
        options: of the model class; heads are named by their widths.
        method: the class, where several settings have one.
        transformer: whether the encoder is the small vision transformer.
        learning_rate: peak of AdamW's.
        momentum: of the teacher at the start, ramped to 1; None without one.
    """

    options: Mapping[str, Any]
    learning_rate: float = 2e-3
    momentum: float | None = None
    method: str | None = None
    transformer: bool = False


SETTINGS = {
    "SimCLR": Setting({"projector": (256, 128), "temperature": 0.2}),
    "BYOL": Setting({"projector": (512, 128), "predictor": (512, 128)}, momentum=0.95),
    "SimSiam": Setting({"projector": (512, 512, 512), "predictor": (128, 512)}),
    "BarlowTwins": Setting({"projector": (512, 512, 512)}),
    "VICReg": Setting({"projector": (512, 512, 512)}),
    "MoCoV2": Setting({"projector": (256, 128), "queue_size": 4096, "momentum": 0.99}),
    "MoCoV3": Setting(
        {"projector": (512, 128), "predictor": (512, 128), "temperature": 0.2}, momentum=0.95
    ),
    "DCL": Setting({"projector": (256, 128), "temperature": 0.2}),
    "DCLW": Setting({"projector": (256, 128), "temperature": 0.2}),
    "NNCLR": Setting(
        {
            "projector": (512, 512, 128),
            "predictor": (512, 128),
            "queue_size": 4096,
            "temperature": 0.2,
        }
    ),
    "SupCon": Setting({"projector": (256, 128)}),
    "CACR": Setting({"projector": (256, 128)}),
    "DirectPred": Setting({"projector": (512, 128)}, momentum=0.95),
    "MixedBarlowTwins": Setting(
        {"projector": (512, 512, 512), "lambd": 0.0051, "normalize": False}
    ),
    "LeJEPA": Setting(
        {"projector": (512, 512, 64), "trade_off": 0.02, "slices": 256, "centre": "all"}
    ),
    "SIE": Setting({"projector": (512, 512, 512), "invariance": 25.0, "variance": 25.0}),
    "GSimCLR": Setting({"projector": (256, 128), "temperature": 0.2, "autoencoder_epochs": 3}),
    "Hydra": Setting({"classes": 10, "projector": (512, 128)}),
    "SLA": Setting({"classes": 10}),
    # With SwAV's own views, blurred and of strong colours, it gained half as much in 150 steps.
    "SwAV": Setting(
        {
            "projector": (512, 128),
            "prototypes": 300,
            "epsilon": 0.03,
            "freeze_steps": 20,
            "views": "simclr",
        }
    ),
    "DeepClusterV2": Setting(
        {
            "samples": IMAGES,
            "projector": (512, 128),
            "prototypes": (300, 300, 300),
            "views": "simclr",
        }
    ),
    "DINO": Setting(
        {
            "projector": (512, 64),
            "prototypes": 1024,
            "head_batch_norm": True,
            "freeze_steps": 39,
            "views": "simclr",
        },
        learning_rate=4e-3,
        momentum=0.99,
    ),
    # The same encoder for all of these, so that they can be compared.
    "SimCLR-ViT": Setting(
        {"projector": (256, 128), "temperature": 0.2}, 1e-3, method="SimCLR", transformer=True
    ),
    # At the class's temperature, or with one hidden layer, features and prototypes in use became
    # fewer and the gain was 0.03; with one hidden layer at this temperature it was 0.06.
    "IBOT": Setting(
        {
            "projector": (512, 512, 64),
            "prototypes": 1024,
            "head_batch_norm": True,
            "teacher_temperature": 0.02,
            "patch_temperature": 0.02,
            "freeze_steps": 39,
            "views": "simclr",
        },
        1e-3,
        momentum=0.99,
        transformer=True,
    ),
    # In 150 steps these gained 0.02; equal weights at a rate of 1e-3 gained 0.002, class tokens
    # alone 0.012.
    "MMC": Setting(
        {
            "projector": (512, 128),
            "predictor": (512, 128),
            "patch_projector": (512, 64),
            "prototypes": 1024,
            "freeze_steps": 39,
            "term_weights": (1.0, 0.2, 3.0),
            "views": "simclr",
        },
        3e-3,
        momentum=0.95,
        transformer=True,
    ),
    # With a temperature of 0.04 it gained 0.058.
    "Franca": Setting(
        {
            "projector": (512, 64),
            "prototypes": 256,
            "normalize": True,
            "teacher_temperature": 0.02,
            "freeze_steps": 10,
            "views": "simclr",
        },
        2e-3,
        momentum=0.95,
        transformer=True,
    ),
}


def load(spec: str = "tfds:cifar10", data_dir: str | None = None, images: int = IMAGES):
    """The images of the comparison, with 2,000 held-out test images."""
    from keras_ssl import data

    source = data.load(spec, data_dir=data_dir, limit=images)
    return dataclasses.replace(source, test=source.test.take(TEST))


def encoder_for(image_shape, seed: int, transformer: bool = False):
    """A ResNet of one block a stage and width 32: 256 features; or a small vision transformer.

    The ImageNet stem makes it much cheaper on 32 pixels than the one for small images. The
    transformer has 16 patches, four blocks and 96 features.
    """
    from keras_ssl import backbones

    if transformer:
        sizes = {"width": 96, "depth": 4, "heads": 3}
        return backbones.VisionTransformer("tiny", image_shape, patch=8, **sizes, seed=seed)
    blocks = (1, 1, 1, 1)
    return backbones.ResNet(18, image_shape, "imagenet", width=WIDTH, blocks=blocks, seed=seed)


def measure(model, source, probe: bool = True) -> dict[str, float]:
    """kNN and linear accuracy, and RankMe, of the representation.

    Args:
        model: a model of the package, or an encoder from raw images to vectors.
        source: labelled images with a test part.
        probe: whether linear accuracy is wanted, which takes as long as thirty steps.
    """
    from keras_ssl import evaluation, metrics
    from keras_ssl.run import report

    train, test = report.features_of(model, source).values()
    found = {"knn": knn((train, test), source), "rank_me": float(metrics.rank_me(test))}
    if probe:
        labels = source.labels, source.test.labels
        found["linear"] = float(evaluation.linear_probe(train, labels[0], test, labels[1]))
    return found


def knn(features, source) -> float:
    """kNN accuracy of the features of the training and of the test images."""
    from keras_ssl import evaluation

    train, test = features
    labels = source.labels, source.test.labels
    return float(evaluation.knn_accuracy(train, labels[0], test, labels[1], verbose=False))


def build(method: str, source, seed: int, steps: int = STEPS, **options):
    """The compiled model of a method, with other options of its class where given."""
    import keras

    from keras_ssl import models, optimizers, schedules

    keras.utils.set_random_seed(seed)
    setting = SETTINGS[method]
    options = {**setting.options, **options}
    if "samples" in options:
        options["samples"] = len(source.images)
    if setting.momentum is not None:
        options["momentum"] = schedules.CosineMomentum(setting.momentum, total_steps=steps)
    encoder = encoder_for(source.image_shape, seed, setting.transformer)
    model = getattr(models, setting.method or method)(encoder, seed=seed, **options)
    rate = schedules.WarmupCosine(
        setting.learning_rate, total_steps=steps, warmup_steps=steps // 20
    )
    model.compile(optimizers.AdamW(rate, weight_decay=1e-4))
    return model


def train(model, source, seed: int, steps: int) -> None:
    """Trains a model for a number of steps."""
    from keras_ssl import data

    if model.guides_batches:
        feed = model.guided_feed(source, model.clusters_of(source.images, BATCH, 0), BATCH, seed)
    else:
        beside = {"labels": model.uses_labels, "indices": model.uses_indices}
        feed = data.EpochData(source, BATCH, seed=seed, drop_remainder=True, **beside)
    if hasattr(model, "fill_memory"):
        model.fill_memory(source, BATCH)
    epochs = math.ceil(steps / feed.steps_per_epoch)
    model.fit(feed.stream(epochs=epochs), epochs=1, steps_per_epoch=steps, verbose=0)


def run(
    method: str, source, seed: int = 0, steps: int = STEPS, probe: bool = True
) -> dict[str, float]:
    """Trains one method and measures it beside its own encoder at the start.

    Args:
        method: a key of `SETTINGS`.
        source: what `load` returned.
        seed: of weights, views and order.
        steps: optimizer steps.
        probe: whether linear accuracy is measured.

    Returns:
        `measure` of the trained encoder, the same of the random one under `random_…`, `gain` of
        the kNN, and `seconds` of training.
    """
    model = build(method, source, seed, steps)
    random = measure(model.standalone_encoder(), source, probe)
    start = time.perf_counter()
    train(model, source, seed, steps)
    seconds = time.perf_counter() - start
    found = measure(model.standalone_encoder(), source, probe)
    found |= {f"random_{name}": value for name, value in random.items()}
    return {**found, "gain": found["knn"] - random["knn"], "seconds": seconds}


def page(results: Mapping[str, Mapping[str, dict[str, float]]], steps: int) -> str:
    """The page of the documentation."""
    text = (
        "What each method learns in the same number of steps, by `python benchmarks/quality.py "
        "--data-dir DIR --write docs/benchmarks/quality.md` (`--methods`, `--seeds` add rows): "
        f"CIFAR-10, {IMAGES:,} images without labels (SupCon, Hydra and SLA see them), a ResNet of "
        f"width {WIDTH} with one block a stage and the ImageNet stem, batch {BATCH}, {steps} steps "
        f"of AdamW; kNN and linear accuracy on {TEST:,} test images, RankMe of 256 features. The "
        "gain is over the random encoder with the method's own normalisation of images. Mean "
        "± standard deviation where there are several seeds. Seconds are those of training on two "
        "CPU cores that did other work besides. These settings are small; they say that a method "
        "learns, not which is best."
    )
    transformers = (
        "The same with a small vision transformer (16 patches, four blocks, 96 features): its "
        "random encoder is another one, so gains compare within a table."
    )
    parts = ["# Quality", "\n".join(textwrap.wrap(text, 100))]
    for transformer in (False, True):
        chosen = {m: rows for m, rows in results.items() if SETTINGS[m].transformer == transformer}
        if chosen and transformer:
            parts.append("\n".join(textwrap.wrap(transformers, 100)))
        if chosen:
            parts.append(table(chosen))
    return "\n\n".join([*parts, "## Settings", settings_table(results)]) + "\n"


def settings_table(methods: Iterable[str]) -> str:
    """What is set for each method besides the defaults of its class, as a Markdown table."""
    lines = ["| method | peak learning rate | options |", "|---|---|---|"]
    for method in methods:
        setting = SETTINGS[method]
        options = dict(setting.options)
        if setting.momentum is not None:
            options["momentum"] = f"{setting.momentum} to 1, cosine"
        cells = ", ".join(f"`{name}` {value}" for name, value in options.items())
        lines.append(f"| {method} | {setting.learning_rate} | {cells} |")
    return "\n".join(lines)


def table(results: Mapping[str, Mapping[str, dict[str, float]]]) -> str:
    """Means and standard deviations over seeds as a Markdown table, from {method: {seed: …}}."""
    heads = {"knn": "kNN", "gain": "kNN gain", "linear": "linear"}
    heads |= {"rank_me": "RankMe", "seconds": "seconds"}
    rows = [row for seeds in results.values() for row in seeds.values()]
    names = [name for name in heads if all(name in row for row in rows)]
    digits = {"rank_me": 1, "seconds": 0}
    # The encoder at the start depends on the seed alone; methods may normalise images otherwise.
    starts = {seed: row for rows in reversed(results.values()) for seed, row in rows.items()}
    random = [
        spread([row[f"random_{name}"] for row in starts.values()], digits.get(name, 3))
        if name not in ("gain", "seconds")
        else ""
        for name in names
    ]
    head = ["seeds", *(heads[name] for name in names)]
    lines = [f"| method | {' | '.join(head)} |", "|---" * (len(head) + 1) + "|"]
    lines.append("| random encoder | |" + "|".join(f" {c} " if c else " " for c in random) + "|")
    for method, rows in results.items():
        cells = [spread([row[n] for row in rows.values()], digits.get(n, 3)) for n in names]
        lines.append(f"| {method} | {', '.join(rows)} | {' | '.join(cells)} |")
    return "\n".join(lines)


def spread(values, digits: int) -> str:
    """Mean, with the standard deviation where there are several."""
    mean = f"{statistics.mean(values):.{digits}f}"
    return f"{mean} ± {statistics.stdev(values):.{digits}f}" if len(values) > 1 else mean


def main() -> None:
    """Runs what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", default="tfds:cifar10")
    parser.add_argument("--data-dir")
    parser.add_argument("--methods", nargs="+", default=list(SETTINGS), choices=list(SETTINGS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--images", type=int, default=IMAGES, help="training images")
    parser.add_argument("--no-probe", action="store_true", help="leaves linear accuracy out")
    parser.add_argument("--write", help="Markdown file for the table")
    options = parser.parse_args()
    source = load(options.data, options.data_dir, options.images)
    stored = pathlib.Path(options.write).with_suffix(".json") if options.write else None
    results = json.loads(stored.read_text()) if stored and stored.exists() else {}
    for method in options.methods:
        for seed in options.seeds:
            found = run(method, source, seed, options.steps, not options.no_probe)
            found = {name: round(value, 4) for name, value in found.items()}
            results.setdefault(method, {})[str(seed)] = found
            print(method, seed, json.dumps(found), flush=True)
            if stored is not None:
                stored.write_text(json.dumps(results, indent=1) + "\n")
                pathlib.Path(options.write).write_text(page(results, options.steps))
    print(table(results))


if __name__ == "__main__":
    main()
