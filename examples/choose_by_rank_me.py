# SPDX-License-Identifier: Apache-2.0
"""Lets RankMe choose temperature and learning rate without labels, and says what that costs.

    python examples/choose_by_rank_me.py --data-dir DIR --output runs/rank_me

SimCLR is trained for a few steps with each setting of `RUNS`. Of held-out images whose labels
nobody sees, RankMe is taken of representations and of projections, LiDAR of several views, and
alpha-ReQ, which is best at 1. What they are worth is then told by labels: Spearman's correlation
with the accuracy of a linear probe on other images, with a bootstrap interval over runs, and what
accuracy is lost by choosing the run that a measure finds best (regret).

Leaves `rank_me.png` and `rank_me.json`, written after every run, so that the program goes on where
it was stopped.

Source: RankMe, 2023; LiDAR, 2024; alpha-ReQ, 2022, as `keras_ssl.metrics` names them.
"""

import argparse
import itertools
import json
import sys
from collections.abc import Sequence
from pathlib import Path

import keras
import numpy as np

from keras_ssl import backbones, data, evaluation, metrics, models, optimizers, schedules

# Temperatures and peak learning rates, fixed before any result was seen.
RUNS = tuple(itertools.product((0.05, 0.15, 0.5, 1.5), (3e-4, 1e-3, 3e-3)))
MEASURES = ("RankMe", "RankMe of projections", "LiDAR", "alpha-ReQ")


