# SPDX-License-Identifier: Apache-2.0
"""A folder of images, decoded once into a square uint8 cache."""

import contextlib
import hashlib
import itertools
import json
import os
import shutil
import tempfile
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from keras_ssl.data._images import read_square
from keras_ssl.data._source import Source

# Part of every cache key: raise it when the conversion of an image changes.
_VERSION = 1
_IN_MEMORY_BYTES = 2 * 2**30
_SUFFIXES = frozenset(
    [".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"]
)


def cache_root() -> Path:
    """Where decoded folders are kept: $KERAS_SSL_CACHE, or ~/.cache/keras_ssl."""
    return Path(os.environ.get("KERAS_SSL_CACHE") or "~/.cache/keras_ssl").expanduser()


def load_folder(path: str, size: int, channels: int, on_corrupt: str) -> Source:
    """Images in class folders, in one flat folder, or in `train/` and `test/` (or `val/`).

    Nothing is written to the folder; the decoded images go to `cache_root()` under a key made
    from the bytes of every file, so that a changed image makes a new cache.

    Args:
        path: The folder.
        size: Side of the square images in pixels.
        channels: 1, 3 or 4.
        on_corrupt: "raise" or "skip".

    Returns:
        The data set; rows in the order of the relative paths, classes in the order of the names.

    Raises:
        FileNotFoundError: If there is no such folder.
        ValueError: If it holds no image, mixes both layouts, or an image cannot be read.
    """
    root = Path(path).expanduser()
    if not root.is_dir():
        raise FileNotFoundError(f"No folder {root}; expected a folder of images (folder:PATH).")
    train = root / "train"
    held_out = next((root / name for name in ("test", "val") if (root / name).is_dir()), None)
    if not train.is_dir() or held_out is None:
        return _load_part(root, size, channels, on_corrupt, _classes(root))[0]
    classes = _classes(train)
    unknown = sorted(set(_classes(held_out) or ()) - set(classes or ()))
    if unknown:
        raise ValueError(
            f"{held_out} has the classes {', '.join(unknown)}, which {train} lacks; expected the "
            "same class folders in both."
        )
    test, _ = _load_part(held_out, size, channels, on_corrupt, classes)
    return _load_part(train, size, channels, on_corrupt, classes, test)[0]


def _images(folder: Path, *, deep: bool) -> list[Path]:
    found = folder.rglob("*") if deep else folder.iterdir()
    # Hidden files are left out: file managers leave "._name.jpg" files that are no images.
    files = [
        file
        for file in found
        if file.suffix.lower() in _SUFFIXES and not file.name.startswith(".") and file.is_file()
    ]
    return sorted(files, key=lambda file: file.relative_to(folder).as_posix())


def _classes(root: Path) -> tuple[str, ...] | None:
    """Names of the class folders; None where the folder is flat."""
    folders = [entry for entry in root.iterdir() if entry.is_dir() and entry.name[0] != "."]
    classes = tuple(sorted(folder.name for folder in folders if _images(folder, deep=True)))
    flat = _images(root, deep=False)
    if flat and classes:
        raise ValueError(
            f"{root} holds images beside the folders {', '.join(classes[:5])}; expected either "
            f"class folders or a flat folder. Move {flat[0].name} and the like into a class folder."
        )
    return classes or None


def _load_part(
    root: Path,
    size: int,
    channels: int,
    on_corrupt: str,
    classes: tuple[str, ...] | None,
    test: Source | None = None,
) -> tuple[Source, list[str]]:
    files = _images(root, deep=True)
    if not files:
        raise ValueError(
            f"{root} holds no image (looked for {', '.join(sorted(_SUFFIXES))}, subfolders "
            "included); check the path."
        )
    names = [file.relative_to(root).as_posix() for file in files]
    cache = cache_root() / "folders" / _content_key(root, names, size, channels)
    if not (cache / "rows.json").is_file():
        _fill(cache, files, names, size, channels)
    failed: dict[str, str] = json.loads((cache / "rows.json").read_text("utf-8"))
    _report(root, failed, len(files), on_corrupt)
    kept = [name for name in names if name not in failed]
    if not kept:
        raise ValueError(f"No image of {root} could be read ({len(files)} tried).")
    array = np.load(cache / "images.npy", mmap_mode="r")
    # More than this stays on disk and is paged in; a batch is gathered row by row either way.
    images = array if array.nbytes > _IN_MEMORY_BYTES else np.array(array)
    labels = None
    if classes is not None:
        number = {name: index for index, name in enumerate(classes)}
        labels = np.array([number[name.split("/")[0]] for name in kept], np.int64)
    source = Source(
        images,
        labels,
        name=f"folder:{root}",
        test=test,
        class_names=classes,
        skipped=tuple(failed),
    )
    return source, kept


