# SPDX-License-Identifier: Apache-2.0
"""A first-in-first-out memory of vectors."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from keras_ssl.core import distribution


@keras.saving.register_keras_serializable(package="keras_ssl")
class Queue(keras.layers.Layer):
    """Keeps the last `size` vectors: MoCo's keys, NNCLR's support set.

    A ring buffer whose place of writing runs modulo `size`, so the batch need not divide it. It
    starts with random unit vectors, is saved with the model, gets no gradient, and holds the rows
    of all replicas in one order.

    Args:
        size: number of vectors kept.
        width: features of a vector.
        seed: of the first content; `None` draws it.
        **kwargs: `name` and `dtype` of `keras.layers.Layer`; vectors are kept in float32.

    Call: `queue(x)` gives for each row of `x` `(B, width)` its nearest vector by cosine
    similarity, `(B, width)` without gradient.

    Raises:
        ValueError: for a size or width below 1.

    Source: He et al., 2020, section 3.1 (MoCo); Dwibedi et al., 2021, section 3.1 (NNCLR).

    Example:

    ```python
    queue = Queue(4096, 128)
    loss = losses.info_nce(queries, keys, queue=queue.vectors)
    queue.enqueue(keys)
    ```
    """

    def __init__(self, size: int, width: int, seed: int | None = None, **kwargs: Any):
        super().__init__(**kwargs)
        if size < 1 or width < 1:
            raise ValueError(f"Queue needs size and width of at least 1, got {size} and {width}.")
        self.size = int(size)
        self.width = int(width)
        self.seed = seed
        initializer = keras.initializers.RandomNormal(stddev=1.0, seed=seed)
        first = ops.normalize(initializer((self.size, self.width)), axis=-1)
        self.vectors = self.add_weight(
            shape=(self.size, self.width),
            initializer=lambda shape, dtype: ops.cast(first, dtype),
            dtype="float32",
            trainable=False,
            name="vectors",
        )
        self.pointer = self.add_weight(
            shape=(), initializer="zeros", dtype="int32", trainable=False, name="pointer"
        )
        self.built = True

    def enqueue(self, vectors: Any) -> None:
        """Writes the vectors of all replicas over the oldest ones.

        Args:
            vectors: `(B, width)` rows of this replica.
        """
        rows = ops.stop_gradient(ops.cast(vectors, "float32"))
        rows = distribution.all_gather(rows)
        if rows.shape[0] is not None and rows.shape[0] > self.size:
            # Only the newest fit; of two rows written to one place the older could win.
            rows = rows[-self.size :]
        places = ops.arange(ops.shape(rows)[0], dtype="int32") + self.pointer
        places = ops.expand_dims(ops.mod(places, self.size), 1)
        written = ops.scatter_update(ops.convert_to_tensor(self.vectors), places, rows)
        moved = ops.mod(self.pointer + ops.shape(rows)[0], self.size)
        distribution.assign_all([self.vectors, self.pointer], [written, moved], equal=True)

    def nearest(self, vectors: Any) -> Any:
        """Index of the most similar vector in the queue for each row.

        Args:
            vectors: `(B, width)`, not normalised.

        Returns:
            `(B,)` int32; the first of equals.
        """
        queries = ops.normalize(ops.cast(vectors, "float32"), axis=-1)
        stored = ops.normalize(ops.convert_to_tensor(self.vectors), axis=-1)
        similar = ops.matmul(queries, ops.transpose(stored))
        return ops.cast(ops.argmax(similar, axis=1), "int32")

    def call(self, inputs: Any) -> Any:
        """The nearest vector of the queue for each row, `(B, width)`, without gradient."""
        found = ops.take(self.vectors, self.nearest(inputs), axis=0)
        return ops.stop_gradient(found)

    def compute_output_shape(self, input_shape: Any) -> Any:
        """Same as the input's."""
        return input_shape

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        own = {"size": self.size, "width": self.width, "seed": self.seed}
        return {**super().get_config(), **own}
