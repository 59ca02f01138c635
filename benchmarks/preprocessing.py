# SPDX-License-Identifier: Apache-2.0
"""What an encoder loses behind another preprocessing than the one it was trained with.

    python benchmarks/preprocessing.py --data-dir DIR [--steps 550] [--seed 0]
        [--write docs/benchmarks/preprocessing.md]

SimCLR in the setting of `quality.py`, whose views normalise by the statistics of CIFAR-10. One
trained encoder is then evaluated behind several preprocessings, the same for training and test
images, as one would who did not know.
"""

import argparse
import pathlib
import textwrap

import quality

from keras_ssl import evaluation, views

CIFAR = {"mean": (0.4914, 0.4822, 0.4465), "std": (0.247, 0.2435, 0.2616)}
ZERO = (0.0, 0.0, 0.0)
VARIANTS = {
    "its own": CIFAR,
    "ImageNet's statistics": {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)},
    "−1 to 1": {"mean": (0.5,) * 3, "std": (0.5,) * 3},
    "0 to 1, no normalisation": {},
    "0 to 255": {"mean": ZERO, "std": (1 / 255,) * 3},
    "means subtracted, not divided": {"mean": CIFAR["mean"], "std": (1.0,) * 3},
    "the middle 87.5 %": {**CIFAR, "crop_fraction": 0.875},
    "the middle half": {**CIFAR, "crop_fraction": 0.5},
}


def compared(steps: int, seed: int, data_dir: str | None) -> evaluation.Comparison:
    """Trains one encoder and evaluates it behind every preprocessing.

    Args:
        steps: optimizer steps.
        seed: of weights, views and order.
        data_dir: where CIFAR-10 is prepared.
    """
    source = quality.load(data_dir=data_dir)
    view = views.Pipeline(
        [
            views.RandomResizedCrop(32, (0.08, 1.0)),
            views.HorizontalFlip(),
            views.ColorJitter(0.4, 0.4, 0.4, 0.1, 0.8),
            views.Grayscale(0.2),
            views.Normalize(**CIFAR),
        ]
    )
    model = quality.build("SimCLR", source, seed, steps, views=views.TwoViews(view))
    quality.train(model, source, seed, steps)
    encoders = {
        name: evaluation.with_preprocessing(model, views.Preprocessing((32, 32), **options))
        for name, options in VARIANTS.items()
    }
    train, test = ((part.images, part.labels) for part in (source, source.test))
    return evaluation.compare(encoders, train, test)


def page(found: evaluation.Comparison, steps: int) -> str:
    """The page of the documentation."""
    text = (
        "What an encoder loses behind another preprocessing than its own, by `python "
        "benchmarks/preprocessing.py --data-dir DIR --write docs/benchmarks/preprocessing.md`: "
        f"SimCLR, {steps} steps on {quality.IMAGES:,} images of CIFAR-10 normalised by their "
        "statistics, then one encoder behind several preprocessings, the same for training and "
        "test images. Accuracy with 95 % intervals over draws of test images; the differences are "
        "from the first row, over the same draws."
    )
    lines = ["| preprocessing | linear | difference | kNN | difference |", "|---" * 5 + "|"]
    for name, accuracy in found.accuracy.items():
        cells = []
        for protocol in ("linear", "knn"):
            low, high = found.difference[name][protocol]
            between = "" if name == "its own" else f"{low:+.3f} to {high:+.3f}"
            cells += [f"{accuracy[protocol]:.3f}", between]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    parts = ["# The cost of another preprocessing", "\n".join(textwrap.wrap(text, 100))]
    return "\n\n".join([*parts, "\n".join(lines)]) + "\n"


def main() -> None:
    """Runs what the command line asks for."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--data-dir")
    parser.add_argument("--steps", type=int, default=quality.STEPS)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--write", type=pathlib.Path, help="Markdown file for the page")
    options = parser.parse_args()
    text = page(compared(options.steps, options.seed, options.data_dir), options.steps)
    print(text)
    if options.write:
        options.write.write_text(text)


if __name__ == "__main__":
    main()
