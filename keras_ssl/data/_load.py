# SPDX-License-Identifier: Apache-2.0
"""`load`: one data set by its short text form."""

import dataclasses
import os
import urllib.parse
from typing import Any

import numpy as np

from keras_ssl.data._images import check_channels, to_square
from keras_ssl.data._source import Source, as_labels, check_fields

KINDS = "digits, tfds:NAME, folder:PATH, npz:PATH?x=NAME&y=NAME"


def load(
    spec: str,
    *,
    image_size: int | None = None,
    channels: int | None = None,
    data_dir: str | None = None,
    split: str | None = None,
    limit: int | None = None,
    on_corrupt: str = "raise",
) -> Source:
    """Loads a data set into memory.

    - `digits`: scikit-learn's handwritten digits, 1,797 images, default 16x16x1.
    - `tfds:NAME`: TensorFlow Datasets; images and labels of the features `image` and `label`.
    - `folder:PATH`: images in class folders, in one flat folder, or in `train/` and `test/`.
    - `npz:PATH?x=NAME&y=NAME&x_test=NAME&y_test=NAME`: arrays of any rank; all but x optional.

    A labelled data set without a test part of its own has 20 % of its rows set aside, with the
    class proportions kept, by a fixed seed (`Source.holdout`).

    Args:
        spec: The data set.
        image_size: Side of the square images; None keeps the stored size (folders: 64).
        channels: 1, 3 or 4; None keeps the stored channels (folders: 3).
        data_dir: Where `tfds:` looks for prepared data; None is the default of TFDS.
        split: None or "train": the training part with `.test`; "test": only the test part;
            "all": every row and no test part. `tfds:` also takes TFDS expressions.
        limit: Keeps at most this many rows (not of `.test`), drawn in class proportion.
        on_corrupt: "raise" or "skip" for images that cannot be read.

    Returns:
        The data set.

    Raises:
        ValueError: For an unknown form, an array that is not there, an empty data set, or images
            that do not have the expected rank or channels.
        FileNotFoundError: For a path or a prepared data set that does not exist.

    Example:

    ```python
    source = load("digits")
    source.images.shape, source.test.images.shape  # (1438, 16, 16, 1), (359, 16, 16, 1)
    ```
    """
    kind, _, rest = spec.partition(":")
    _check_options(image_size, channels, on_corrupt)
    if spec == "digits":
        source = _digits(image_size or 16, channels or 1)
    elif kind == "tfds" and rest:
        source, split = _tfds(rest, image_size, channels, data_dir, split)
    elif kind == "folder" and rest:
        from keras_ssl.data._folder import load_folder

        source = load_folder(rest, image_size or 64, channels or 3, on_corrupt)
    elif kind == "npz" and rest:
        source = _npz(rest, image_size, channels)
    else:
        raise ValueError(f"Unknown data set {spec!r}; expected one of: {KINDS}.")
    source = _choose(source, split)
    return source if limit is None else source.take(limit)


def _check_options(image_size: int | None, channels: int | None, on_corrupt: str) -> None:
    if on_corrupt not in ("raise", "skip"):
        raise ValueError(f"on_corrupt is {on_corrupt!r}; expected 'raise' or 'skip'.")
    if channels is not None:
        check_channels(channels)
    if image_size is not None and image_size < 1:
        raise ValueError(f"image_size is {image_size}; expected a side of at least 1 pixel.")


def _choose(source: Source, split: str | None) -> Source:
    if split not in (None, "train", "test", "all"):
        raise ValueError(f"split is {split!r}; expected 'train', 'test' or 'all'.")
    if split == "all":
        if source.test is None:
            return source
        labels = None
        if source.labels is not None and source.test.labels is not None:
            labels = np.concatenate([source.labels, source.test.labels])
        images = np.concatenate([source.images, source.test.images])
        return dataclasses.replace(source, images=images, labels=labels, test=None)
    if source.test is None:
        source = source.holdout()
    if split == "test":
        if source.test is None:
            raise ValueError(
                f"{source.name} has no test part and no labels to split by; use split=None."
            )
        return source.test
    return source


def _digits(size: int, channels: int) -> Source:
    from sklearn.datasets import load_digits

    bunch = load_digits()
    # The stored pixels are counts from 0 to 16.
    pixels = np.rint(bunch.images * (255 / 16)).astype(np.uint8)
    images = np.stack([to_square(image, size, channels) for image in pixels])
    return Source(images, bunch.target.astype(np.int64), name="digits")


def _npz(rest: str, size: int | None, channels: int | None) -> Source:
    path, _, query = rest.partition("?")
    names = dict(urllib.parse.parse_qsl(query, keep_blank_values=True))
    check_fields(list(names), ["x", "y", "x_test", "y_test"], "field in the npz specification:")
    if "y_test" in names and "x_test" not in names:
        raise ValueError("y_test is given without x_test; add &x_test=NAME.")
    path = os.path.expanduser(path)
    if not os.path.isfile(path):
        raise FileNotFoundError(f"No file {path}; expected an .npz file (npz:PATH?x=NAME).")
    try:
        archive = np.load(path, allow_pickle=False)
    except (ValueError, OSError) as error:
        raise ValueError(f"{path} is not an .npz archive of plain arrays: {error}") from error
    if not hasattr(archive, "files"):
        raise ValueError(f"{path} holds one bare array; expected an archive made by np.savez.")
    with archive:

        def array(field: str, default: str | None = None) -> np.ndarray | None:
            name = names.get(field, default)
            if name is None:
                return None
            if name not in archive.files:
                raise ValueError(
                    f"{path} has no array {name!r} for {field}; it holds: "
                    f"{', '.join(archive.files)}. Write npz:PATH?{field}=NAME."
                )
            try:
                return archive[name]
            except ValueError as error:
                raise ValueError(
                    f"Array {name!r} in {path} holds Python objects, which are not loaded because "
                    "that could run code; store it again as plain numbers or strings."
                ) from error

        x, y, x_test, y_test = array("x", "x"), array("y"), array("x_test"), array("y_test")
    name = f"npz:{os.path.basename(path)}"
    test = None
    if x is not None and x_test is not None:
        test = _arrays(x_test, y_test, f"{name} (test)", size, channels)
        if test.image_shape != _arrays(x[:1], None, name, size, channels).image_shape:
            raise ValueError(f"{name}: rows of x_test are {test.image_shape}, unlike those of x.")
    return dataclasses.replace(_arrays(x, y, name, size, channels), test=test)


