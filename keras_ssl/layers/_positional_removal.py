# SPDX-License-Identifier: Apache-2.0
"""Takes out of tokens what tells where they stand."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras import ops


@keras.saving.register_keras_serializable(package="keras_ssl")
class PositionalProjectionRemoval(keras.layers.Layer):
    """Subtracts from tokens their part in the directions that tell row and column (RASA).

    Patch tokens of a vision transformer say where they are besides what they show, and two things
    of one kind look different in two places. `adapt` finds the directions on the frozen tokens of
    some images: it fits row and column by a linear map, takes its two directions out, and starts
    again with what is left. The layer then goes behind the encoder.

    Args:
        rounds: number of pairs of directions, fitted one after the other (up to 22 in the paper).
        prefix: tokens in front (class token, registers) that are left as they are.
        **kwargs: `name`, `dtype` and other arguments of `keras.layers.Layer`.

    Call: `(…, D)` → `(…, D)`; with a prefix `(…, L, D)`. `directions`, `(2 · rounds, D)` float32,
    are row and column of every round; they are made orthonormal in this order, and a direction of
    length 0 removes nothing. They start at 0 and no optimizer trains them.

    Raises:
        ValueError: for fewer than one round or a negative prefix.

    Source: RASA, in Franca, Venkataramanan et al. 2025; released code (valeoai/Franca).

    Example:

    ```python
    skip = encoder.prefix.count
    tokens = encoder.token_model().predict(images)[:, skip:]
    removal = layers.PositionalProjectionRemoval(rounds=9, prefix=skip)
    removal.adapt(tokens.reshape(len(images), *grid, -1))
    clean = keras.Sequential([encoder.token_model(), removal])
    ```
    """

    def __init__(self, rounds: int = 1, prefix: int = 0, **kwargs: Any):
        super().__init__(**kwargs)
        if rounds < 1 or prefix < 0:
            raise ValueError(
                "PositionalProjectionRemoval needs at least 1 round and a prefix of at least 0; "
                f"received {rounds} and {prefix}."
            )
        self.rounds, self.prefix = int(rounds), int(prefix)

    def build(self, input_shape: Any) -> None:
        """Makes the directions for tokens `(…, D)`."""
        shape = (2 * self.rounds, input_shape[-1])
        self.directions = self.add_weight(
            shape=shape, initializer="zeros", dtype="float32", trainable=False, name="directions"
        )
        self.built = True

    @property
    def basis(self) -> Any:
        """Orthonormal directions `(2 · rounds, D)`, float32; 0 where one adds nothing new."""
        found = []
        for direction in ops.unstack(ops.convert_to_tensor(self.directions), axis=0):
            direction = _unit(direction, 0.0)
            left = direction
            # Twice: one pass leaves rounding errors as large as a small remainder.
            for other in found * 2:
                left = left - ops.sum(left * other) * other
            found.append(_unit(left, 1e-5))
        return ops.stack(found)

    def positional(self, tokens: Any) -> Any:
        """What is removed, of the shape and dtype of the tokens; 0 for the prefix."""
        basis = self.basis
        # Half precision would leave a thousandth of each direction behind.
        found = ops.matmul(ops.matmul(ops.cast(tokens, "float32"), ops.transpose(basis)), basis)
        if self.prefix:
            is_patch = ops.arange(tokens.shape[-2])[:, None] >= self.prefix
            found = ops.where(is_patch, found, 0.0)
        return ops.cast(found, tokens.dtype)

    def call(self, inputs: Any) -> Any:
        """Tokens without their positional part."""
        return inputs - self.positional(inputs)

    def adapt(
        self,
        tokens: Any,
        *,
        epochs: int = 5,
        batch_size: int = 128,
        learning_rate: float = 2e-4,
        seed: int | None = None,
        verbose: bool | str = "auto",
    ) -> np.ndarray:
        """Finds the directions on tokens of a frozen encoder; what was found before is forgotten.

        Each round minimises the mean squared error of `sigmoid(W token)` to (row, column), both
        in 0..1, by AdamW without decay and a cosine, on what the rounds before left. W starts at
        0, so that its directions are learned and not left over from a random start.

        Args:
            tokens: `(N, rows, columns, D)` patch tokens, without class token and registers.
            epochs: passes over the tokens in a round.
            batch_size: images in a step.
            learning_rate: at the start of each round. With few images take more epochs, or more.
            seed: of the order, or `None`.
            verbose: True for a progress bar, False for none, "auto" for one when it is long.

        Returns:
            float32 `(rounds,)`, the mean squared error at the end of each round. Where it stays
            at the variance of the positions (0.083 on a fine grid), nothing more is to be found.

        Raises:
            ValueError: for tokens of another shape, on a grid of fewer than 2 rows or columns,
                or not finite, and for settings that are not positive.
        """
        tokens = _checked(tokens, epochs, batch_size, learning_rate)
        if not self.built:
            self.build(tokens.shape)
        if self.directions.shape[1] != tokens.shape[-1]:
            raise ValueError(
                f"{self.name} was built for {self.directions.shape[1]} features; received tokens "
                f"of {tokens.shape[-1]}."
            )
        if verbose == "auto":
            verbose = self.rounds * epochs * tokens.size > 1e9
        bar = keras.utils.Progbar(
            self.rounds * epochs, verbose=int(bool(verbose)), unit_name="epoch"
        )
        directions, errors = np.zeros(self.directions.shape, "float32"), []
        self.directions.assign(directions)
        batches = _Batches(tokens, batch_size, seed)
        for found in range(self.rounds):
            probe, error = self._fit(batches, epochs, learning_rate, bar)
            directions[2 * found : 2 * found + 2] = probe.T
            self.directions.assign(directions)
            errors.append(error)
        return np.array(errors, "float32")

    def _fit(self, batches: Any, epochs: int, rate: float, bar: Any) -> tuple[np.ndarray, float]:
        """The linear map `(D, 2)` to row and column of what this layer leaves, and its error."""
        inputs = keras.Input((None, self.directions.shape[1]))
        probe = keras.layers.Dense(
            2, "sigmoid", use_bias=False, kernel_initializer="zeros", dtype="float32"
        )
        model = keras.Model(inputs, probe(inputs))
        schedule = keras.optimizers.schedules.CosineDecay(rate, epochs * len(batches))
        model.compile(keras.optimizers.Adam(schedule), "mse")
        batches.basis = ops.convert_to_numpy(self.basis)
        history = model.fit(
            batches,
            epochs=epochs,
            # Keras would order the batches anew by a seed of its own.
            shuffle=False,
            verbose=0,
            callbacks=[keras.callbacks.LambdaCallback(on_epoch_end=lambda *_: bar.add(1))],
        )
        return ops.convert_to_numpy(probe.kernel), history.history["loss"][-1]

    def compute_output_shape(self, input_shape: Any) -> Any:
        """Same as the input's."""
        return input_shape

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {**super().get_config(), "rounds": self.rounds, "prefix": self.prefix}


