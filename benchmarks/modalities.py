# SPDX-License-Identifier: Apache-2.0
"""What masked models learn on several modalities, beside the same encoder untrained.

    python benchmarks/modalities.py --data-dir DIR [--tasks images video] [--write
        docs/benchmarks/modalities.md]

DIR holds the data sets (see `TASKS`), CIFAR-10 under `tfds/`. Every task states a model, a number
of steps and what a trivial prediction, the mean patch of the training data, would have as an error.
"""

import argparse
import dataclasses
import json
import os
import pathlib
import textwrap
import time
from collections.abc import Callable
from typing import Any

# On CPUs without AVX-512 TensorFlow leaves it off, and convolutions take longer.
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")

import numpy as np

IMAGES, TEST = 10_000, 2_000


@dataclasses.dataclass(frozen=True)
class Task:
    """Data and model of one modality.

    Args:
        load: from the data folder to `(train, train labels, test, test labels)`.
        build: from a seed to a masked model.
        steps: optimizer steps.
        batch: samples of a step.
        rate: peak learning rate.
        augment: from samples and a NumPy generator to others as good, anew for every epoch.
    """

    load: Callable[[pathlib.Path], tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]]
    build: Callable[[int], Any]
    steps: int
    batch: int = 256
    rate: float = 1.5e-3
    augment: Callable[[np.ndarray, np.random.Generator], np.ndarray] | None = None


def images(folder: pathlib.Path):
    """CIFAR-10."""
    from keras_ssl import data

    source = data.load("tfds:cifar10", data_dir=folder / "tfds", limit=IMAGES)
    return source.images, source.labels, source.test.images[:TEST], source.test.labels[:TEST]


def video(folder: pathlib.Path):
    """MNIST digits that move over 16 frames of half their size, by their direction, standardised.

    Strokes of the full size are as narrow as a step of their motion, so that what is around a cube
    says little of it.
    """
    clips, labels, test = moving_digits(folder)
    clips = clips.reshape(*clips.shape[:2], 20, 2, 20, 2, 1).mean((3, 5))
    clips = standardized(clips, test)
    return clips[~test], labels[~test], clips[test], labels[test]


def moving_digits(folder: pathlib.Path):
    """Clips of 0 to 255, `(N, 16, 40, 40, 1)`, directions, and which are for tests."""
    with np.load(folder / "video" / "moving_digits_16x40.npz") as z:
        return z["video"][..., None].astype("float32"), z["direction"], z["is_test"]


def standardized(x: np.ndarray, test: np.ndarray) -> np.ndarray:
    """Samples of mean 0 and deviation 1 in the training part."""
    return ((x - x[~test].mean()) / x[~test].std()).astype("float32")


