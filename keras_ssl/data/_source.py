# SPDX-License-Identifier: Apache-2.0
"""The in-memory data set that every loader returns, its fingerprint and its seeded splits."""

import dataclasses
import functools
import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

# Changing this constant would change the held-out rows of every data set without its own test part.
SPLIT_SEED = 0
TEST_FRACTION = 0.2


def permutation(rows: int, *key: int) -> np.ndarray:
    """A permutation that depends on the key alone, on every machine and NumPy version.

    Args:
        rows: Number of elements.
        *key: One or two non-negative integers below 2**64.

    Returns:
        (rows,) int64.
    """
    low, high = (*key, 0)[:2]
    # NumPy promises stable raw bits for its bit generators, but not for Generator.permutation.
    bits = np.random.Philox(key=int(low) + (int(high) << 64)).random_raw(rows)
    return np.argsort(bits, kind="stable")


def fingerprint(*arrays: np.ndarray | None) -> str:
    """sha256 over the type, shape and bytes of the arrays.

    Args:
        *arrays: Arrays of any shape; None counts as a missing array.

    Returns:
        64 hexadecimal digits.
    """
    digest = hashlib.sha256()
    for array in arrays:
        if array is None:
            digest.update(b"none;")
            continue
        digest.update(f"{array.dtype.str}{array.shape};".encode())
        # Blocks keep a memory-mapped array from being read into memory as a whole.
        for start in range(0, len(array), 4096):
            digest.update(np.ascontiguousarray(array[start : start + 4096]).tobytes())
    return digest.hexdigest()


def each_part(images: Any, function: Callable[[np.ndarray], Any]) -> Any:
    """What a function makes of an array, or of every array of a dict."""
    if isinstance(images, Mapping):
        return {name: function(part) for name, part in images.items()}
    return function(images)


def parts_of(images: Any) -> dict[str, np.ndarray]:
    """Arrays by name; one that is not in a dict has an empty one."""
    return dict(images) if isinstance(images, Mapping) else {"": images}


@dataclasses.dataclass(frozen=True, eq=False)
class Source:
    """A data set in memory.

    Args:
        images: (N, H, W, C) uint8 for images, or (N, ...) of any type and rank from an npz file; a
            dict of such arrays for samples of several parts, such as rows of a table.
        labels: (N,) int64, -1 for an unlabelled row; None where the data set has no labels.
        name: What the data set is called in messages.
        test: The held-out part, or None.
        class_names: Names in the order of the label numbers, where they are known.
        skipped: Paths of images that could not be read and were left out.
    """

    images: Any
    labels: np.ndarray | None = None
    name: str = "arrays"
    test: "Source | None" = None
    class_names: tuple[str, ...] | None = None
    skipped: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        parts = parts_of(self.images)
        shapes = {name: part.shape for name, part in parts.items()}
        if not shapes or any(not shape or not shape[0] for shape in shapes.values()):
            raise ValueError(
                f"{self.name} holds no rows (shape {each_part(self.images, np.shape)}); expected "
                "at least one. Check the path, the split and `limit`."
            )
        if len({shape[0] for shape in shapes.values()}) > 1:
            raise ValueError(f"{self.name} has arrays of {shapes}; expected as many rows in each.")
        if self.labels is not None and self.labels.shape != (len(self),):
            raise ValueError(
                f"{self.name} has labels of shape {self.labels.shape} for {len(self)} rows; "
                f"expected ({len(self)},). Pass one integer label per row."
            )

    def __len__(self) -> int:
        return len(next(iter(parts_of(self.images).values())))

    @property
    def image_shape(self) -> Any:
        """Shape of one row, without the number of rows; of every part by name in a dict."""
        return each_part(self.images, lambda part: tuple(part.shape[1:]))

    @property
    def num_classes(self) -> int | None:
        """Number of classes, counted over both parts; None without labels."""
        if self.class_names is not None:
            return len(self.class_names)
        if self.labels is None:
            return None
        highest = int(self.labels.max())
        if self.test is not None and self.test.labels is not None:
            highest = max(highest, int(self.test.labels.max()))
        return highest + 1

    @functools.cached_property
    def fingerprint(self) -> str:
        """sha256 (hexadecimal) of the content: rows and labels of this part and the test part."""
        parts = sorted(parts_of(self.images).items())
        own = fingerprint(*(part for _, part in parts), self.labels)
        if self.test is None:
            return own
        return hashlib.sha256((own + self.test.fingerprint).encode()).hexdigest()

    def take(self, rows: int, *, seed: int = SPLIT_SEED) -> "Source":
        """A smaller data set: a seeded draw that keeps the class proportions.

        Args:
            rows: Rows to keep; all of them when there are fewer.
            seed: Seed of the draw.

        Returns:
            A Source with the same test part.

        Raises:
            ValueError: If `rows` is not positive.
        """
        if rows < 1:
            raise ValueError(f"Cannot keep {rows} rows of {self.name}; pass at least 1.")
        if rows >= len(self):
            return self
        chosen = _draw(self.labels, len(self), rows, seed)
        return dataclasses.replace(self, **_part(self, chosen))

    def holdout(self, fraction: float = TEST_FRACTION, *, seed: int = SPLIT_SEED) -> "Source":
        """Sets rows aside as the test part, with the same class proportions.

        Rows labelled -1 stay in the training part: they cannot be used for a score.

        Args:
            fraction: Share of the labelled rows to set aside, in (0, 1).
            seed: Seed of the split; the default is fixed, so scores can be compared.

        Returns:
            A Source whose `.test` holds the other rows; self where there is nothing to split.
        """
        if self.labels is None:
            return self
        labelled = np.flatnonzero(self.labels >= 0)
        count = round(fraction * len(labelled))
        if count == 0 or count == len(self):
            return self
        drawn = labelled[_draw(self.labels[labelled], len(labelled), count, seed)]
        kept = np.setdiff1d(np.arange(len(self)), drawn)
        test = dataclasses.replace(
            self, **_part(self, drawn), name=f"{self.name} (test)", test=None, skipped=()
        )
        return dataclasses.replace(self, **_part(self, kept), test=test)