def train(source: data.Source, temperature: float, rate: float, steps: int, batch_size: int):
    """SimCLR with a small convolutional encoder of 256 features."""
    keras.utils.set_random_seed(0)
    encoder = backbones.ConvNet(source.image_shape, (32, 64, 128, 256), stem_stride=2, seed=0)
    views = "digits" if source.image_shape[-1] == 1 else "simclr"
    model = models.SimCLR(encoder, (256, 128), temperature=temperature, views=views, seed=0)
    schedule = schedules.WarmupCosine(rate, total_steps=steps, warmup_steps=steps // 10)
    model.compile(optimizers.AdamW(schedule, weight_decay=1e-4))
    batches = data.EpochData(source, batch_size, seed=0, drop_remainder=True)
    model.fit(batches.stream(), steps_per_epoch=steps, verbose=0)
    return model


def measure(model: models.SimCLR, source: data.Source, rows: np.ndarray) -> dict[str, float]:
    """Measures without labels on half of the test rows, accuracy on the other half."""
    unlabelled, other = np.array_split(rows, 2)
    images, labels = source.test.images, source.test.labels
    parts = (source.images, images[unlabelled], images[other])
    train_x, held, test_x = (evaluation.extract_features(model, x, verbose=False) for x in parts)
    # LiDAR needs several random views of every image, and more images than features.
    drawn = [view for _ in range(4) for view in model.make_views(images[unlabelled[:512]])]
    views = np.stack([model.view_encoder(view, training=False) for view in drawn], axis=1)
    return {
        "accuracy": evaluation.linear_probe(train_x, source.labels, test_x, labels[other]),
        "RankMe": float(metrics.rank_me(held)),
        "RankMe of projections": float(metrics.rank_me(model.projector(held, training=False))),
        "LiDAR": float(metrics.lidar(views)),
        "alpha-ReQ": float(metrics.alpha_req(held).alpha),
    }


def judge(runs: Sequence[dict], draws: int = 1000) -> dict[str, dict]:
    """Spearman's correlation of each measure with accuracy, its interval, and the regret."""
    from scipy.stats import rankdata, spearmanr

    accuracy = np.array([run["accuracy"] for run in runs])
    resampled = np.random.default_rng(0).integers(0, len(runs), (draws, len(runs)))
    found = {}
    for name in MEASURES:
        x = np.array([-abs(run[name] - 1.0) if name == "alpha-ReQ" else run[name] for run in runs])
        # A draw of one run alone has no correlation.
        ranks = [rankdata((x[d], accuracy[d]), axis=1) for d in resampled if np.ptp(x[d]) > 0]
        many = [np.corrcoef(pair)[0, 1] for pair in ranks]
        found[name] = {
            "spearman": float(spearmanr(x, accuracy).statistic),
            "interval": np.nanpercentile(many, (2.5, 97.5)).tolist(),
            "regret": float(accuracy.max() - accuracy[x.argmax()]),
        }
    return found | {"a random run": {"regret": float(accuracy.max() - accuracy.mean())}}


def tables(runs: dict[str, dict], judged: dict[str, dict]) -> str:
    """Runs, and what measures are worth, as two Markdown tables."""
    columns = ("accuracy", *MEASURES)
    lines = [f"| temperature, rate | {' | '.join(columns)} |", "|---" * (len(columns) + 1) + "|"]
    for name, run in runs.items():
        cells = [f"{run[c]:.{1 if c in MEASURES[:3] else 3}f}" for c in columns]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    lines += ["", "| chosen by | Spearman (95 % interval) | regret |", "|---|---|---|"]
    for name, row in judged.items():
        cell = "{spearman:.2f} ({interval[0]:.2f} to {interval[1]:.2f})" if len(row) > 1 else ""
        lines.append(f"| {name} | {cell.format(**row)} | {row['regret']:.3f} |")
    return "\n".join(lines)


def draw(runs: dict[str, dict], path: Path) -> None:
    """Accuracy over RankMe, a dot a run, by temperature."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.8), layout="constrained")
    for axes, name in zip(figure.subplots(1, 2, sharey=True), MEASURES[:2], strict=True):
        for temperature, group in itertools.groupby(runs, lambda run: run.split(",")[0]):
            dots = [(runs[run][name], runs[run]["accuracy"]) for run in group]
            axes.plot(*np.transpose(dots), "o", label=f"temperature {temperature}")
        axes.set(xlabel=name, ylabel="accuracy of a linear probe")
        axes.spines[["top", "right"]].set_visible(False)
    figure.axes[0].legend(frameon=False)
    figure.savefig(path, dpi=120)


def main(arguments: Sequence[str] | None = None) -> None:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--data", default="tfds:cifar10", help="digits, tfds:NAME or folder:PATH")
    parser.add_argument("--data-dir", help="folder of prepared data sets")
    parser.add_argument("--images", type=int, default=5_000, help="training images")
    parser.add_argument("--steps", type=int, default=150)
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--runs", type=int, default=len(RUNS), help="the first of the list only")
    parser.add_argument("--output", type=Path, default=Path("runs/rank_me"))
    options = parser.parse_args(arguments)

    source = data.load(options.data, data_dir=options.data_dir, limit=options.images)
    rows = np.random.default_rng(0).permutation(len(source.test))
    options.output.mkdir(parents=True, exist_ok=True)
    path = options.output / "rank_me.json"
    settings = {key: vars(options)[key] for key in ("data", "images", "steps", "batch_size")}
    stored = json.loads(path.read_text()) if path.exists() else {"settings": settings, "runs": {}}
    if stored["settings"] != settings:
        sys.exit(f"{path} holds runs of {stored['settings']}: give another --output.")
    for temperature, rate in RUNS[: options.runs]:
        name = f"{temperature}, {rate}"
        if name not in stored["runs"]:
            model = train(source, temperature, rate, options.steps, options.batch_size)
            stored["runs"][name] = measure(model, source, rows)
            path.write_text(json.dumps(stored, indent=1) + "\n")
            print(name, json.dumps(stored["runs"][name]), flush=True)
    stored["judged"] = judge(list(stored["runs"].values()))
    path.write_text(json.dumps(stored, indent=1) + "\n")
    draw(stored["runs"], options.output / "rank_me.png")
    print(tables(stored["runs"], stored["judged"]))


if __name__ == "__main__":
    main()
