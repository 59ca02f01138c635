# SPDX-License-Identifier: Apache-2.0
"""What a run has to show: the table of accuracies and the pictures."""

from __future__ import annotations

import logging
import pathlib
from collections.abc import Mapping
from typing import Any

import keras
import numpy as np

from keras_ssl.run.text import columns

logger = logging.getLogger("keras_ssl")

LABELS_PER_CLASS = (1, 2, 5, 10)
DRAWS = 10
RAW, RANDOM, TRAINED = "raw pixels", "random encoder", "pre-trained encoder"
# More points than this make the map slow to compute and no easier to read.
MAP_POINTS = 1000


def missing_labels(source: Any) -> str | None:
    """Why a data set cannot be evaluated on, if so.

    Args:
        source: a `keras_ssl.data.Source`.

    Returns:
        A sentence, or None when it has labels in both parts.
    """
    parts = {"training": source, "test": source.test}
    for name, part in parts.items():
        if part is None:
            return f"{source.name} has no held-out test part"
        if part.labels is None or not (part.labels >= 0).any():
            return f"the {name} part of {source.name} has no labels"
    return None


def features_of(encoder: keras.Model | None, source: Any) -> dict[str, np.ndarray]:
    """Representations of both parts of a data set.

    Args:
        encoder: model from raw images to vectors; None for the pixels themselves, 0..1.
        source: a `keras_ssl.data.Source` with a test part.

    Returns:
        `{"train": (N, D), "test": (M, D)}`.
    """
    from keras_ssl.evaluation import extract_features

    found = {}
    for name, part in {"train": source, "test": source.test}.items():
        if encoder is not None:
            found[name] = extract_features(encoder, part.images)
            continue
        pixels = part.images.reshape(len(part.images), -1).astype("float32")
        found[name] = pixels / 255.0 if part.images.dtype == np.uint8 else pixels
    return found


def measure(features: Mapping[str, np.ndarray], source: Any) -> dict[str, Any]:
    """One row of the table.

    Args:
        features: `{"train": (N, D), "test": (M, D)}`.
        source: the labelled data set they come from.

    Returns:
        `{"labels_per_class": {"1": {"mean", "std"}, …}, "knn"}`, accuracies from 0 to 1.
    """
    from keras_ssl.evaluation import few_label_accuracy, knn_accuracy

    train_y, test_y = source.labels, source.test.labels
    smallest = int(np.unique(train_y[train_y >= 0], return_counts=True)[1].min())
    few = few_label_accuracy(
        features["train"],
        train_y,
        features["test"],
        test_y,
        labels_per_class=[n for n in LABELS_PER_CLASS if n <= smallest],
        draws=DRAWS,
        seed=0,
    )
    k = min(20, int((train_y >= 0).sum()))
    return {
        "labels_per_class": {str(n): {"mean": m, "std": s} for n, (m, s) in few.items()},
        "knn": knn_accuracy(features["train"], train_y, features["test"], test_y, k=k),
    }


def format_table(table: Mapping[str, Mapping[str, Any]]) -> str:
    """The table as text.

    Args:
        table: rows of `measure` by name.

    Returns:
        Lines for a terminal.
    """
    counts = list(dict.fromkeys(n for row in table.values() for n in row["labels_per_class"]))
    header = ["accuracy with", *(f"{n} label{'s' * (n != '1')}/class" for n in counts), "kNN"]
    lines = [header]
    for name, row in table.items():
        few = [row["labels_per_class"].get(n) for n in counts]
        cells = [f"{f['mean']:.3f} ± {f['std']:.3f}" if f else "-" for f in few]
        lines.append([name, *cells, f"{row['knn']:.3f}"])
    text = columns(lines)
    return "\n".join([text[0], "-" * len(text[0]), *text[1:]])


