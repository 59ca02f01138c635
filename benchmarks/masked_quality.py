# SPDX-License-Identifier: Apache-2.0
"""What masked models learn on CIFAR-10 in the same number of steps, beside a random encoder.

    python benchmarks/masked_quality.py --data-dir DIR [--methods MAE SimMIM] [--steps 500]
        [--write docs/benchmarks/masked_quality.md] [--pictures docs/assets]

DIR holds CIFAR-10 under `tfds/`. All get the same 10,000 images and optimizer; all transformers are
the same and take as many steps. Methods with a teacher learn from the one of the row `teacher`,
which is trained first. These are small settings for two CPU cores and say what learns at all, not
which method is best.
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

from modalities import TASKS, draw, images, learn, transformer

STEPS, BATCH, RATE = 500, 128, 1.5e-3
DECODER = (48, 1, 4)


@dataclasses.dataclass(frozen=True)
class Setting:
    """How a method is trained here.

    Args:
        build: from a seed to a model; with a teacher, from a seed and the trained one.
        steps: optimizer steps.
        batch: images of a step.
        taught: whether it learns from a teacher.
    """

    build: Callable[..., Any]
    steps: int = STEPS
    batch: int = BATCH
    taught: bool = False


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


def mixed_ae(seed: int):
    """MixedAE of four images."""
    from keras_ssl import models

    return models.MixedAE(encoder(seed), decoder=DECODER, seed=seed)


def position_prediction(seed: int):
    """MP3: nothing tells places."""
    from keras_ssl import models

    return models.PositionPrediction(encoder(seed, positions="none"), seed=seed)


def sit(seed: int):
    """SiT; with the weight of 5 that its authors give small data it gained 0.02 in so few steps."""
    from keras_ssl import models

    options = {"projector": (256, 64), "momentum": 0.95}
    return models.SiT(encoder(seed), **options, seed=seed)


def spark(seed: int):
    """SparK: a residual network of one block a stage, cells of 8 x 8 pixels."""
    from keras_ssl import backbones, models

    network = backbones.ResNet(18, (32, 32, 3), width=16, blocks=(1, 1, 1, 1), seed=seed)
    return models.SparK(network, decoder=64, seed=seed)


def crop_mae(seed: int):
    """CropMAE that sees four patches of the second crop, for two of 64 say nothing."""
    from keras_ssl import models

    return models.CropMAE(encoder(seed), masking=0.94, decoder=(48, 2, 4), seed=seed)


def cae(seed: int):
    """CAE with 64 codes of patches."""
    from keras_ssl import models

    parts = {"regressor": (2, 4), "decoder": (1, 4)}
    return models.CAE(encoder(seed, layer_scale=0.1), codes=64, **parts, seed=seed)


def mask_align(seed: int, teacher):
    """MaskAlign to the last two blocks of the teacher, whose class token guides nobody."""
    from keras_ssl import masking, models

    options = {"masking": masking.RandomMasking(0.7), "levels": 2, "fusion": "mean"}
    return models.MaskAlign(encoder(seed), teacher.encoder, **options, seed=seed)


def hybrid_distillation(seed: int, teacher):
    """Hybrid Distillation with one teacher for both."""
    from keras_ssl import models

    both = (teacher.encoder, teacher.encoder)
    options = {"relation_blocks": (2,), "relation_teacher_blocks": (3,), "relation_heads": 4}
    return models.HybridDistillation(encoder(seed), *both, **options, drop_before=(3,), seed=seed)


def g2sd(seed: int, teacher):
    """G2SD, which learns from the one block of the teacher's decoder."""
    from keras_ssl import models

    return models.G2SD(encoder(seed), teacher, decoder=DECODER, teacher_block=1, seed=seed)


SETTINGS = {
    "MAE": Setting(mae),
    "SimMIM": Setting(simmim),
    "GMML": Setting(gmml),
    "ColorMAE": Setting(color_mae),
    "MixedAE": Setting(mixed_ae),
    "PositionPrediction": Setting(position_prediction),
    "SiT": Setting(sit),
    "CropMAE": Setting(crop_mae),
    "CAE": Setting(cae),
    # Its own network takes longer for a step and fewer of them.
    "SparK": Setting(spark, 400, 256),
    "teacher": Setting(TASKS["images"].build, TASKS["images"].steps, TASKS["images"].batch),
    "MaskAlign": Setting(mask_align, taught=True),
    "HybridDistillation": Setting(hybrid_distillation, taught=True),
    "G2SD": Setting(g2sd, taught=True),
}


def run(name: str, data, steps: int | None = None, seed: int = 0, teacher=None):
    """Trains one method.

    Args:
        name: a key of `SETTINGS`.
        data: what `modalities.images` gives.
        steps: in place of the setting's own.
        seed: of weights, masks and order.
        teacher: trained model that this one learns from, where it does.

    Returns:
        The trained model, and what `modalities.learn` gives.
    """
    import keras

    keras.utils.set_random_seed(seed)
    setting = SETTINGS[name]
    model = setting.build(seed, teacher) if setting.taught else setting.build(seed)
    return model, learn(model, data, steps or setting.steps, setting.batch, RATE, seed)


