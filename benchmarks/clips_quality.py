# SPDX-License-Identifier: Apache-2.0
"""What V-JEPA and SALT learn of moving digits, beside their pixels and the encoder untrained.

    python benchmarks/clips_quality.py --data-dir DIR [--methods VJEPA SALT] [--seeds 0 1 2]
        [--write docs/benchmarks/clips_quality.md]

DIR holds `video/moving_digits_16x40.npz`. The label is the direction of motion, which one frame
does not show. SALT's two stages are trained one after the other in as many steps each as V-JEPA,
so that they can be compared: the row `SALT teacher` is the first.
"""

import os
import textwrap

# On CPUs without AVX-512 TensorFlow leaves it off, and convolutions take longer.
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")

from modalities import learn, shifted, video
from predictive_quality import over_seeds, parser_for
from quality import spread

STEPS, BATCH, RATE = 600, 32, 1.5e-3
PREDICTOR = (32, 1, 4)
METHODS = ("VJEPA", "SALT teacher", "SALT")


def encoder(seed: int):
    """A transformer of width 64 with two blocks on cubes of 2 frames and 4 x 4 pixels.

    Cubes start larger than what tells their places, as in `predictive_quality.encoder`.
    """
    import keras

    from keras_ssl import backbones, models, tokens

    start = keras.initializers.VarianceScaling(8.0, "fan_in", "uniform")
    tokenizer = tokens.PatchTokenizer((2, 4, 4), 64, start, seed=seed)
    options = {"class_token": False, "positions": models.VJEPA.positions, "pooling": "mean"}
    return backbones.TokenTransformer(tokenizer, (16, 20, 20, 1), 2, 4, **options, seed=seed)


def masking():
    """V-JEPA's two masks for 5 x 5 patches, blocks of one or two of which would say little."""
    from keras_ssl import masking

    short = masking.MultiTubeMasking(4, (0.2, 0.2), context=0.4, predicted=0.6)
    far = masking.MultiTubeMasking(1, (0.6, 0.6), context=0.4, predicted=0.6)
    return masking.SeveralMaskings([short, far])


def salt(seed: int, teacher=None):
    """SALT whose teacher, of the student's size, is trained already where one is given."""
    from keras_ssl import models

    options = {"teacher": teacher or encoder(seed), "teacher_decoder": PREDICTOR, "watch": 0}
    epochs = None if teacher is None else 0
    return models.SALT(
        encoder(seed),
        masking=masking(),
        predictor=PREDICTOR,
        teacher_epochs=epochs,
        teacher_target="pixels",
        seed=seed,
        **options,
    )


def build(name: str, seed: int, teacher=None):
    """The model of a row."""
    from keras_ssl import models

    if name == "VJEPA":
        options = {"momentum": 0.996, "watch": 0}
        return models.VJEPA(encoder(seed), masking(), PREDICTOR, **options, seed=seed)
    return salt(seed, teacher) if name == "SALT" else salt(seed).first_stage()


def run(name: str, data, seed: int = 0, steps: int = STEPS, teacher=None):
    """Trains what one row says; SALT's first stage first, where no teacher is given.

    Args:
        name: one of `METHODS`.
        data: what `modalities.video` gives.
        seed: of weights, masks and order.
        steps: optimizer steps, of each stage.
        teacher: encoder that SALT's first stage has trained.

    Returns:
        The trained model, and what `modalities.learn` gives with `pixels`, the linear probe of the
        first and the last frame.
    """
    import keras

    if name == "SALT" and teacher is None:
        teacher = run("SALT teacher", data, seed, steps)[0].encoder
    keras.utils.set_random_seed(seed)
    model = build(name, seed, teacher)
    found = learn(model, data, steps, BATCH, RATE, seed, shifted)
    return model, found | {"pixels": ends(data)}


def ends(data) -> float:
    """Accuracy of a linear probe on the pixels of the first and the last frame."""
    from keras_ssl import evaluation

    train, labels, test, test_labels = data
    pixels = [clips[:, [0, -1]].reshape(len(clips), -1) for clips in (train, test)]
    return evaluation.linear_probe(pixels[0], labels, pixels[1], test_labels)


def page(results: dict[str, dict[str, dict[str, float]]]) -> str:
    """The page of the documentation."""
    first = next(iter(next(iter(results.values())).values()))
    text = (
        "What V-JEPA and SALT learn of moving digits, by `python benchmarks/clips_quality.py "
        "--data-dir DIR --seeds 0 1 2 --write docs/benchmarks/clips_quality.md`: accuracy of a "
        "linear probe and of kNN in eight directions of motion on 200 test clips, where one "
        "standard error is 0.02, and the same of the untrained encoder; mean ± standard deviation "
        f"over seeds. 800 clips of 16 frames of 20 x 20 pixels without labels, AdamW, batches of "
        f"{BATCH}, transformers of width 64 with two blocks; seconds on one CPU core. A probe of "
        f"the pixels of the first and the last frame has {first['pixels']:.3f}. `SALT teacher` is "
        "the first stage, which reconstructs pixels under V-JEPA's masks."
    )
    lines = ["| method | seeds | steps | linear | untrained | kNN | untrained | s |"]
    lines.append("|---" * 8 + "|")
    for name, seeds in results.items():
        rows = list(seeds.values())
        cells = [str(len(rows)), str(rows[0]["steps"])]
        for key in ("linear", "random_linear", "knn", "random_knn"):
            cells.append(spread([row[key] for row in rows], 3))
        cells.append(spread([row["seconds"] for row in rows], 0))
        lines.append(f"| {name} | {' | '.join(cells)} |")
    wrapped = "\n".join(textwrap.wrap(text, 100))
    return "\n\n".join(["# Clips", wrapped, "\n".join(lines)])


def main() -> None:
    """Runs what the command line asks for."""
    asked = parser_for(str(__doc__), "--methods", METHODS, STEPS).parse_args()
    data, teachers = video(asked.data_dir), {}

    def measure(name: str, seed: int) -> dict[str, float]:
        model, found = run(name, data, seed, asked.steps, teachers.get(seed))
        if name == "SALT teacher":
            teachers[seed] = model.encoder
        return found

    over_seeds(asked.methods, asked.seeds, measure, asked.write, page, METHODS)


if __name__ == "__main__":
    main()
