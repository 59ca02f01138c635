# SPDX-License-Identifier: Apache-2.0
"""Feeding: tf.data batches whose order is a function of (seed, epoch) alone."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from keras_ssl.data._source import Source, as_labels, each_part, parts_of, permutation

# tf.data counts in int64.
FOREVER = 2**62


def epoch_order(rows: int, seed: int, epoch: int) -> np.ndarray:
    """The order in which an epoch visits the rows.

    Args:
        rows: Number of rows.
        seed: Seed of the run, any integer.
        epoch: Epoch number from 0.

    Returns:
        (rows,) int64: a permutation, the same on every machine.
    """
    # Negative seeds are allowed everywhere else in Keras, and Philox wants unsigned keys.
    return permutation(rows, seed % 2**64, epoch)


class EpochData:
    """Batches of an in-memory data set, addressable by (epoch, batch).

    Rows stay in their stored type (uint8 for images) until the batch reaches the model.

    Args:
        source: A Source, an array (N, ...), a dict of arrays, or a pair (x, y) of one and labels.
        batch_size: Rows in a batch; under a strategy the global batch, which Keras divides.
        seed: Seed of the order.
        shuffle: False keeps the stored order in every epoch.
        drop_remainder: Leaves out a last smaller batch (its rows are other rows in every epoch).
        check_finite: Looks for NaN and infinity in the first epoch that is fed; integers are
            never looked at. `"missing"` looks for infinity alone, where NaN stands for a missing
            value of a table.
        labels: Yields (x, y) in place of x.
        indices: Yields (x, index) in place of x: the number of each row in the data set.
        order: Function from the epoch's number to the rows (M,) it visits, in place of a shuffle;
            M is the same in every epoch. See `GuidedOrder`.

    Raises:
        ValueError: For empty data, a batch size that does not fit, labels that are missing, or
            labels together with indices.

    Example:

    ```python
    batches = EpochData(data.load("digits"), 256, seed=0)
    model.fit(batches.stream(), steps_per_epoch=batches.steps_per_epoch, epochs=60)
    ```
    """

    def __init__(
        self,
        source: Any,
        batch_size: int,
        *,
        seed: int,
        shuffle: bool = True,
        drop_remainder: bool = False,
        check_finite: bool | str = True,
        labels: bool = False,
        indices: bool = False,
        order: Callable[[int], np.ndarray] | None = None,
    ) -> None:
        self.source = _as_source(source)
        self.order = order
        # The order of the epoch that was asked for last, since all its batches come from it.
        self._last_order = (-1, np.empty(0, np.int64)) if order is None else (0, order(0))
        rows = len(self.source) if order is None else len(self._last_order[1])
        if batch_size < 1:
            raise ValueError(f"batch_size is {batch_size}; expected at least 1.")
        if drop_remainder and batch_size > rows:
            raise ValueError(
                f"batch_size {batch_size} with drop_remainder leaves no batch of the {rows} rows "
                f"of {self.source.name}; use a batch size of at most {rows}."
            )
        if labels and self.source.labels is None:
            raise ValueError(
                f"{self.source.name} has no labels, but labels=True; load a data set with labels "
                "(class folders, or &y=NAME for npz) or pass (x, y)."
            )
        if labels and indices:
            raise ValueError("A batch holds labels or indices beside x, not both.")
        self.batch_size = int(batch_size)
        self.seed = int(seed)
        self.shuffle = shuffle
        self.labels = labels
        self.indices = indices
        if check_finite not in (True, False, "missing"):
            raise ValueError(
                f"check_finite is True, False or 'missing'; received {check_finite!r}."
            )
        self.check_finite = check_finite
        full, rest = divmod(rows, self.batch_size)
        self.steps_per_epoch: int = full + (1 if rest and not drop_remainder else 0)

    def rows(self, epoch: int, batch: int) -> np.ndarray:
        """The row numbers of one batch.

        Args:
            epoch: Epoch number from 0.
            batch: Batch number in the epoch, from 0.

        Returns:
            (b,) int64.
        """
        return self._order(epoch)[batch * self.batch_size : (batch + 1) * self.batch_size]

    def dataset(self, start_epoch: int = 0, start_batch: int = 0) -> Any:
        """One epoch per iteration, each in its own order.

        An epoch counts as done once its last batch was handed out; an iteration that was broken
        off is repeated. Strategies read ahead, so use `stream` with them.

        Args:
            start_epoch: Epoch of the first iteration.
            start_batch: First batch of the first iteration; later ones begin at batch 0.

        Returns:
            tf.data.Dataset of (b, ...) or ((b, ...), (b,) int64) batches.
        """
        self._check_start(start_epoch, start_batch)
        import tensorflow as tf

        steps = self.steps_per_epoch
        position = [start_epoch * steps + start_batch]

        def first_step() -> np.int64:
            return np.int64(position[0])

        def epoch_of(_: Any) -> Any:
            first = tf.numpy_function(first_step, [], tf.int64)
            first.set_shape(())
            return tf.data.Dataset.range(first, (first // steps + 1) * steps)

        def handed_out(step: np.ndarray) -> np.ndarray:
            if (step + 1) % steps == 0:
                position[0] = int(step) + 1
            return step

        numbers = tf.data.Dataset.range(1).flat_map(epoch_of)
        # The first iteration of a resumed epoch is shorter, so no one cardinality would be true.
        return self._build(numbers, start_epoch, None if start_batch else steps, handed_out)

    def stream(
        self, start_epoch: int = 0, start_batch: int = 0, *, epochs: int | None = None
    ) -> Any:
        """Epoch after epoch in one iteration, for `fit(steps_per_epoch=...)`.

        Every iteration starts at the given place, which makes this the form to resume with.

        Args:
            start_epoch: First epoch.
            start_batch: First batch within it.
            epochs: Number of epochs, the first one included; None never ends.

        Returns:
            tf.data.Dataset of (b, ...) or ((b, ...), (b,) int64) batches.
        """
        self._check_start(start_epoch, start_batch)

        import tensorflow as tf

        first = start_epoch * self.steps_per_epoch + start_batch
        last = FOREVER if epochs is None else (start_epoch + epochs) * self.steps_per_epoch
        steps = tf.data.INFINITE_CARDINALITY if epochs is None else last - first
        return self._build(tf.data.Dataset.range(first, last), start_epoch, steps, None)

    def _order(self, epoch: int) -> np.ndarray:
        if self.order is None and not self.shuffle:
            return np.arange(len(self.source))
        if self._last_order[0] != epoch:
            own = self.order
            rows = epoch_order(len(self.source), self.seed, epoch) if own is None else own(epoch)
            self._last_order = epoch, rows
        return self._last_order[1]

    def _check_start(self, epoch: int, batch: int) -> None:
        if epoch < 0 or not 0 <= batch < self.steps_per_epoch:
            raise ValueError(
                f"Cannot start at epoch {epoch}, batch {batch}: epochs count from 0 and batches "
                f"from 0 to {self.steps_per_epoch - 1}. Has the batch size or the data changed?"
            )

    def _build(
        self,
        numbers: Any,
        checked_epoch: int,
        cardinality: int | None,
        handed_out: Callable[[np.ndarray], np.ndarray] | None,
    ) -> Any:
        import tensorflow as tf

        images = self.source.images
        names = list(images) if isinstance(images, Mapping) else None
        shapes = [part.shape[1:] for part in parts_of(images).values()]
        types = [part.dtype for part in parts_of(images).values()]
        count = len(shapes)
        if self.labels or self.indices:
            shapes, types = [*shapes, ()], [*types, np.dtype("int64")]

        def load(step: Any) -> tuple:
            # A generator would be simpler, but TensorFlow's has malloc give every freed buffer
            # back to the system at once, and the page faults cost a third of a small step.
            batch = tf.numpy_function(
                lambda number: self._load(int(number), checked_epoch),
                [step],
                [tf.as_dtype(kind) for kind in types],
            )
            for tensor, shape in zip(batch, shapes, strict=True):
                tensor.set_shape((None, *shape))
            return step, *batch

        def deliver(step: Any, *parts: Any) -> Any:
            if handed_out is not None:
                tf.numpy_function(handed_out, [step], tf.int64)
            x, y = parts[:count], parts[count:]
            x = x[0] if names is None else dict(zip(names, x, strict=True))
            return (x, *y) if y else x

        # The second map comes after the prefetch and is sequential: it runs when the consumer asks.
        dataset = numbers.map(load).prefetch(tf.data.AUTOTUNE).map(deliver)
        if cardinality is not None:
            dataset = dataset.apply(tf.data.experimental.assert_cardinality(cardinality))
        options = tf.data.Options()
        # Every worker holds all rows: splitting the batches is right, splitting files is not.
        policy = tf.data.experimental.AutoShardPolicy.DATA
        options.experimental_distribute.auto_shard_policy = policy
        options.deterministic = True
        return dataset.with_options(options)

    def _load(self, step: int, checked_epoch: int) -> list[np.ndarray]:
        epoch, batch = divmod(step, self.steps_per_epoch)
        rows = self.rows(epoch, batch)
        parts = each_part(self.source.images, lambda part: part[rows])
        if self.check_finite and epoch == checked_epoch:
            for name, part in parts_of(parts).items():
                self._require_finite(name, part, rows)
        found = list(parts_of(parts).values())
        if self.indices:
            return [*found, rows]
        labels = self.source.labels
        return [*found, labels[rows]] if self.labels and labels is not None else found

    def _require_finite(self, name: str, x: np.ndarray, rows: np.ndarray) -> None:
        if x.dtype.kind != "f":
            return
        gaps = self.check_finite == "missing"
        bad = np.isinf(x) if gaps else ~np.isfinite(x)
        bad = bad.reshape(len(x), -1).any(axis=1)
        if bad.any():
            first = int(rows[bad].min())
            what = "infinity" if gaps else "NaN or infinity"
            where = f"{name!r} of {self.source.name}" if name else self.source.name
            missing = "'missing' if NaN is a missing value of a table, else " if name else ""
            raise ValueError(
                f"Row {first} of {where} holds {what} ({int(bad.sum())} such rows in this batch of "
                f"{len(x)}); expected finite numbers. Remove or repair the row, or pass "
                f"check_finite={'' if gaps else missing}False."
            )


def pipeline(
    source: Any,
    batch_size: int,
    *,
    seed: int,
    shuffle: bool = True,
    drop_remainder: bool = False,
    check_finite: bool | str = True,
    labels: bool = False,
    indices: bool = False,
    start_epoch: int = 0,
    start_batch: int = 0,
    epochs: int | None = None,
) -> Any:
    """A data set as tf.data batches; the order is a function of (seed, epoch).

    Args:
        source: A Source, an array (N, ...), a dict of arrays, or a pair (x, y) of one and labels.
        batch_size: Rows in a batch (the global batch under a strategy).
        seed: Seed of the order.
        shuffle: False keeps the stored order.
        drop_remainder: Leaves out a last smaller batch.
        check_finite: Names a row with NaN or infinity in the first epoch; `"missing"` one with
            infinity alone.
        labels: Yields (x, y) in place of x.
        indices: Yields (x, index) in place of x: the number of each row in the data set.
        start_epoch: Epoch to begin with.
        start_batch: Batch to begin with in that epoch.
        epochs: None: an iteration is one epoch, the next iteration the next epoch. A number: one
            iteration runs through that many epochs (see `EpochData.stream`).

    Returns:
        tf.data.Dataset of (b, ...) in the stored type, or ((b, ...), (b,) int64) with labels or
        indices.

    Raises:
        ValueError: For empty data, a batch size that does not fit, or labels that are missing.

    Example:

    ```python
    model.fit(data.pipeline(data.load("digits"), 256, seed=0), epochs=60)
    ```
    """
    feed = EpochData(
        source,
        batch_size,
        seed=seed,
        shuffle=shuffle,
        drop_remainder=drop_remainder,
        check_finite=check_finite,
        labels=labels,
        indices=indices,
    )
    if epochs is None:
        return feed.dataset(start_epoch, start_batch)
    return feed.stream(start_epoch, start_batch, epochs=epochs)


def _as_source(data: Any) -> Source:
    if isinstance(data, Source):
        return data
    if isinstance(data, tuple):
        if len(data) != 2:
            raise ValueError(f"A tuple of {len(data)} arrays was given; expected (x, y).")
        labels, names = as_labels(data[1], "y")
        return Source(each_part(data[0], np.asarray), labels, class_names=names)
    array = each_part(data, np.asarray)
    if any(part.dtype == object for part in parts_of(array).values()):
        raise ValueError(
            f"Expected an array, (x, y) or a Source; got {type(data).__name__} with rows of "
            "different shapes or types. Bring all rows to one shape first."
        )
    return Source(array)