def page(results: dict[str, dict[str, float]]) -> str:
    """The page of the documentation."""
    text = (
        "What masked models learn, by `python benchmarks/masked_quality.py --data-dir DIR --write "
        "docs/benchmarks/masked_quality.md`: accuracy of linear probe and kNN on 2,000 test images "
        "of CIFAR-10, and what they gain over the same encoder untrained. 10,000 images without "
        f"labels, AdamW, batches of {BATCH}, transformers of width 64 with three blocks on patches "
        "of 4 (SparK: of 256, a residual network of width 16), one seed; seconds on two CPU cores "
        "that did other work besides. `teacher` is an MAE of width 96 with four blocks, from which "
        "the methods below it learn; what they are to be compared with is `MAE`, the same student "
        "in as many steps without it."
    )
    lines = ["| method | steps | linear | gain | kNN | gain | s |", "|---" * 7 + "|"]
    for name, row in results.items():
        cells = [f"{row['steps']}"]
        for kind in ("linear", "knn"):
            cells += [f"{row[kind]:.3f}", f"{row[kind] - row['random_' + kind]:+.3f}"]
        lines.append(f"| {name} | {' | '.join(cells)} | {row['seconds']:.0f} |")
    wrapped = "\n".join(textwrap.wrap(text, 100))
    return "\n\n".join(["# Masked models compared", wrapped, "\n".join(lines)])


def gallery(names: list[str]) -> str:
    """The pictures of the page, as `--pictures docs/assets` leaves them."""
    text = (
        "What some of them reconstruct of test images: what was seen, the reconstruction and the "
        "original."
    )
    rows = [f"| {n} | ![{n}](../assets/compared_{n.lower()}.png) |" for n in names]
    chart = "![Gain of the linear probe](../assets/masked_quality.png)"
    return "\n\n".join(
        [chart, "\n".join(textwrap.wrap(text, 100)), "\n".join(["| | |", "|---|---|", *rows])]
    )


def chart(results: dict[str, dict[str, float]], file: pathlib.Path) -> None:
    """Bars of what the linear probe gains."""
    from matplotlib.figure import Figure

    gains = {name: row["linear"] - row["random_linear"] for name, row in results.items()}
    names = sorted(gains, key=gains.__getitem__)
    figure = Figure(figsize=(7, 0.35 * len(names) + 1), layout="constrained")
    axes = figure.subplots()
    bars = axes.barh(names, [100 * gains[name] for name in names], color="#00796b")
    axes.bar_label(bars, fmt="%.1f", padding=3)
    axes.set_xlabel("points of the linear probe over the untrained encoder")
    axes.spines[["top", "right"]].set_visible(False)
    axes.margins(x=0.1)
    figure.savefig(file, dpi=110)


def main() -> None:
    """Runs what the command line asks for."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--data-dir", type=pathlib.Path, required=True)
    parser.add_argument("--methods", nargs="+", default=list(SETTINGS), choices=list(SETTINGS))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int)
    parser.add_argument("--write", help="Markdown file for the table")
    parser.add_argument("--pictures", type=pathlib.Path, help="folder for chart and pictures")
    parser.add_argument("--teacher", type=pathlib.Path, help="file that keeps the teacher")
    options = parser.parse_args()
    import keras_ssl

    stored = pathlib.Path(options.write).with_suffix(".json") if options.write else None
    results = json.loads(stored.read_text()) if stored and stored.exists() else {}
    data, teacher = images(options.data_dir), None
    if options.teacher is not None and options.teacher.exists():
        teacher = keras_ssl.load_model(options.teacher)
    # A teacher comes before all that learn from it.
    names = sorted(options.methods, key=list(SETTINGS).index)
    if teacher is None and any(SETTINGS[name].taught for name in names):
        names = ["teacher", *(name for name in names if name != "teacher")]
    for name in names:
        steps = None if name == "teacher" else options.steps
        model, found = run(name, data, steps, options.seed, teacher)
        if name == "teacher":
            teacher = model
            if options.teacher is not None:
                model.save(options.teacher)
        results[name] = {key: round(value, 4) for key, value in found.items()}
        print(name, json.dumps(results[name]), flush=True)
        if options.pictures and hasattr(model.target, "to_pixels") and name != "teacher":
            draw(model, data[2], picture_of(name, options))
        if stored is not None:
            results = {name: results[name] for name in SETTINGS if name in results}
            stored.write_text(json.dumps(results, indent=1) + "\n")
            text = page(results)
            if options.pictures:
                chart(results, options.pictures / "masked_quality.png")
                text += "\n\n" + gallery([n for n in results if picture_of(n, options).exists()])
            pathlib.Path(options.write).write_text(text + "\n")


def picture_of(name: str, options: argparse.Namespace) -> pathlib.Path:
    """The file for what a method reconstructs."""
    return options.pictures / f"compared_{name.lower()}.png"


if __name__ == "__main__":
    main()
