# SPDX-License-Identifier: Apache-2.0
"""What fine-tuning sees: checked images and labels, and augmented batches of them."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras import ops

from keras_ssl.core.seeds import layer_seed
from keras_ssl.data import epoch_order
from keras_ssl.views import Pipeline, Preprocessing


class Batches(keras.utils.PyDataset):
    """Shuffled whole batches, augmented and mixed; a function of (seed, epoch, batch) alone.

    It runs outside of the compiled step, since Keras's mixing layers do not compile under XLA, and
    on the global batch, so that no two replicas draw alike.

    Args:
        images: `(N, H, W, C)` uint8 or float32.
        targets: `(N,)` classes, or `(N, L)` labels of 0 and 1.
        outputs: number of classes or labels.
        batch_size: rows of a batch; the rows that fill no batch wait for the next epoch.
        size: height and width of the result.
        view: pipeline that makes the view of an image, or None.
        erase: probability with which a box of an image is filled with noise.
        mixup: parameter of the Beta distribution, 0 for none.
        cutmix: as `mixup`; a batch gets one of both.
        seed: integer.

    Item: images `(B, *size, C)` float32 and targets `(B, outputs)` float32.
    """

    def __init__(
        self,
        images: np.ndarray,
        targets: np.ndarray,
        outputs: int,
        batch_size: int,
        resize: Preprocessing,
        *,
        view: Pipeline | None = None,
        erase: float = 0.0,
        mixup: float = 0.0,
        cutmix: float = 0.0,
        seed: int = 0,
    ):
        super().__init__()
        self.images, self.targets, self.outputs = images, targets, outputs
        self.batch_size, self.view, self.seed, self.epoch = batch_size, view, seed, 0
        # The order of the epoch that was asked for last, since all its batches come from it.
        self._order = -1, np.empty(0, np.int64)
        # A view has cut out already what is to be seen.
        self.preprocess = resize if view is None else resize.changed(crop_fraction=1.0)
        self.erase = erase
        # It draws noise for every pixel of what it gets, so it gets the images to be erased only.
        self.eraser = keras.layers.RandomErasing(
            (1, 1), (0.02, 1 / 3), value_range=(0, 1), dtype="float32"
        )
        self.mixers = []
        if mixup:
            self.mixers.append(keras.layers.MixUp(mixup, dtype="float32"))
        if cutmix:
            self.mixers.append(keras.layers.CutMix((cutmix, cutmix), dtype="float32"))

    def __len__(self) -> int:
        return len(self.images) // self.batch_size

    def on_epoch_end(self) -> None:
        """Turns to the next order."""
        self.epoch += 1

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        if self._order[0] != self.epoch:
            self._order = self.epoch, epoch_order(len(self.images), self.seed, self.epoch)
        rows = self._order[1][index * self.batch_size : (index + 1) * self.batch_size]
        x, y = ops.convert_to_tensor(self.images[rows]), self.targets[rows]
        y = (keras.utils.to_categorical(y, self.outputs) if y.ndim == 1 else y).astype("float32")
        key = layer_seed(self.seed, self.epoch, index) or 0
        if self.view is not None:
            x = self.view(x, seed=key)
        x = ops.convert_to_numpy(self.preprocess(x))
        chance = np.random.default_rng(key)
        erased = np.flatnonzero(chance.random(len(x)) < self.erase)
        if len(erased):
            x = np.array(x)
            x[erased] = _seeded(self.eraser, key, 1)(x[erased], training=True)
        if self.mixers:
            mixer = _seeded(self.mixers[chance.integers(len(self.mixers))], key, 2)
            mixed = mixer({"images": x, "labels": y}, training=True)
            x, y = (ops.convert_to_numpy(mixed[name]) for name in ("images", "labels"))
        return x, y


def _seeded(layer: Any, key: int, place: int) -> Any:
    """A Keras layer that draws from a known state."""
    layer.generator.state.assign([layer_seed(key, place), 0])
    return layer


def labelled_images(
    images: Any, labels: Any, name: str, multi_label: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Checks images and labels and drops the rows whose class is -1.

    Args:
        images: `(N, H, W, C)` uint8 or float.
        labels: `(N,)` integer classes, -1 for unlabelled; `(N, L)` of 0 and 1 with several
            labels an image.
        name: prefix of the arguments in an error, "train" or "test".
        multi_label: whether an image has several labels.

    Returns:
        Images, uint8 or float32, and labels, int64 or float32, of the labelled rows.

    Raises:
        ValueError: if either is missing, of another shape or kind, or not finite.
    """
    images = np.asarray(images)
    known = images.dtype == np.uint8 or images.dtype.kind == "f"
    if images.ndim != 4 or not known or not len(images):
        raise ValueError(
            f"{name}_images have shape {images.shape} and dtype {images.dtype}, expected (N, "
            "height, width, channels), uint8 of 0..255 or float of 0..1. Grey images need a "
            f"channel axis: {name}_images[..., None]."
        )
    if images.dtype != np.uint8:
        images = images.astype("float32")
        broken = np.flatnonzero(~np.isfinite(images).all(axis=(1, 2, 3)))
        if len(broken):
            raise ValueError(
                f"{name}_images hold NaN or infinity in {len(broken)} of {len(images)} rows "
                f"(first: row {broken[0]}). Remove or repair them."
            )
    if labels is None:
        raise ValueError(f"{name}_labels is None: fine-tuning needs labels.")
    check = _many_labels if multi_label else _classes
    labels = check(np.asarray(labels), len(images), f"{name}_labels")
    if multi_label:
        return images, labels
    keep = labels >= 0
    if not keep.any():
        raise ValueError(f"{name}_labels have no labelled row ({len(labels)} rows, all -1).")
    # Without this all images would be copied where none is dropped.
    return (images, labels) if keep.all() else (images[keep], labels[keep])