def shifted(clips: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Every clip moved over the torus that the digits move on."""
    return np.stack([np.roll(clip, rng.integers(0, clip.shape[1], 2), (1, 2)) for clip in clips])


def embeddings(folder: pathlib.Path):
    """The frames of the moving digits as 64 principal components, each of deviation 1."""
    from sklearn.decomposition import PCA

    clips, labels, is_test = moving_digits(folder)
    clips = standardized(clips, is_test)
    train, test = clips[~is_test], clips[is_test]
    labels, test_labels = labels[~is_test], labels[is_test]
    rows = [part.reshape(-1, np.prod(part.shape[2:])) for part in (train, test)]
    components = PCA(64, whiten=True, random_state=0).fit(rows[0][::4])
    made = [
        components.transform(flat).reshape(*part.shape[:2], -1).astype("float32")
        for flat, part in zip(rows, (train, test), strict=True)
    ]
    return made[0], labels, made[1], test_labels


def volumes(folder: pathlib.Path):
    """Distances of voxels from the surface of chairs and monitors, standardised.

    Outside positive, inside negative and cut at four voxels. Occupancy, which they are made of, is
    a surface one voxel thin, whose course between cubes is anyone's guess.
    """
    from scipy.ndimage import distance_transform_edt

    solids, labels, test = occupied(folder)
    outside = np.stack([distance_transform_edt(1 - solid) for solid in solids])
    inside = np.stack([distance_transform_edt(solid) for solid in solids])
    x = standardized(np.clip(outside - inside, -4.0, 4.0)[..., None], test)
    return x[~test], labels[~test], x[test], labels[test]


def occupied(folder: pathlib.Path):
    """Voxels 0 and 1 of chairs and monitors, `(N, 32, 32, 32)`, labels, and which are for tests."""
    with np.load(folder / "volume" / "modelnet_voxels_chair_monitor.npz") as z:
        return np.unpackbits(z["voxels_packed"], axis=-1), z["label"], z["is_test"]


def spectrograms(folder: pathlib.Path):
    """Spoken digits as 64 frames of 32 mel bands, standardised."""
    with np.load(folder / "audio" / "fsdd_8k.npz") as z:
        samples, offsets, labels, test = (z[n] for n in ("samples", "offsets", "label", "is_test"))
    waves = np.zeros((len(labels), 64 * 64 + 192), "float32")
    for row, (start, end) in enumerate(zip(offsets[:-1], offsets[1:], strict=True)):
        wave = samples[start:end][: waves.shape[1]] / 32768.0
        waves[row, : len(wave)] = wave
    x = standardized(log_mel(waves), test)
    return x[~test], labels[~test], x[test], labels[test]


def log_mel(waves: np.ndarray, bands: int = 32) -> np.ndarray:
    """Log-mel spectrograms `(N, frames, bands, 1)` of 8 kHz sound, a frame every 64 samples."""
    import keras

    mel = keras.layers.MelSpectrogram(
        fft_length=256,
        sequence_stride=64,
        sequence_length=256,
        sampling_rate=8000,
        num_mel_bins=bands,
        min_freq=50.0,
        max_freq=4000.0,
    )
    found = np.concatenate([np.asarray(mel(part)) for part in np.array_split(waves, 30)])
    return found.transpose(0, 2, 1)[:, :64, :, None]


def signals(folder: pathlib.Path):
    """Household electricity over a day as a meter counts it, standardised.

    Power itself switches at any time, so that what is around a piece says little of it. Its running
    sum has the same information and is smooth.
    """
    with np.load(folder / "timeseries" / "ElectricDevices.npz") as z:
        train, y, test, test_y = z["X_train"], z["y_train"], z["X_test"], z["y_test"]
    train, test = (np.cumsum((x - train.mean()) / train.std(), 1) for x in (train, test[:TEST]))
    mean, std = train.mean(), train.std()
    made = [((x - mean) / std).astype("float32") for x in (train, test)]
    return made[0], y, made[1], test_y[:TEST]


def transformer(patch, shape, seed, width=64, depth=2, heads=4, **options):
    """A small transformer over patches of samples of any rank."""
    from keras_ssl import backbones, tokens

    tokenizer = tokens.PatchTokenizer(patch, width, seed=seed)
    options = {"pooling": "mean", "positions": "sincos", "seed": seed, **options}
    return backbones.TokenTransformer(tokenizer, shape, depth, heads, **options)


def mae(seed: int):
    """MAE on images, standardised patches."""
    from keras_ssl import models

    encoder = transformer((4, 4), (32, 32, 3), seed, width=96, depth=4, heads=3)
    return models.MAE(encoder, 0.75, (64, 1, 4), seed=seed)


def video_mae(seed: int):
    """VideoMAE V2 on cubes of 2 frames and 4 x 4 pixels, raw values, half of them hidden.

    Of cubes one by one: a digit has no spare tubes.
    """
    from keras_ssl import masking, models, targets

    encoder = transformer((2, 4, 4), (16, 20, 20, 1), seed, class_token=False)
    target = targets.PixelTarget((2, 4, 4))
    return models.VideoMAEV2(
        encoder, masking.RandomMasking(0.5), (64, 2, 4), None, target, seed=seed
    )


def lv_mae(seed: int):
    """LV-MAE on half of the vectors of a sequence."""
    from keras_ssl import backbones, models, tokens

    tokenizer = tokens.EmbeddingTokenizer(64, seed=seed)
    encoder = backbones.TokenTransformer(tokenizer, (16, 64), 2, 4, pooling="mean", seed=seed)
    return models.LVMAE(encoder, 0.5, (64, 1, 4), seed=seed)


def volume_mae(seed: int):
    """MAE on cubes of 4 x 4 x 4 voxels, raw values."""
    from keras_ssl import models

    encoder = transformer((4, 4, 4), (32, 32, 32, 1), seed)
    return models.MAE(encoder, 0.75, (64, 1, 4), "pixels", views=None, seed=seed)


def audio_mae(seed: int):
    """Audio-MAE on patches of 4 frames and 8 bands, raw values."""
    from keras_ssl import models

    encoder = transformer((4, 8), (64, 32, 1), seed)
    return models.AudioMAE(encoder, 0.6, (64, 2, 4), target="pixels", seed=seed)


def signal_mae(seed: int):
    """MAE on pieces of 4 steps."""
    from keras_ssl import models

    return models.SignalMAE(transformer((4,), (96, 1), seed), 0.5, (64, 1, 4), seed=seed)


TASKS = {
    "images": Task(images, mae, 1300, rate=3e-3),
    "video": Task(video, video_mae, 2500, 32, 3e-3, shifted),
    "volumes": Task(volumes, volume_mae, 400, 32, 3e-3),
    "spectrograms": Task(spectrograms, audio_mae, 500, 64, 3e-3),
    "signals": Task(signals, signal_mae, 600, 128, 3e-3),
    "embeddings": Task(embeddings, lv_mae, 1000, 32, 3e-3),
}


def error_of_mean_patch(model, train: np.ndarray, test: np.ndarray, target=None) -> float:
    """Error of predicting the mean training patch everywhere, of the model's own kind.

    Args:
        model: a masked model.
        train: samples whose patches' mean is predicted.
        test: samples that it is predicted for.
        target: one of the model's, where it has several.

    Returns:
        The mean error of all patches.
    """
    from keras_ssl import losses

    target = target or model.target
    sums = [np.asarray(target(part)) for part in batches(model, train)]
    mean = np.mean([s.mean(axis=(0, 1)) for s in sums], axis=0)
    errors = []
    for x in batches(model, test):
        wanted = np.asarray(target(x))
        guess = np.broadcast_to(mean, wanted.shape).astype("float32")
        errors.append(float(losses.token_error(guess, wanted, None, model.loss)))
    return float(np.mean(errors))


def batches(model, samples: np.ndarray, size: int = 100):
    """Samples as the encoder gets them."""
    for start in range(0, len(samples) - size + 1, size):
        yield model.preprocess(samples[start : start + size])


def probe(model, data) -> dict[str, float]:
    """Linear and kNN accuracy of the representation."""
    from keras_ssl import evaluation

    train, y, test, test_y = data
    found = [np.asarray(model.predict(x, batch_size=200, verbose=0)) for x in (train, test)]
    return {
        "linear": evaluation.linear_probe(found[0], y, found[1], test_y),
        "knn": float(evaluation.knn_accuracy(found[0], y, found[1], test_y, verbose=False)),
    }


def run(name: str, folder: pathlib.Path, seed: int = 0, steps: int | None = None):
    """Trains one task.

    Args:
        name: a key of `TASKS`.
        folder: of the data.
        seed: of weights, masks and order.
        steps: in place of the task's own.

    Returns:
        The trained model, its data, and what `learn` gives with `error` of hidden patches of test
        samples and `mean_patch`, that of the trivial prediction.
    """
    import keras

    task = TASKS[name]
    keras.utils.set_random_seed(seed)
    data, model = task.load(folder), task.build(seed)
    steps = steps or task.steps
    found = learn(model, data, steps, task.batch, task.rate, seed, task.augment)
    whole = len(data[2]) // 100 * 100
    found["error"] = float(model.evaluate(data[2][:whole], batch_size=100, verbose=0)[0])
    found["mean_patch"] = error_of_mean_patch(model, data[0], data[2])
    return model, data, found


def learn(
    model, data, steps: int, batch: int, rate: float, seed: int = 0, augment=None
) -> dict[str, float]:
    """Trains a model with AdamW and a cosine.

    Args:
        model: not compiled yet.
        data: `(train, train labels, test, test labels)`.
        steps: optimizer steps.
        batch: samples of a step.
        rate: peak learning rate.
        seed: of the order.
        augment: see `Task`.

    Returns:
        `steps`, `seconds`, `linear` and `knn` with `random_…` of the untrained encoder.
    """
    from keras_ssl import optimizers, schedules

    start = probe(model, data)
    schedule = schedules.WarmupCosine(rate, total_steps=steps, warmup_steps=steps // 10)
    model.compile(optimizers.AdamW(schedule, beta_2=0.95, weight_decay=0.05))
    epoch = max(len(data[0]) // batch, 1)
    began = time.perf_counter()
    for first in range(0, steps, epoch):
        rng = np.random.default_rng((seed, first))
        rows = rng.permutation(len(data[0]))[: min(epoch, steps - first) * batch]
        x = data[0][rows] if augment is None else augment(data[0][rows], rng)
        model.fit(x, batch_size=batch, shuffle=False, verbose=0)
    seconds = time.perf_counter() - began
    found: dict[str, float] = {"steps": steps, "seconds": seconds, **probe(model, data)}
    return found | {f"random_{key}": value for key, value in start.items()}


def draw(model, samples: np.ndarray, file: pathlib.Path) -> None:
    """Reconstructions of some test samples."""
    import keras

    from keras_ssl import evaluation

    count = 6 if samples.ndim < 5 else 3
    # Those that are mixed make whole groups.
    count -= count % getattr(model.masking, "components", 1)
    shown = samples[:: max(len(samples) // 6, 1)][:count]
    keras.utils.save_img(file, evaluation.reconstruction_picture(model, shown))


def page(results: dict[str, dict[str, float]]) -> str:
    """The page of the documentation."""
    text = (
        "What masked models learn, by `python benchmarks/modalities.py --data-dir DIR --write "
        "docs/benchmarks/modalities.md`: error of hidden patches (of embeddings one minus the "
        "cosine) of test samples beside that of the mean training patch, and accuracy of linear "
        "probe and kNN on the mean of the tokens beside the same encoder untrained. Transformers "
        "of width 64 with two blocks (images: 96, four), AdamW, one seed; seconds on two CPU cores "
        "that did other work besides."
    )
    lines = [
        "| data | steps | error | mean patch | share | linear | untrained | kNN | untrained | s |",
        "|---" * 10 + "|",
    ]
    for name, row in results.items():
        cells = [f"{row['steps']}", f"{row['error']:.3f}", f"{row['mean_patch']:.3f}"]
        cells.append(f"{row['error'] / row['mean_patch']:.2f}")
        cells += [f"{row[k]:.3f}" for k in ("linear", "random_linear", "knn", "random_knn")]
        lines.append(f"| {name} | {' | '.join(cells)} | {row['seconds']:.0f} |")
    return "\n\n".join(["# Modalities", "\n".join(textwrap.wrap(text, 100)), "\n".join(lines)])


def main() -> None:
    """Runs what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data-dir", type=pathlib.Path, required=True)
    parser.add_argument("--tasks", nargs="+", default=list(TASKS), choices=list(TASKS))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int)
    parser.add_argument("--write", help="Markdown file for the table")
    parser.add_argument("--pictures", help="folder for pictures of reconstructions")
    options = parser.parse_args()
    stored = pathlib.Path(options.write).with_suffix(".json") if options.write else None
    results = json.loads(stored.read_text()) if stored and stored.exists() else {}
    for name in options.tasks:
        model, data, found = run(name, options.data_dir, options.seed, options.steps)
        if options.pictures and hasattr(model.target, "to_pixels"):
            draw(model, data[2], pathlib.Path(options.pictures) / f"masked_{name}.png")
        results[name] = {key: round(value, 4) for key, value in found.items()}
        print(name, json.dumps(results[name]), flush=True)
        if stored is not None:
            stored.write_text(json.dumps(results, indent=1) + "\n")
            pathlib.Path(options.write).write_text(page(results) + "\n")


if __name__ == "__main__":
    main()
