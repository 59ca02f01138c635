# SPDX-License-Identifier: Apache-2.0
"""What joint-embedding prediction learns on CIFAR-10, beside reconstruction and contrast.

    python benchmarks/predictive_quality.py --data-dir DIR [--methods IJEPA MAE] [--seeds 0 1 2]
        [--steps 1000] [--write docs/benchmarks/predictive_quality.md]

DIR holds CIFAR-10 under `tfds/`. All get the same 10,000 images, the same transformer, optimizer
and number of steps, some minutes on two CPU cores. These are small settings: they say what
learns at all, not which method is best.
"""

import argparse
import dataclasses
import json
import os
import pathlib
import textwrap
from collections.abc import Callable
from typing import Any

# On CPUs without AVX-512 TensorFlow leaves it off, and convolutions take longer.
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")

from modalities import images, learn
from quality import spread

STEPS, BATCH = 1000, 128
PREDICTOR = (32, 1, 4)


@dataclasses.dataclass(frozen=True)
class Setting:
    """How a method is trained here.

    Args:
        build: from an encoder, a seed and the number of steps to a model.
        rate: peak learning rate.
        class_token: whether the encoder has one.
    """

    build: Callable[[Any, int, int], Any]
    rate: float = 1e-3
    class_token: bool = False


def encoder(seed: int, class_token: bool):
    """A transformer of width 64 with three blocks on 64 patches.

    What tells places is the same in all images, and the easiest thing to predict: where it is the
    larger part of a token, latents of other images hardly differ soon. So patches start larger.
    """
    import keras

    from keras_ssl import backbones, tokens

    start = keras.initializers.VarianceScaling(8.0, "fan_in", "uniform")
    tokenizer = tokens.PatchTokenizer((4, 4), 64, start, seed=seed)
    options = {"class_token": class_token, "pooling": "mean", "positions": "sincos", "seed": seed}
    return backbones.TokenTransformer(tokenizer, (32, 32, 3), 3, 4, **options)


def options() -> dict[str, Any]:
    """What all that predict latents get; with a ramp the teacher would stop in so few steps."""
    return {"predictor": PREDICTOR, "momentum": 0.996, "watch": 0}


def ijepa(network, seed: int, steps: int):
    """I-JEPA with its own masks."""
    from keras_ssl import models

    return models.IJEPA(network, **options(), seed=seed)


def sparse_jepa(network, seed: int, steps: int):
    """SparseJEPA of four groups."""
    from keras_ssl import models

    return models.SparseJEPA(network, groups=4, sparsity=1e-4, **options(), seed=seed)


def dseq_jepa(network, seed: int, steps: int):
    """DSeq-JEPA, whose steps turn from I-JEPA's to regions."""
    from keras_ssl import models, schedules

    ramp = schedules.LinearWarmup(0.0, 1.0, steps)
    return models.DSeqJEPA(network, regions=3, sequence=ramp, **options(), seed=seed)


def mae(network, seed: int, steps: int):
    """MAE with a decoder of the predictor's size."""
    from keras_ssl import models

    return models.MAE(network, decoder=PREDICTOR, seed=seed)


def simclr(network, seed: int, steps: int):
    """SimCLR."""
    from keras_ssl import models

    return models.SimCLR(network, (256, 128), temperature=0.2, seed=seed)


SETTINGS = {
    "IJEPA": Setting(ijepa, 1.5e-3),
    "SparseJEPA": Setting(sparse_jepa),
    "DSeqJEPA": Setting(dseq_jepa, class_token=True),
    "MAE": Setting(mae, 1.5e-3),
    "SimCLR": Setting(simclr),
}


