# SPDX-License-Identifier: Apache-2.0
"""The encoder of the best epoch, by a number that needs no labels."""

import math
from os import PathLike
from pathlib import Path

import keras
import numpy as np

from keras_ssl.callbacks._board import is_chief
from keras_ssl.callbacks._files import save_whole


class BestEncoder(keras.callbacks.Callback):
    """Saves the encoder whenever a number in the logs is better than ever before.

    The loss does not tell which epoch has the best representation. RankMe needs no labels; place
    the callback that measures it in front. `keras.saving.load_model(path)` gives an ordinary model
    from raw samples to representations.

    Args:
        path: the `.keras` file, replaced in one move.
        criterion: name in the logs of an epoch: "rank_me" (`RepresentationMonitor`), "knn"
            (`OnlineKNN`), "probe" (`OnlineProbe`) or any other.
        mode: "max" or "min"; None for "min" where the name ends in "loss", else "max".

    Attributes:
        best: the best value so far, or None.
        best_epoch: the epoch that had it, from 0.

    Raises:
        ValueError: for another suffix or mode, or where the first epoch's logs lack the criterion.

    Source: RankMe: Assessing the Downstream Performance of Pretrained Self-Supervised
    Representations by Their Rank, 2023.

    Example:
        ```python
        watch = [RepresentationMonitor(images[:1024]), BestEncoder("best.keras")]
        model.fit(images, epochs=100, callbacks=watch)
        ```
    """

    def __init__(
        self, path: str | PathLike[str], criterion: str = "rank_me", mode: str | None = None
    ):
        super().__init__()
        self.path = Path(path)
        mode = mode or ("min" if criterion.endswith("loss") else "max")
        if self.path.suffix != ".keras" or mode not in ("max", "min"):
            raise ValueError(
                f'BestEncoder writes a .keras file by mode "max" or "min"; received '
                f"{str(path)!r} and {mode!r}."
            )
        self.criterion, self.mode = criterion, mode
        self.best: float | None = None
        self.best_epoch: int | None = None

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        """Saves, where the number is the best."""
        if self.criterion not in (logs or {}):
            if self.best is None:
                raise ValueError(
                    f"The logs have no {self.criterion!r} but {sorted(logs or {})}. Put the "
                    "callback that measures it in front of BestEncoder, such as "
                    "RepresentationMonitor or OnlineKNN."
                )
            return
        value = float(np.asarray((logs or {})[self.criterion]).item())
        sign = 1.0 if self.mode == "max" else -1.0
        if not math.isfinite(value) or (self.best is not None and sign * value <= sign * self.best):
            return
        self.best, self.best_epoch = value, epoch
        save_whole(self.model.standalone_encoder(), self.path, is_chief(self.model))
