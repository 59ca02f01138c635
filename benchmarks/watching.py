# SPDX-License-Identifier: Apache-2.0
"""What it costs to watch a run: monitor and online kNN, once an epoch, beside the training.

    python benchmarks/watching.py --data-dir DIR [--repeats 5] [--write docs/benchmarks/watching.md]

SimCLR on all of CIFAR-10 in the setting of `quality.py`. Blocks of training steps and measurements
by turns, in one process, so that other load meets them alike; medians, after a warm-up. kNN has a
bank of 5,000 and 1,000 to classify, the monitor 256 images.
"""

import argparse
import pathlib
import statistics
import textwrap
import time

import quality

BANK, TEST, HELD, STEPS = 5000, 1000, 256, 20


def seconds(function, *arguments) -> float:
    """How long a call takes."""
    begin = time.perf_counter()
    function(*arguments)
    return time.perf_counter() - begin


def measured(data_dir: str | None, repeats: int) -> dict[str, float]:
    """Medians of seconds.

    Args:
        data_dir: where CIFAR-10 is prepared.
        repeats: turns after the warm-up.

    Returns:
        `epoch` (of training alone), `knn` and `monitor`, seconds each, and `steps` of an epoch.
    """
    from keras_ssl import callbacks, data

    source = data.load("tfds:cifar10", data_dir=data_dir)
    images, labels, test = source.images, source.labels, source.test
    model = quality.build("SimCLR", source, 0, 1000)
    feed = data.EpochData(source, quality.BATCH, seed=0, drop_remainder=True)
    batches = iter(feed.stream())
    kept = [next(batches) for _ in range(STEPS)]
    watch = {
        "knn": callbacks.OnlineKNN(
            (images[:BANK], labels[:BANK]), (test.images[:TEST], test.labels[:TEST])
        ),
        "monitor": callbacks.RepresentationMonitor(images[:HELD], every_steps=10**6),
    }
    for callback in watch.values():
        callback.set_model(model)
        callback.set_params({"epochs": 1})
        callback.on_train_begin()

    def train() -> None:
        for x in kept:
            model.train_on_batch(x)

    turns: dict[str, list[float]] = {"step": [], **{name: [] for name in watch}}
    for turn in range(repeats + 1):
        found = {"step": seconds(train) / STEPS}
        for name, callback in watch.items():
            callback.on_epoch_begin(turn)
            callback.on_train_batch_end(0)
            found[name] = seconds(callback.on_epoch_end, 0, {})
        for name, value in found.items():
            # Functions are traced in the first turn.
            turns[name] += [value] * (turn > 0)
        print(found, flush=True)
    medians = {name: statistics.median(values) for name, values in turns.items()}
    steps = feed.steps_per_epoch
    return {"epoch": medians.pop("step") * steps, **medians, "steps": steps}


def page(found: dict[str, float]) -> str:
    """The page of the documentation."""
    text = (
        "What it costs to watch, by `python benchmarks/watching.py --data-dir DIR --write "
        "docs/benchmarks/watching.md`: SimCLR on CIFAR-10, a ResNet of width "
        f"{quality.WIDTH}, batch {quality.BATCH}, {found['steps']:.0f} steps an epoch; "
        f"`OnlineKNN` with {BANK:,} and {TEST:,} images and `RepresentationMonitor` with {HELD}, "
        "both once an epoch, on two CPU cores. Medians of turns in one process."
    )
    lines = ["| | seconds | of the epoch |", "|---|---:|---:|"]
    both = found["knn"] + found["monitor"]
    rows = {"an epoch of training": found["epoch"], "kNN": found["knn"]}
    rows |= {"monitor": found["monitor"], "both": both}
    for name, value in rows.items():
        lines.append(f"| {name} | {value:.2f} | {100 * value / found['epoch']:.1f} % |")
    parts = ["# The cost of watching", "\n".join(textwrap.wrap(text, 100)), "\n".join(lines)]
    return "\n\n".join(parts) + "\n"


def main() -> None:
    """Runs what the command line asks for."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--data-dir")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--write", type=pathlib.Path, help="Markdown file for the page")
    options = parser.parse_args()
    text = page(measured(options.data_dir, options.repeats))
    print(text)
    if options.write:
        options.write.write_text(text)


if __name__ == "__main__":
    main()
