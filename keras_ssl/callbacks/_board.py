# SPDX-License-Identifier: Apache-2.0
"""One TensorBoard event file a folder, shared by all callbacks that write there."""

from os import PathLike
from pathlib import Path
from typing import Any, overload
from weakref import WeakValueDictionary

import numpy as np
from keras import ops

from keras_ssl.callbacks._layout import encoded, layout

# TensorBoard leaves an event file for good once a later one appears in the folder, so two open
# writers would lose the points of the first.
_OPEN: WeakValueDictionary[str, "Board"] = WeakValueDictionary()


class Board:
    """Writes scalars and pictures for TensorBoard; get one with `board`.

    Args:
        folder: where the event file goes; made when missing.
    """

    def __init__(self, folder: str) -> None:
        import tensorflow as tf

        self._summary = tf.summary
        self._writer = tf.summary.create_file_writer(folder)
        self._written: dict[str, int] = {}
        self._charts: dict = {}

    def scalar(self, tag: str, value: Any, step: int) -> None:
        """Writes one point, once: a second value for the same tag and step is dropped.

        Args:
            tag: name; TensorBoard groups by the part before the slash.
            value: number, or tensor of one.
            step: position on the horizontal axis.
        """
        if self._written.get(tag) == step:
            return
        self._written[tag] = step
        with self._writer.as_default():
            # On several workers, logs are vectors of one number.
            self._summary.scalar(tag, np.asarray(value).item(), step=step)

    def image(self, tag: str, picture: np.ndarray, step: int, description: str = "") -> None:
        """Writes one picture.

        Args:
            tag: name of the picture.
            picture: (height, width, 1, 3 or 4) uint8.
            step: position of the slider.
            description: Markdown shown beside it.
        """
        with self._writer.as_default():
            self._summary.image(tag, picture[None], step=step, description=description)

    def lay_out(self, step: int) -> None:
        """Arranges the scalars written so far in charts, where others than before have some.

        Args:
            step: TensorBoard takes the layout of the last one.
        """
        charts = layout(self._written)
        if charts != self._charts:
            self._charts = charts
            with self._writer.as_default():
                self._summary.experimental.write_raw_pb(encoded(charts), step=step)

    def flush(self) -> None:
        """Puts everything written so far on the disk."""
        self._writer.flush()


class SilentBoard(Board):
    """The board of workers that are not to write: all that is told to it is forgotten."""

    def __init__(self) -> None:
        pass

    def scalar(self, tag: str, value: Any, step: int) -> None:
        """Nothing."""

    def image(self, tag: str, picture: np.ndarray, step: int, description: str = "") -> None:
        """Nothing."""

    def lay_out(self, step: int) -> None:
        """Nothing."""

    def flush(self) -> None:
        """Nothing."""


def is_chief(model: Any) -> bool:
    """Whether this process writes the files of a run.

    What is computed for them may cross workers, so that all of them compute.

    Args:
        model: a Keras model.

    Returns:
        False on all workers of a `MultiWorkerMirroredStrategy` but the chief, which is the first
        where none is called so.
    """
    extended = getattr(getattr(model, "distribute_strategy", None), "extended", None)
    return getattr(extended, "should_save_summary", True)


@overload
def board(log_dir: None, model: Any) -> None: ...


@overload
def board(log_dir: str | PathLike[str], model: Any) -> Board: ...


def board(log_dir: str | PathLike[str] | None, model: Any) -> Board | None:
    """The shared writer of a folder.

    Args:
        log_dir: folder, or None.
        model: whose run it is.

    Returns:
        The `Board` of that folder, one that writes nothing where another worker does; None without
        a folder.
    """
    if log_dir is None:
        return None
    if not is_chief(model):
        return SilentBoard()
    folder = str(Path(log_dir).resolve())
    shared = _OPEN.get(folder)
    if shared is None:
        shared = _OPEN[folder] = Board(folder)
    return shared


def updates(model: Any) -> int:
    """Number of optimizer updates so far: the horizontal axis of everything written here.

    Args:
        model: a compiled Keras model.

    Returns:
        The count; it goes on from where a resumed run stopped.
    """
    return int(ops.convert_to_numpy(model.optimizer.iterations))
