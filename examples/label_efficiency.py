# SPDX-License-Identifier: Apache-2.0
"""Draws how many labels pre-training saves, on your own images: accuracy over labels.

    python examples/label_efficiency.py --data folder:PATH --output runs/labels
    python examples/label_efficiency.py --data tfds:cifar10 --data-dir DIR
    python examples/label_efficiency.py --data folder:PATH --encoder encoder.keras

SimCLR learns an encoder from all training images without their labels, unless one is given. A
linear probe then gets 1, 5 and 10 labels of every class and 1 %, 10 % and 100 % of them, several
draws of each: on features of the frozen encoder, on those of the same encoder untrained, and on
pixels, at most 16x16. A folder holds a folder for every class.

Leaves `label_efficiency.png` and `.json`, and `encoder.keras`.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

import keras
import numpy as np

import keras_ssl
from keras_ssl import backbones, data, evaluation, models, optimizers, schedules

PER_CLASS = (1, 5, 10)
FRACTIONS = (0.01, 0.1, 1.0)


def pretrain(source: data.Source, steps: int, batch_size: int) -> keras.Model:
    """An encoder from raw images to 256 features, learned without labels."""
    convnet = backbones.ConvNet(source.image_shape, (32, 64, 128, 256), stem_stride=2, seed=0)
    views = "digits" if source.image_shape[-1] == 1 else "simclr"
    model = models.SimCLR(convnet, (256, 128), temperature=0.2, views=views, seed=0)
    rate = schedules.WarmupCosine(2e-3, total_steps=steps, warmup_steps=steps // 20)
    model.compile(optimizers.AdamW(rate, weight_decay=1e-4))
    # A smaller last batch would have fewer negatives than the others.
    batches = data.EpochData(source, min(batch_size, len(source)), seed=0, drop_remainder=True)
    model.fit(batches.stream(), steps_per_epoch=steps, verbose=2)
    return model.standalone_encoder()


def pixels(images: np.ndarray) -> np.ndarray:
    """Pixels of images as rows; larger images are made smaller, for their probe takes long."""
    side = min(images.shape[1], 16)
    small = keras.ops.image.resize(images.astype("float32"), (side, side), antialias=True)
    return np.asarray(small).reshape(len(images), -1)


def amounts(labels: np.ndarray) -> dict[str, dict]:
    """What `labelled_subset` is asked for, as far as the smallest class allows."""
    smallest = np.unique(labels[labels >= 0], return_counts=True)[1].min()
    counts = {f"{n} per class": {"per_class": n} for n in PER_CLASS if n <= smallest}
    return counts | {f"{share:.0%}": {"fraction": share} for share in FRACTIONS}


def curve(train: np.ndarray, test: np.ndarray, source: data.Source, draws: int) -> dict:
    """Labels in use and the accuracy of every draw, by amount."""
    found, labels, test_labels = {}, source.labels, source.test.labels
    for name, options in amounts(labels).items():
        # With all labels every draw is the same.
        found[name] = {"accuracy": []}
        for seed in range(1 if options.get("fraction") == 1.0 else draws):
            rows = evaluation.labelled_subset(labels, seed=seed, **options)
            score = evaluation.linear_probe(train[rows], labels[rows], test, test_labels)
            found[name]["accuracy"].append(score)
            found[name]["labels"] = len(rows)
    return found


def table(curves: dict[str, dict]) -> str:
    """Mean accuracies with their standard deviations over draws, as a Markdown table."""
    first = next(iter(curves.values()))
    lines = [f"| labels | in all | {' | '.join(curves)} |", "|---" * (2 + len(curves)) + "|"]
    for name, found in first.items():
        cells = [name, f"{found['labels']:,}"]
        for points in curves.values():
            scores = points[name]["accuracy"]
            spread = f" ± {np.std(scores):.3f}" if len(scores) > 1 else ""
            cells.append(f"{np.mean(scores):.3f}{spread}")
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def draw(curves: dict[str, dict], path: Path) -> None:
    """Mean accuracy over labels, with one standard deviation to each side."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 4.2), layout="constrained")
    axes = figure.add_subplot()
    for name, points in curves.items():
        ordered = sorted(points.values(), key=lambda point: point["labels"])
        rows = [(p["labels"], np.mean(p["accuracy"]), np.std(p["accuracy"])) for p in ordered]
        x, mean, spread = np.transpose(rows)
        (line,) = axes.plot(x, mean, "o-", label=name)
        axes.fill_between(x, mean - spread, mean + spread, alpha=0.25, color=line.get_color())
    axes.set(xscale="log", xlabel="labels", ylabel="accuracy of a linear probe")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    figure.savefig(path, dpi=120)


def main(arguments: Sequence[str] | None = None) -> None:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--data", default="digits", help="digits, tfds:NAME or folder:PATH")
    parser.add_argument("--data-dir", help="folder of prepared data sets")
    parser.add_argument("--size", type=int, help="side of the images")
    parser.add_argument("--images", type=int, default=10_000, help="training images")
    parser.add_argument("--encoder", type=Path, help="takes raw images; in place of training one")
    parser.add_argument("--steps", type=int, default=1000, help="of pre-training")
    parser.add_argument("--batch-size", type=int, default=256)
    parser.add_argument("--draws", type=int, default=5, help="of labels")
    parser.add_argument("--output", type=Path, default=Path("runs/labels"))
    options = parser.parse_args(arguments)

    encoder = None if options.encoder is None else keras_ssl.load_model(options.encoder)
    shape = (None, options.size, None, None) if encoder is None else encoder.input_shape
    source = data.load(
        options.data,
        data_dir=options.data_dir,
        limit=options.images,
        image_size=shape[1],
        channels=shape[-1],
    )
    if source.test is None:
        sys.exit(f"{source.name} has no labels: give a folder of class folders.")
    options.output.mkdir(parents=True, exist_ok=True)
    if encoder is None:
        encoder = pretrain(source, options.steps, options.batch_size)
        encoder.save(options.output / "encoder.keras")
    # A clone has the same layers, with weights as at the start.
    encoders = {"pre-trained": encoder, "untrained": keras.models.clone_model(encoder)}
    curves = {}
    for name in (*encoders, "pixels"):
        features = [
            evaluation.extract_features(encoders[name], x) if name in encoders else pixels(x)
            for x in (source.images, source.test.images)
        ]
        curves[name] = curve(*features, source, options.draws)
    text = json.dumps({"options": vars(options), "curves": curves}, indent=1, default=str)
    (options.output / "label_efficiency.json").write_text(text + "\n")
    draw(curves, options.output / "label_efficiency.png")
    print(table(curves))


if __name__ == "__main__":
    main()