def output_count(train_labels: np.ndarray, test_labels: np.ndarray) -> int:
    """Number of classes, or of labels an image.

    Args:
        train_labels: as `labelled_images` gives them.
        test_labels: as `train_labels`.

    Returns:
        The number.

    Raises:
        ValueError: if there is one class only, or the labels of an image differ in number.
    """
    if train_labels.ndim == 1:
        if train_labels.min() == train_labels.max():
            raise ValueError(
                f"train_labels hold class {train_labels[0]} only, expected at least two classes."
            )
        return int(max(train_labels.max(), test_labels.max())) + 1
    if train_labels.shape[1] != test_labels.shape[1]:
        raise ValueError(
            f"train_labels have {train_labels.shape[1]} labels an image and test_labels "
            f"{test_labels.shape[1]}, expected the same labels in the same order."
        )
    return train_labels.shape[1]


def check_images(
    train: np.ndarray, test: np.ndarray, channels: int, view: Pipeline | None, settings: Any
) -> None:
    """Raises unless images fit each other, the encoder and the views.

    Args:
        train: images as `labelled_images` gives them.
        test: as `train`.
        channels: of the encoder's input.
        view: the view that was asked for, or None.
        settings: a `FineTuneRecipe`.

    Raises:
        ValueError: for another size, channel count, kind or range.
    """
    if train.shape[1:] != test.shape[1:] or train.shape[-1] != channels:
        raise ValueError(
            f"train_images have shape {train.shape[1:]}, test_images {test.shape[1:]} and the "
            f"encoder takes {channels} channels, expected the same. Resize images, "
            "or convert their channels, first."
        )
    if train.dtype != test.dtype:
        raise ValueError(
            f"train_images are {train.dtype} and test_images {test.dtype}, expected both uint8 of "
            "0..255 or both float of 0..1."
        )
    if view is not None and view.normalize is not None:
        raise ValueError(
            "view ends in Normalize, which test images would miss. Leave it out, and pass "
            "preprocess=view.preprocessing."
        )
    augmented = view is not None or settings.crop or settings.flip or settings.erase
    if augmented and train.dtype != np.uint8 and (train.min() < 0.0 or train.max() > 1.0):
        raise ValueError(
            f"train_images are floats from {train.min():.4g} to {train.max():.4g}; views are made "
            "of uint8 of 0..255 or floats of 0..1. Give raw images and normalise by preprocess=, "
            "or turn views off: crop=None, flip=0, erase=0."
        )


def _classes(labels: np.ndarray, rows: int, name: str) -> np.ndarray:
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.shape != (rows,):
        raise ValueError(
            f"{name} have shape {labels.shape}, expected ({rows},): one class index an image (not "
            "one-hot). Several labels an image need multi_label=True."
        )
    if labels.dtype.kind not in "iufb" or np.any(labels != np.floor(labels)) or labels.min() < -1:
        raise ValueError(
            f"{name} have dtype {labels.dtype}, expected integer class indices from 0, or -1 for "
            "unlabelled."
        )
    return labels.astype("int64")


def _many_labels(labels: np.ndarray, rows: int, name: str) -> np.ndarray:
    labels = labels[:, None] if labels.ndim == 1 else labels
    if labels.ndim != 2 or len(labels) != rows:
        raise ValueError(
            f"{name} have shape {labels.shape}, expected ({rows}, labels) with multi_label=True."
        )
    if not np.isin(labels, (0, 1)).all():
        raise ValueError(
            f"{name} hold other values than 0 and 1. Decide unknown or uncertain labels first."
        )
    return labels.astype("float32")