def _arrays(x: Any, y: Any, name: str, size: int | None, channels: int | None) -> Source:
    if x.ndim == 0 or len(x) == 0:
        raise ValueError(f"{name} is empty (shape {x.shape}); expected rows along the first axis.")
    if x.dtype.kind not in "buif":
        raise ValueError(f"{name} has type {x.dtype}; expected numbers.")
    if size is not None or channels is not None:
        x = _fit_images(x, name, size, channels)
    if y is None:
        return Source(x, name=name)
    labels, class_names = as_labels(y, f"of {name}")
    return Source(x, labels, name=name, class_names=class_names)


def _fit_images(x: np.ndarray, name: str, size: int | None, channels: int | None) -> np.ndarray:
    """Brings stored images to the asked side and channels."""
    if x.ndim == 3:
        x = x[..., None]
    if x.ndim != 4 or x.shape[-1] not in (1, 3, 4):
        raise ValueError(
            f"{name} has shape {x.shape}; image_size and channels need images (N, H, W) or "
            "(N, H, W, C) with 1, 3 or 4 channels. Leave both out for other data."
        )
    target = (size or x.shape[1], size or x.shape[2], channels or x.shape[3])
    if x.shape[1:] == target:
        return x
    if x.dtype != np.uint8 or (size is None and x.shape[1] != x.shape[2]):
        raise ValueError(
            f"{name} holds {x.dtype} images {x.shape[1:]}; converting to {target} needs square "
            "uint8 images (or image_size). Convert them before saving."
        )
    return np.stack([to_square(image, target[0], target[2]) for image in x])


def _tfds(
    name: str, size: int | None, channels: int | None, data_dir: str | None, split: str | None
) -> tuple[Source, str | None]:
    import tensorflow_datasets as tfds

    where = os.path.expanduser(data_dir) if data_dir else None
    advice = (
        f"Run `tfds build {name}` on a machine with network access, or point data_dir at a "
        f"folder that holds the prepared data set (now: {where or 'the default of TFDS'})."
    )
    try:
        builder = tfds.builder(name, data_dir=where)
        if not builder.is_prepared():
            builder.download_and_prepare()
    except Exception as error:
        raise FileNotFoundError(
            f"tfds:{name} is not prepared and could not be fetched. {advice} "
            f"Cause: {type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
        ) from error
    if "image" not in (builder.info.features or {}):
        raise ValueError(
            f"tfds:{name} has the features {', '.join(builder.info.features)}; expected `image`."
        )
    if split not in (None, "train", "test", "all"):
        return _tfds_part(builder, name, split, size, channels), "all"
    if "train" not in builder.info.splits:
        raise ValueError(
            f"tfds:{name} has the splits {', '.join(builder.info.splits)} and no train; "
            "name one with split=..."
        )
    has_test = "test" in builder.info.splits
    if split == "test" and has_test:
        return _tfds_part(builder, name, "test", size, channels), "all"
    source = _tfds_part(builder, name, "train", size, channels)
    if has_test:
        test = _tfds_part(builder, name, "test", size, channels)
        source = dataclasses.replace(source, test=test)
    return source, split


def _tfds_part(
    builder: Any, name: str, split: str, size: int | None, channels: int | None
) -> Source:
    labelled = "label" in builder.info.features
    keys = ["image", "label"] if labelled else ["image"]
    dataset = builder.as_dataset(split=split, shuffle_files=False)
    dataset = dataset.map(lambda row: {key: row[key] for key in keys})
    shape = builder.info.features["image"].shape
    fixed = None not in shape
    if not fixed and size is None:
        raise ValueError(f"tfds:{name} has images of shape {shape}; pass image_size=...")
    if fixed and size in (None, *shape[:1]) and channels in (None, shape[-1]):
        rows = list(dataset.batch(1024).prefetch(2).as_numpy_iterator())
        images = np.concatenate([row["image"] for row in rows]) if rows else np.zeros((0, *shape))
        labels = np.concatenate([row["label"] for row in rows]) if labelled and rows else None
    else:
        count = int(dataset.cardinality())
        side, depth = size or shape[0], channels or shape[-1] or 3
        images, label_list = np.empty((max(count, 0), side, side, depth), np.uint8), []
        for index, row in enumerate(dataset.as_numpy_iterator()):
            images[index] = to_square(row["image"], side, depth)
            label_list.append(row.get("label"))
        labels = np.asarray(label_list) if labelled else None
    names = getattr(builder.info.features["label"], "names", None) if labelled else None
    title = f"tfds:{name}" if split == "train" else f"tfds:{name} ({split})"
    class_names = tuple(names) if names else None
    numbers = as_labels(labels, f"of {title}")[0] if labels is not None else None
    return Source(images, numbers, name=title, class_names=class_names)