class _Batches(keras.utils.PyDataset):
    """Tokens `(B, rows · columns, D)` off a basis, in a new order every epoch, with positions."""

    def __init__(self, tokens: np.ndarray, batch_size: int, seed: int | None):
        super().__init__()
        rows, columns = tokens.shape[1:3]
        self.tokens = tokens.reshape(len(tokens), rows * columns, -1)
        grid = np.meshgrid(np.linspace(0, 1, rows), np.linspace(0, 1, columns), indexing="ij")
        self.places = np.stack(grid, axis=-1).reshape(1, -1, 2).astype("float32")
        self.size, self.generator = batch_size, np.random.default_rng(seed)
        self.basis = np.zeros((1, tokens.shape[-1]), "float32")
        self.on_epoch_end()

    def on_epoch_end(self) -> None:
        self.order = self.generator.permutation(len(self.tokens))

    def __len__(self) -> int:
        return -(-len(self.tokens) // self.size)

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        rows = self.tokens[self.order[index * self.size : (index + 1) * self.size]]
        rows = rows - rows @ self.basis.T @ self.basis
        return rows, np.broadcast_to(self.places, (len(rows), *self.places.shape[1:]))


def _unit(x: Any, least: float) -> Any:
    """A vector at length 1, or 0 where it is not longer than `least`."""
    length = ops.sqrt(ops.sum(ops.square(x)))
    usable = length > least
    return ops.where(usable, x / ops.where(usable, length, 1.0), 0.0)


def _checked(tokens: Any, epochs: int, batch_size: int, rate: float) -> np.ndarray:
    tokens = np.asarray(tokens, "float32")
    if tokens.ndim != 4 or min(tokens.shape[1:3]) < 2 or not len(tokens):
        raise ValueError(
            "adapt expects patch tokens (N, rows, columns, D) on a grid of at least 2 rows and 2 "
            f"columns; received shape {tokens.shape}. Cut class token and registers off, and give "
            "the patches their grid."
        )
    if not np.isfinite(tokens).all():
        raise ValueError("adapt received tokens with NaN or infinity; the encoder has diverged.")
    if epochs < 1 or batch_size < 1 or not rate > 0:
        raise ValueError(
            "adapt needs at least 1 epoch, a batch of at least 1 and a learning rate above 0; "
            f"received {epochs}, {batch_size} and {rate}."
        )
    return tokens