def _content_key(root: Path, names: list[str], size: int, channels: int) -> str:
    digest = hashlib.sha256(f"{_VERSION};{size};{channels};".encode())
    for name in names:
        with open(root / name, "rb") as file:
            content = hashlib.file_digest(file, "sha256").hexdigest()
        digest.update(f"{name}\0{content}\n".encode())
    return digest.hexdigest()


def _report(root: Path, failed: dict[str, str], count: int, on_corrupt: str) -> None:
    if not failed:
        return
    listed = "; ".join(f"{name} ({reason})" for name, reason in itertools.islice(failed.items(), 5))
    more = f"; and {len(failed) - 5} more" if len(failed) > 5 else ""
    message = f"{len(failed)} of {count} images in {root} cannot be read: {listed}{more}"
    if on_corrupt == "raise":
        raise ValueError(f"{message}. Repair or remove them, or pass on_corrupt='skip'.")
    warnings.warn(f"{message}. Skipped.", stacklevel=4)


def _decode(task: tuple[Path, int, int]) -> np.ndarray | str:
    try:
        return read_square(str(task[0]), task[1], task[2])
    # Pillow's decoders raise many types on damaged files (struct.error, EOFError, ...).
    except Exception as error:
        return f"{type(error).__name__}: {error}".splitlines()[0][:200]


def _fill(cache: Path, files: list[Path], names: list[str], size: int, channels: int) -> None:
    """Decodes the files into `cache`, which appears whole or not at all."""
    import keras

    cache.parent.mkdir(parents=True, exist_ok=True)
    with _scratch(cache.parent) as scratch:
        shape = (len(files), size, size, channels)
        decoded = np.lib.format.open_memmap(scratch / "all.npy", "w+", np.uint8, shape)
        progress = keras.utils.Progbar(len(files), unit_name="image")
        failed: dict[str, str] = {}
        rows = 0
        for index, result in enumerate(_decoded(files, size, channels)):
            if isinstance(result, str):
                failed[names[index]] = result
            else:
                decoded[rows] = result
                rows += 1
            progress.update(index + 1)
        if failed:
            if rows:
                final = np.lib.format.open_memmap(
                    scratch / "images.npy", "w+", np.uint8, (rows, *shape[1:])
                )
                for start in range(0, rows, 1024):
                    stop = min(start + 1024, rows)
                    final[start:stop] = decoded[start:stop]
                del final
            del decoded
            (scratch / "all.npy").unlink()
        else:
            decoded.flush()
            del decoded
            (scratch / "all.npy").rename(scratch / "images.npy")
        (scratch / "rows.json").write_text(json.dumps(failed), "utf-8")
        # Another process may have finished the same cache meanwhile: then its copy stays.
        with contextlib.suppress(OSError):
            scratch.rename(cache)


def _decoded(files: list[Path], size: int, channels: int) -> Iterator[np.ndarray | str]:
    workers = min(16, (os.cpu_count() or 1))
    with ThreadPoolExecutor(workers) as pool:
        # Blocks bound the decoded images that wait in memory.
        for start in range(0, len(files), 256):
            block = files[start : start + 256]
            yield from pool.map(_decode, [(file, size, channels) for file in block])


@contextlib.contextmanager
def _scratch(parent: Path) -> Iterator[Path]:
    path = Path(tempfile.mkdtemp(prefix=".part-", dir=parent))
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)
