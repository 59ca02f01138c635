# SPDX-License-Identifier: Apache-2.0
"""A copy of the whole training state from just before annealing."""

from os import PathLike
from pathlib import Path

import keras

from keras_ssl.callbacks._board import is_chief, updates
from keras_ssl.callbacks._files import save_whole


class AnnealBranch(keras.callbacks.Callback):
    """Saves the model with its optimizer's moments at the step at which annealing begins.

    `fit` goes on and anneals, for a model to use; more data are learned from the file:
    `keras_ssl.load_model(path)` gives the state before annealing, whose step goes on counting, with
    a schedule that anneals later. Weights without the moments that belong to them would have the
    first steps of the next task go anywhere.

    Args:
        path: the `.keras` file, written in one move.
        at_step: number of updates at which it is saved, `InfiniteSchedule.anneal_start`.

    Attributes:
        saved: whether this run has written the file.

    Raises:
        ValueError: for another suffix or a step below 1; when training begins, if it is past that
            step and there is no such file, or if `steps_per_execution` would miss it.

    Source: Beyond Cosine Decay: On the effectiveness of Infinite Learning Rate Schedule for
    Continual Pre-training, 2025, section 3.

    Example:
        ```python
        model.compile(optimizers.AdamW(InfiniteSchedule(..., anneal_start=800, anneal_steps=200)))
        model.fit(first, epochs=10, callbacks=[AnnealBranch("branch.keras", 800)])
        again = keras_ssl.load_model("branch.keras")
        again.optimizer.learning_rate = InfiniteSchedule(..., anneal_start=1600, anneal_steps=200)
        again.fit(second, epochs=10)
        ```
    """

    def __init__(self, path: str | PathLike[str], at_step: int):
        super().__init__()
        self.path = Path(path)
        if self.path.suffix != ".keras":
            raise ValueError(f"AnnealBranch writes a .keras file; received {str(path)!r}.")
        if at_step < 1:
            raise ValueError(f"at_step is {at_step}, expected a number of updates from 1.")
        self.at_step = int(at_step)
        self.saved = False

    def on_train_begin(self, logs: dict | None = None) -> None:
        """Requires the step to lie ahead, unless an earlier run has written the file."""
        done, stride = updates(self.model), self.model.steps_per_execution
        if done > self.at_step and self.path.exists():
            return
        if done > self.at_step or (self.at_step - done) % stride:
            raise ValueError(
                f"AnnealBranch saves at update {self.at_step}, but {done} are done and every call "
                f"does {stride}, so that it is never seen. Choose at_step among those to come."
            )
        self._save_in_time()

    def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
        """Saves, when it is time."""
        # Reading the step waits for the device.
        if not self.saved:
            self._save_in_time()

    def _save_in_time(self) -> None:
        if updates(self.model) != self.at_step:
            return
        save_whole(self.model, self.path, is_chief(self.model))
        self.saved = True
