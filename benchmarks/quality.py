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
import math
import os
import pathlib
import statistics
import time
from collections.abc import Mapping
from typing import Any

# On CPUs without AVX-512 TensorFlow leaves it off, and convolutions take 1.6 times as long.
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")

IMAGES, TEST, BATCH, STEPS = 10_000, 2_000, 256, 550
WIDTH = 32


@dataclasses.dataclass(frozen=True)
class Setting:
    """How a method is trained here.

    Args:
        options: of the model class; heads are named by their widths.
        learning_rate: peak of AdamW's.
        momentum: of the teacher at the start, ramped to 1; None without one.
    """

    options: Mapping[str, Any]
    learning_rate: float = 2e-3
    momentum: float | None = None


SETTINGS = {
    "SimCLR": Setting({"projector": (256, 128), "temperature": 0.2}),
    "BYOL": Setting({"projector": (512, 128), "predictor": (512, 128)}, momentum=0.95),
    "SimSiam": Setting({"projector": (512, 512, 512), "predictor": (128, 512)}),
    "BarlowTwins": Setting({"projector": (512, 512, 512)}),
    "VICReg": Setting({"projector": (512, 512, 512)}),
}


def load(spec: str = "tfds:cifar10", data_dir: str | None = None):
    """The images of the comparison, with 2,000 held-out test images."""
    from keras_ssl import data

    source = data.load(spec, data_dir=data_dir, limit=IMAGES)
    return dataclasses.replace(source, test=source.test.take(TEST))


def encoder_for(image_shape, seed: int):
    """A ResNet of one block a stage and width 32: 256 features.

    The ImageNet stem makes it 12 times cheaper on 32 pixels than the one for small images.
    """
    from keras_ssl import backbones

    blocks = (1, 1, 1, 1)
    return backbones.ResNet(18, image_shape, "imagenet", width=WIDTH, blocks=blocks, seed=seed)


def measure(model, source) -> dict[str, float]:
    """kNN and linear accuracy, and RankMe, of the representation.

    Args:
        model: a model of the package, or an encoder from raw images to vectors.
        source: labelled images with a test part.
    """
    from keras_ssl import evaluation, metrics

    train = evaluation.extract_features(model, source.images, verbose=0)
    test = evaluation.extract_features(model, source.test.images, verbose=0)
    labels = source.labels, source.test.labels
    return {
        "knn": float(evaluation.knn_accuracy(train, labels[0], test, labels[1], verbose=False)),
        "linear": float(evaluation.linear_probe(train, labels[0], test, labels[1])),
        "rank_me": float(metrics.rank_me(test)),
    }


def build(method: str, source, seed: int, steps: int = STEPS, **options):
    """The compiled model of a method, with other options of its class where given."""
    import keras

    from keras_ssl import models, optimizers, schedules

    keras.utils.set_random_seed(seed)
    setting = SETTINGS[method]
    options = {**setting.options, **options}
    if setting.momentum is not None:
        options["momentum"] = schedules.CosineMomentum(setting.momentum, total_steps=steps)
    encoder = encoder_for(source.image_shape, seed)
    model = getattr(models, method)(encoder, seed=seed, **options)
    rate = schedules.WarmupCosine(
        setting.learning_rate, total_steps=steps, warmup_steps=steps // 20
    )
    model.compile(optimizers.AdamW(rate, weight_decay=1e-4))
    return model


def run(method: str, source, seed: int = 0, steps: int = STEPS) -> dict[str, float]:
    """Trains one method and measures it beside its own encoder at the start.

    Args:
        method: a key of `SETTINGS`.
        source: what `load` returned.
        seed: of weights, views and order.
        steps: optimizer steps.

    Returns:
        `measure` of the trained encoder, the same of the random one under `random_…`, `gain` of
        the kNN, and `seconds` of training.
    """
    from keras_ssl import data

    model = build(method, source, seed, steps)
    random = measure(model.standalone_encoder(), source)
    feed = data.EpochData(source, BATCH, seed=seed, drop_remainder=True)
    epochs = math.ceil(steps / feed.steps_per_epoch)
    start = time.perf_counter()
    model.fit(feed.stream(epochs=epochs), epochs=1, steps_per_epoch=steps, verbose=0)
    seconds = time.perf_counter() - start
    found = measure(model.standalone_encoder(), source)
    found |= {f"random_{name}": value for name, value in random.items()}
    return {**found, "gain": found["knn"] - random["knn"], "seconds": seconds}


def table(results: Mapping[str, list[dict[str, float]]]) -> str:
    """Means and standard deviations over seeds as a Markdown table."""
    names = ("knn", "gain", "linear", "rank_me", "seconds")
    head = ("kNN", "kNN gain", "linear", "RankMe", "seconds")
    digits = {"rank_me": 1, "seconds": 0}
    every = [row for rows in results.values() for row in rows]
    random = [
        _spread([row[f"random_{name}"] for row in every], digits.get(name, 3))
        for name in ("knn", "linear", "rank_me")
    ]
    lines = [f"| method | {' | '.join(head)} |", "|---" * (len(head) + 1) + "|"]
    lines.append(f"| random encoder | {random[0]} | | {random[1]} | {random[2]} | |")
    for method, rows in results.items():
        cells = [_spread([row[n] for row in rows], digits.get(n, 3)) for n in names]
        lines.append(f"| {method} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _spread(values, digits: int) -> str:
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
    parser.add_argument("--write", help="Markdown file for the table")
    options = parser.parse_args()
    source = load(options.data, options.data_dir)
    results: dict[str, list[dict[str, float]]] = {}
    for method in options.methods:
        for seed in options.seeds:
            found = run(method, source, seed, options.steps)
            results.setdefault(method, []).append(found)
            print(method, seed, {k: round(v, 4) for k, v in found.items()}, flush=True)
    text = table(results)
    print(text)
    if options.write:
        seeds = ", ".join(str(seed) for seed in options.seeds)
        pathlib.Path(options.write).write_text(
            f"# Quality\n\nMade by `python benchmarks/quality.py --seeds "
            f"{' '.join(str(s) for s in options.seeds)}`: CIFAR-10, {len(source.images):,} images "
            f"without labels, a ResNet of width {WIDTH} with one block a stage, batch {BATCH}, "
            f"{options.steps} steps, seeds {seeds}; mean ± standard deviation over the seeds. "
            f"kNN and linear accuracy on {len(source.test.images):,} test images.\n\n{text}\n"
        )


if __name__ == "__main__":
    main()
