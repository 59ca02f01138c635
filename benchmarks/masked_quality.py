# SPDX-License-Identifier: Apache-2.0
"""What masked models learn on CIFAR-10 in the same number of steps, beside a random encoder.

    python benchmarks/masked_quality.py --data-dir DIR [--methods MAE SimMIM] [--steps 500]
        [--write docs/benchmarks/masked_quality.md]

DIR holds CIFAR-10 under `tfds/`. All get the same 10,000 images, batches, steps and optimizer, and
all transformers are the same. These are small settings for two CPU cores and say what learns at
all, not which method is best.
"""

import argparse
import json
import os
import pathlib
import textwrap
from collections.abc import Callable
from typing import Any

# On CPUs without AVX-512 TensorFlow leaves it off, and convolutions take longer.
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")

from modalities import images, learn, transformer

STEPS, BATCH, RATE = 500, 128, 1.5e-3
DECODER = (48, 1, 4)


def encoder(seed: int, **options):
    """A transformer of width 64 with three blocks on 64 patches."""
    return transformer((4, 4), (32, 32, 3), seed, width=64, depth=3, heads=4, **options)


def mae(seed: int):
    """MAE with a decoder of one block."""
    from keras_ssl import models

    return models.MAE(encoder(seed), decoder=DECODER, seed=seed)


def simmim(seed: int):
    """SimMIM that hides squares of two patches."""
    from keras_ssl import models

    return models.SimMIM(encoder(seed), unit=(8, 8), seed=seed)


def gmml(seed: int):
    """GMML on one view, as others see one."""
    from keras_ssl import models

    return models.GMML(encoder(seed), blocks=(2, 3), views="mae", seed=seed)


def color_mae(seed: int):
    """MAE with green masks."""
    from keras_ssl import models

    return models.ColorMAE(encoder(seed), decoder=DECODER, seed=seed)


SETTINGS: dict[str, Callable[[int], Any]] = {
    "MAE": mae,
    "SimMIM": simmim,
    "GMML": gmml,
    "ColorMAE": color_mae,
}


def run(name: str, data, steps: int = STEPS, seed: int = 0):
    """Trains one method.

    Args:
        name: a key of `SETTINGS`.
        data: what `modalities.images` gives.
        steps: optimizer steps.
        seed: of weights, masks and order.

    Returns:
        The trained model, and what `modalities.learn` gives.
    """
    import keras

    keras.utils.set_random_seed(seed)
    model = SETTINGS[name](seed)
    return model, learn(model, data, steps, BATCH, RATE, seed)


def page(results: dict[str, dict[str, float]]) -> str:
    """The page of the documentation."""
    text = (
        "What masked models learn, by `python benchmarks/masked_quality.py --data-dir DIR --write "
        "docs/benchmarks/masked_quality.md`: accuracy of linear probe and kNN on 2,000 test images "
        "of CIFAR-10, and what they gain over the same encoder untrained. 10,000 images without "
        f"labels, batches of {BATCH}, AdamW, transformers of width 64 with three blocks on patches "
        "of 4, one seed; seconds on two CPU cores that did other work besides."
    )
    lines = ["| method | steps | linear | gain | kNN | gain | s |", "|---" * 7 + "|"]
    for name, row in results.items():
        cells = [f"{row['steps']}"]
        for kind in ("linear", "knn"):
            cells += [f"{row[kind]:.3f}", f"{row[kind] - row['random_' + kind]:+.3f}"]
        lines.append(f"| {name} | {' | '.join(cells)} | {row['seconds']:.0f} |")
    wrapped = "\n".join(textwrap.wrap(text, 100))
    return "\n\n".join(["# Masked models", wrapped, "\n".join(lines)])


def main() -> None:
    """Runs what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data-dir", type=pathlib.Path, required=True)
    parser.add_argument("--methods", nargs="+", default=list(SETTINGS), choices=list(SETTINGS))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--write", help="Markdown file for the table")
    options = parser.parse_args()
    stored = pathlib.Path(options.write).with_suffix(".json") if options.write else None
    results = json.loads(stored.read_text()) if stored and stored.exists() else {}
    data = images(options.data_dir)
    for name in options.methods:
        _, found = run(name, data, options.steps, options.seed)
        results[name] = {key: round(value, 4) for key, value in found.items()}
        print(name, json.dumps(results[name]), flush=True)
        if stored is not None:
            stored.write_text(json.dumps(results, indent=1) + "\n")
            pathlib.Path(options.write).write_text(page(results) + "\n")


if __name__ == "__main__":
    main()