def _part(source: Source, rows: np.ndarray) -> dict:
    labels = None if source.labels is None else source.labels[rows]
    return {"images": each_part(source.images, lambda part: part[rows]), "labels": labels}


def _draw(labels: np.ndarray | None, rows: int, count: int, seed: int) -> np.ndarray:
    """Sorted row numbers of a seeded draw, in proportion to the classes where there are labels."""
    order = permutation(rows, seed)
    if labels is None:
        return np.sort(order[:count])
    shuffled = labels[order]
    # The j-th of n rows of a class gets the position (j + 1/2) / n: the first `count` positions
    # then hold every class in proportion, whatever the count.
    position = np.empty(rows)
    for value in np.unique(labels):
        members = np.flatnonzero(shuffled == value)
        position[members] = (np.arange(len(members)) + 0.5) / len(members)
    return np.sort(order[np.argsort(position, kind="stable")[:count]])


def as_labels(labels: np.ndarray, name: str) -> tuple[np.ndarray, tuple[str, ...] | None]:
    """Class numbers from an array of integers, whole floats, booleans or strings.

    Args:
        labels: (N,) or (N, 1).
        name: What the array is called in messages.

    Returns:
        (N,) int64, and the class names where the labels were strings.

    Raises:
        ValueError: For another rank, or for numbers that are not whole.
    """
    labels = np.asarray(labels)
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.ndim != 1:
        raise ValueError(
            f"Labels {name} have shape {labels.shape}; expected (N,), one class number per row."
        )
    if labels.dtype.kind in "US":
        names, numbers = np.unique(labels, return_inverse=True)
        return numbers.astype(np.int64), tuple(str(value) for value in names)
    if labels.dtype.kind == "f" and not np.array_equal(labels, np.floor(labels)):
        raise ValueError(
            f"Labels {name} are not whole numbers; expected class numbers 0, 1, … "
            "(-1 for unlabelled). Leave y out to load the data set without labels."
        )
    if labels.dtype.kind not in "fiub":
        raise ValueError(f"Labels {name} have type {labels.dtype}; expected integers or strings.")
    return labels.astype(np.int64), None


def check_fields(given: Sequence[str], known: Sequence[str], what: str) -> None:
    """Raises a ValueError that lists the known fields if an unknown one is given."""
    unknown = sorted(set(given) - set(known))
    if unknown:
        raise ValueError(f"Unknown {what} {', '.join(unknown)}; known: {', '.join(known)}.")