def run(name: str, data, seed: int = 0, steps: int = STEPS) -> dict[str, float]:
    """Trains one method; what `modalities.learn` gives.

    Args:
        name: a key of `SETTINGS`.
        data: what `modalities.images` gives.
        seed: of weights, masks, views and order.
        steps: optimizer steps.
    """
    import keras

    keras.utils.set_random_seed(seed)
    setting = SETTINGS[name]
    model = setting.build(encoder(seed, setting.class_token), seed, steps)
    return learn(model, data, steps, BATCH, setting.rate, seed)


def page(results: dict[str, dict[str, dict[str, float]]]) -> str:
    """The page of the documentation."""
    text = (
        "What joint-embedding prediction learns beside reconstruction and contrast, by `python "
        "benchmarks/predictive_quality.py --data-dir DIR --seeds 0 1 2 --write "
        "docs/benchmarks/predictive_quality.md`: accuracy of linear probe and kNN on 2,000 test "
        "images of CIFAR-10, and what they gain over the same encoder untrained, mean ± standard "
        f"deviation over seeds. 10,000 images without labels, AdamW, batches of {BATCH}, "
        "transformers of width 64 with three blocks on patches of 4, which start larger than what "
        "tells their places. Of I-JEPA and its kin the teacher is measured, as in their papers. "
        "These settings are small; they say that a method learns, not which is best."
    )
    lines = ["| method | seeds | steps | linear | gain | kNN | gain |", "|---" * 7 + "|"]
    for name, seeds in results.items():
        rows = list(seeds.values())
        cells = [str(len(rows)), str(rows[0]["steps"])]
        for kind in ("linear", "knn"):
            cells.append(spread([row[kind] for row in rows], 3))
            cells.append(spread([row[kind] - row["random_" + kind] for row in rows], 3))
        lines.append(f"| {name} | {' | '.join(cells)} |")
    wrapped = "\n".join(textwrap.wrap(text, 100))
    return "\n\n".join(["# Prediction, reconstruction, contrast", wrapped, "\n".join(lines)])


def parser_for(doc: str, option: str, names, steps: int | None) -> argparse.ArgumentParser:
    """What programs ask on the command line that measure several things over seeds.

    Args:
        doc: docstring of the program, whose first line describes it.
        option: what `names` are, such as `--methods`.
        names: what can be run; all of them by default.
        steps: optimizer steps by default; None where each of `names` has its own.
    """
    parser = argparse.ArgumentParser(description=doc.splitlines()[0])
    parser.add_argument("--data-dir", type=pathlib.Path, required=True)
    parser.add_argument(option, nargs="+", default=list(names), choices=list(names))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--steps", type=int, default=steps)
    parser.add_argument("--write", help="Markdown file for the table")
    return parser


def over_seeds(names, seeds, measure, write, page, order) -> None:
    """Measures, prints and keeps what each of some names gives over seeds.

    Args:
        names: what to run.
        seeds: of every run.
        measure: from a name and a seed to numbers.
        write: Markdown file for the page, or None; what is kept beside it as JSON stays.
        page: from all results to that page.
        order: names in the order of the page.
    """
    stored = pathlib.Path(write).with_suffix(".json") if write else None
    results = json.loads(stored.read_text()) if stored and stored.exists() else {}
    for name in names:
        for seed in seeds:
            found = {key: round(value, 4) for key, value in measure(name, seed).items()}
            results.setdefault(name, {})[str(seed)] = found
            print(name, seed, json.dumps(found), flush=True)
            if stored is not None:
                results = {n: results[n] for n in order if n in results}
                stored.write_text(json.dumps(results, indent=1) + "\n")
                pathlib.Path(write).write_text(page(results) + "\n")


def main() -> None:
    """Runs what the command line asks for."""
    asked = parser_for(str(__doc__), "--methods", SETTINGS, STEPS).parse_args()
    data = images(asked.data_dir)

    def measure(name: str, seed: int) -> dict[str, float]:
        return run(name, data, seed, asked.steps)

    over_seeds(asked.methods, asked.seeds, measure, asked.write, page, SETTINGS)


if __name__ == "__main__":
    main()
