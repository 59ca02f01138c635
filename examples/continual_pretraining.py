# SPDX-License-Identifier: Apache-2.0
"""Pre-trains on one part of the data after the other: an infinite schedule and repeated cosines.

    python examples/continual_pretraining.py --data-dir DIR --output runs/continual

SimCLR learns from images of the first classes (CIFAR-10's animals), then from the others, as many
updates of each. `RepeatedCosine` warms up again for the second part. `InfiniteSchedule` anneals at
the end of each part, but goes on from the state before it, which `AnnealBranch` saved, weights and
moments. Linear probes tell what the second part makes the encoder forget.
Leaves `continual.png` and `continual.json`.

Source: Beyond Cosine Decay, 2025, of which `schedules.InfiniteSchedule` says more.
"""

import argparse
import dataclasses
import itertools
import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import keras
import numpy as np

import keras_ssl
from keras_ssl import backbones, callbacks, data, evaluation, models, optimizers, schedules

RATE = 2e-3
# Of accuracies after the first part and after the second.
COLUMNS = {
    "first classes, then": lambda one, two: one["first"],
    "first classes, now": lambda one, two: two["first"],
    "forgotten": lambda one, two: one["first"] - two["first"],
    "second classes": lambda one, two: two["second"],
    "all": lambda one, two: two["all"],
}


def of_classes(source: data.Source, classes: Sequence[int]) -> data.Source:
    """Images of some classes, held-out ones too."""
    rows = np.isin(source.labels, classes)
    test = None if source.test is None else of_classes(source.test, classes)
    kept = {"images": source.images[rows], "labels": source.labels[rows]}
    return dataclasses.replace(source, test=test, **kept)


def schedule(kind: str, steps: int, part: int):
    """The learning rate of a part, over the updates since the beginning."""
    if kind == "repeated cosine":
        return schedules.RepeatedCosine(RATE, cycle_steps=steps, warmup_steps=steps // 20)
    return schedules.InfiniteSchedule(
        *(RATE, RATE / 4, steps // 20, 3 * steps // 10),
        anneal_start=(part + 1) * (steps - steps // 5),
        anneal_steps=steps // 5,
    )


def learn(kind: str, parts: Sequence[data.Source], options, seed: int) -> Iterator[keras.Model]:
    """The encoder after each part."""
    branch, watch, shape = options.output / "branch.keras", [], parts[0].image_shape
    keras.utils.set_random_seed(seed)
    encoder = backbones.ConvNet(shape, (32, 64, 128, 256), stem_stride=2, seed=seed)
    views = "digits" if shape[-1] == 1 else "simclr"
    model = models.SimCLR(encoder, (256, 128), temperature=0.2, views=views, seed=seed)
    model.compile(optimizers.AdamW(schedule(kind, options.steps, 0), weight_decay=1e-4))
    for index, part in enumerate(parts):
        if kind == "infinite":
            if index:
                # The annealed model is for use; learning goes on from the one before.
                model = keras_ssl.load_model(branch)
            rate = model.optimizer.learning_rate = schedule(kind, options.steps, index)
            watch = [callbacks.AnnealBranch(branch, rate.anneal_start)]
        batches = data.EpochData(part, options.batch_size, seed=seed, drop_remainder=True)
        model.fit(batches.stream(), steps_per_epoch=options.steps, verbose=0, callbacks=watch)
        yield model.standalone_encoder()


def accuracy(encoder: keras.Model, source: data.Source) -> float:
    """Accuracy of a linear probe."""
    images = source.images, source.test.images
    train, test = (evaluation.extract_features(encoder, x, verbose=False) for x in images)
    return evaluation.linear_probe(train, source.labels, test, source.test.labels)


def table(results: dict[str, dict[str, list]]) -> str:
    """Means and standard deviations over seeds, as a Markdown table."""
    lines = [f"| schedule | {' | '.join(COLUMNS)} |", "|---" * (len(COLUMNS) + 1) + "|"]
    for kind, seeds in results.items():
        cells = []
        for column in COLUMNS.values():
            values = [column(*run) for run in seeds.values()]
            spread = f" ± {np.std(values, ddof=1):.3f}" if len(values) > 1 else ""
            cells.append(f"{np.mean(values):z.3f}{spread}")
        lines.append(f"| {kind} | {' | '.join(cells)} |")
    return "\n".join(lines)


def draw(results: dict[str, dict[str, list]], steps: int, path: Path) -> None:
    """Learning rates, and the accuracy of each seed on the first classes."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    for colour, (kind, seeds) in zip(("C0", "C1"), results.items(), strict=True):
        for part in (0, 1):
            start = part * (steps - steps // 5 if kind == "infinite" else steps)
            updates = np.arange(start, start + steps)
            left.plot(updates, np.asarray(schedule(kind, steps, part)(updates)), colour)
        scores = [[after["first"] for after in run] for run in seeds.values()]
        right.plot([1, 2], np.transpose(scores), f"{colour}o-")
        right.plot([], [], f"{colour}o-", label=kind)
    left.set(xlabel="updates", ylabel="learning rate")
    right.set(xlabel="parts seen", ylabel="accuracy on the first classes", xticks=[1, 2])
    right.legend(frameon=False)
    figure.savefig(path, dpi=120)


def main(arguments: Sequence[str] | None = None) -> None:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--data", default="tfds:cifar10", help="digits, tfds:NAME or folder:PATH")
    parser.add_argument("--data-dir", help="folder of prepared data sets")
    parser.add_argument("--images", type=int, default=5_000)
    parser.add_argument("--first", type=int, nargs="+", default=[2, 3, 4, 5, 6, 7], help="classes")
    parser.add_argument("--steps", type=int, default=200, help="of each part")
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--output", type=Path, default=Path("runs/continual"))
    options = parser.parse_args(arguments)
    options.output.mkdir(parents=True, exist_ok=True)

    source = data.load(options.data, data_dir=options.data_dir, limit=options.images)
    others = np.setdiff1d(source.labels, options.first)
    parts = [of_classes(source, classes) for classes in (options.first, others)]
    groups = dict(zip(("first", "second", "all"), (*parts, source), strict=True))
    results = {"infinite": {}, "repeated cosine": {}}
    for seed, kind in itertools.product(options.seeds, results):
        results[kind][str(seed)] = [
            {name: accuracy(encoder, group) for name, group in groups.items()}
            for encoder in learn(kind, parts, options, seed)
        ]
        print(seed, kind, json.dumps(results[kind][str(seed)]), flush=True)
    text = json.dumps({"options": vars(options), "results": results}, indent=1, default=str)
    (options.output / "continual.json").write_text(text + "\n")
    draw(results, options.steps, options.output / "continual.png")
    print(table(results))


if __name__ == "__main__":
    main()
