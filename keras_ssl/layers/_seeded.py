# SPDX-License-Identifier: Apache-2.0
"""A layer that draws random numbers and goes on with them after it was saved."""

from __future__ import annotations

from typing import Any

import keras


class SeededLayer(keras.layers.Layer):
    """Owns a generator, whose state Keras would leave out of the file.

    Args:
        seed: of the generator; `None` draws it.
        **kwargs: of `keras.layers.Layer`.
    """

    def __init__(self, seed: int | None = None, **kwargs: Any):
        super().__init__(**kwargs)
        self.seed = seed
        self.seed_generator = keras.random.SeedGenerator(seed)

    def save_own_variables(self, store: Any) -> None:
        """Stores the state of the generator besides."""
        super().save_own_variables(store)
        store["seed"] = self.seed_generator.state

    def load_own_variables(self, store: Any) -> None:
        """Restores what `save_own_variables` stored."""
        self.seed_generator.state.assign(store["seed"])

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {**super().get_config(), "seed": self.seed}