def evaluate_run(
    path: str, *, data: str | None = None, data_dir: str | None = None
) -> dict[str, dict[str, Any]]:
    """The table of a finished run, on its own data or on other images of the same shape.

    Args:
        path: folder of the run.
        data: another data set in the form of `keras_ssl.data.load`; None for the run's own.
        data_dir: where `tfds:` data sets are prepared; None for the run's own.

    Returns:
        Rows of `measure`: raw pixels, random encoder, pre-trained encoder.

    Raises:
        FileNotFoundError: if the folder holds no finished run.
        ValueError: if the data has no labels or its images do not fit the encoder.
    """
    from keras_ssl.run.training import build_model, load_data, set_up

    source, settings, encoder = open_run(path, data=data, data_dir=data_dir)
    reason = missing_labels(source)
    if reason:
        raise ValueError(
            f"Evaluation needs labels, and {reason}. Use class folders (folder:PATH with one "
            "folder a class), &y=NAME for npz, or `keras-ssl embed` for features without labels."
        )
    rows = {RAW: measure(features_of(None, source), source)}
    # The random encoder is the one the run began with: the same seed draws it again.
    strategy = set_up(settings)
    model = build_model(settings, load_data(settings), strategy)[0]
    rows[RANDOM] = measure(features_of(model.standalone_encoder(), source), source)
    rows[TRAINED] = measure(features_of(encoder, source), source)
    return rows


def open_run(path: str, *, data: str | None = None, data_dir: str | None = None) -> Any:
    """Data, settings and encoder of a finished run.

    Args:
        path: folder of the run.
        data: another data set, or None for the run's own.
        data_dir: where `tfds:` data sets are prepared.

    Returns:
        `(source, settings, encoder)`; the encoder takes raw images.

    Raises:
        FileNotFoundError: if the folder holds no finished run.
        ValueError: if the images do not fit the encoder.
    """
    import dataclasses

    from keras_ssl.run.folder import RunFolder, read_json
    from keras_ssl.run.settings import Settings
    from keras_ssl.run.training import load_data, read_model

    folder = RunFolder.open(path)
    settings = Settings.from_config(read_json(folder.config))
    if not folder.encoder.exists():
        raise FileNotFoundError(
            f"{path} has no encoder.keras: the run has not ended. Finish it with "
            f"`keras-ssl pretrain --resume --run-dir {path}`."
        )
    encoder = read_model(folder.encoder)
    here = dataclasses.replace(
        settings,
        data=data or settings.data,
        data_dir=data_dir or settings.data_dir,
        image_size=settings.image_size if data is None else encoder.input_shape[1],
    )
    source = load_data(here)
    if tuple(source.image_shape) != tuple(encoder.input_shape[1:]):
        raise ValueError(
            f"{source.name} has images of shape {source.image_shape}, the encoder of {path} takes "
            f"{tuple(encoder.input_shape[1:])}. Give data with as many channels."
        )
    return source, settings, encoder


def save_views(path: pathlib.Path, model: keras.Model, images: np.ndarray) -> None:
    """Draws images and their views.

    Args:
        path: the PNG.
        model: a joint-embedding model.
        images: (N, H, W, C); the first eight are drawn.
    """
    from keras_ssl.views import show

    views: Any = getattr(model, "views", None)
    # A copy draws them, so that looking leaves the random numbers of the training alone.
    copy = type(views).from_config(views.get_config())
    show(copy, images[:8], count=min(8, len(images))).save(path)


def save_embedding(path: pathlib.Path, features: np.ndarray, labels: np.ndarray | None) -> None:
    """Draws representations on a plane: t-SNE, coloured by label where there are labels.

    Args:
        path: the PNG.
        features: (N, D); at most 1,000 rows are drawn.
        labels: (N,) integers, or None.
    """
    from keras_ssl.evaluation import map_picture, map_points

    features = features[:MAP_POINTS]
    labels = None if labels is None else labels[:MAP_POINTS]
    rows = len(features)
    if rows < 3 or not np.isfinite(features).all():
        logger.warning("embedding.png is left out: it needs three finite representations.")
        return
    method, name = ("tsne", "t-SNE") if rows > 30 else ("pca", "PCA")
    title = f"Representations of the test part ({name})"
    keras.utils.save_img(path, map_picture(map_points(features, method), labels, title))
