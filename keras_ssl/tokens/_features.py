# SPDX-License-Identifier: Apache-2.0
"""Rows of tables and sequences of ready vectors as tokens."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_ssl.core.seeds import layer_seed


@keras.saving.register_keras_serializable(package="keras_ssl")
class FeatureTokenizer(keras.layers.Layer):
    """Turns a row of a table into tokens, one for every column.

    A number x becomes `x · weight + bias`, a category its embedding plus a bias, each column with
    weights of its own, so that tokens need no positions. With `missing` a value that is not there
    is a token that the column learns, plus its bias.

    Args:
        numeric: number of numeric columns.
        cardinalities: number of categories of every categorical column.
        width: features of a token.
        seed: integer for the initial weights, or `None`.
        missing: whether values may be missing: a number that is NaN, a category below 0, which a
            category that was never seen is as well.
        **kwargs: `name`, `dtype` and other arguments of `keras.layers.Layer`.

    Call: `{"numeric": (B, n) float, "categorical": (B, m) integers}` → `(B, n + m, width)`, numeric
    columns first. Either is left out where there are no such columns.

    Raises:
        ValueError: for a table without columns, a column without categories, a batch that
            lacks a kind of column, or values as `check`, where they are known when it is called.

    Source: FT-Transformer, Gorishniy et al. 2021, section 3.3; tokens of missing values are ours.

    Example:
        >>> tokenizer = FeatureTokenizer(2, [4], 32)
        >>> row = {"numeric": np.zeros((8, 2), "float32"), "categorical": np.zeros((8, 1), "int32")}
        >>> tokenizer(row).shape
        (8, 3, 32)
    """

    def __init__(
        self,
        numeric: int,
        cardinalities: Sequence[int] = (),
        width: int = 192,
        seed: int | None = None,
        missing: bool = False,
        **kwargs: Any,
    ):
        # Codes of categories and numbers of large range do not survive half precision.
        super().__init__(**{"autocast": False, **kwargs})
        self.numeric, self.width, self.seed = int(numeric), int(width), seed
        self.missing = bool(missing)
        self.cardinalities = tuple(int(count) for count in cardinalities)
        if self.numeric < 0 or self.columns < 1 or min((*self.cardinalities, width)) < 1:
            raise ValueError(
                "FeatureTokenizer needs at least one column, one category of each and a width of "
                f"at least 1; received {numeric} numeric columns, {cardinalities} and {width}."
            )

    @property
    def columns(self) -> int:
        """Number of tokens of a row."""
        return self.numeric + len(self.cardinalities)

    def build(self, input_shape: Any) -> None:
        """Makes weights and biases of the columns."""
        start = keras.initializers.RandomUniform(
            -(self.width**-0.5), self.width**-0.5, layer_seed(self.seed, 0)
        )
        self.weight = self.embedding = None
        if self.numeric:
            shape = (self.numeric, self.width)
            self.weight = self.add_weight(shape=shape, initializer=start, name="weight")
        if self.cardinalities:
            shape = (sum(self.cardinalities), self.width)
            self.embedding = self.add_weight(shape=shape, initializer=start, name="embedding")
        shape = (self.columns, self.width)
        self.bias = self.add_weight(shape=shape, initializer=start, name="bias")
        if self.missing:
            self.lacking = self.add_weight(shape=shape, initializer=start, name="missing")
        self.built = True

    def call(self, inputs: Any) -> Any:
        """One token for every column."""
        inputs, dtype = self._kinds(inputs), self.compute_dtype
        known = {name: _known(x) for name, x in inputs.items()}
        if not any(values is None for values in known.values()):
            self.check(known)
        parts, gone = [], []
        if self.numeric:
            numbers = ops.cast(inputs["numeric"], "float32")
            gone.append(ops.isnan(numbers))
            if self.missing:
                # Before it is multiplied: the gradient of NaN times anything is NaN.
                numbers = ops.where(gone[-1], 0.0, numbers)
            weight = ops.cast(self.weight, "float32")
            parts.append(ops.cast(ops.expand_dims(numbers, -1) * weight, dtype))
        if self.cardinalities:
            starts = np.cumsum((0, *self.cardinalities[:-1])).astype("int32")
            codes = ops.cast(inputs["categorical"], "int32")
            gone.append(codes < 0)
            if self.missing:
                codes = ops.maximum(codes, 0)
            parts.append(ops.cast(ops.take(self.embedding, codes + starts, axis=0), dtype))
        x = ops.concatenate(parts, axis=1)
        if self.missing:
            gone = ops.expand_dims(ops.concatenate(gone, axis=1), -1)
            x = ops.where(gone, ops.cast(self.lacking, dtype), x)
        return x + ops.cast(self.bias, dtype)

    def _kinds(self, inputs: Any) -> dict[str, Any]:
        """The kinds of columns that there are, by name; raises where a batch has others."""
        if not isinstance(inputs, Mapping):
            inputs = {"numeric" if self.numeric else "categorical": inputs}
        wanted = {"numeric": self.numeric, "categorical": len(self.cardinalities)}
        for name, count in wanted.items():
            found = inputs[name].shape[-1] if name in inputs else 0
            if found != count:
                raise ValueError(
                    f"FeatureTokenizer was made for {count} {name} columns, the batch has {found}."
                )
        return {name: inputs[name] for name, count in wanted.items() if count}

    def check(self, inputs: Any) -> None:
        """Requires values of which tokens can be made.

        Args:
            inputs: as the layer takes them, arrays of known values.

        Raises:
            ValueError: for infinity, a category that there is none of, or a missing value where
                none may be.
        """
        found = {name: np.asarray(x) for name, x in self._kinds(inputs).items()}
        numbers, codes = found.get("numeric"), found.get("categorical")
        missing = []
        if numbers is not None:
            _refuse(np.isinf(numbers), "numeric", "is infinite. Repair the data")
            missing.append(("numeric", np.isnan(numbers), "NaN"))
        if codes is not None:
            _refuse(
                codes >= np.array(self.cardinalities),
                "categorical",
                f"is no category: they count from 0 to {self.cardinalities} - 1. Give the code of "
                "a category that was never seen as -1, or larger cardinalities",
            )
            missing.append(("categorical", codes < 0, "below 0"))
        for name, flags, what in missing if not self.missing else []:
            _refuse(
                flags,
                name,
                f"is {what}, a missing value. Build FeatureTokenizer(..., missing=True), or fill "
                "it in before",
            )

    def compute_output_shape(self, input_shape: Any) -> Any:
        """`(B, columns, width)`."""
        shape = (
            next(iter(input_shape.values())) if isinstance(input_shape, Mapping) else input_shape
        )
        return (shape[0], self.columns, self.width)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        own = {n: getattr(self, n) for n in ("numeric", "width", "missing", "seed")}
        return {**super().get_config(), **own, "cardinalities": list(self.cardinalities)}


def _known(x: Any) -> Any:
    """The values of a tensor as an array; `None` while a graph is made, which has none."""
    if isinstance(x, keras.KerasTensor):
        return None
    try:
        return np.asarray(x)
    except Exception:
        # Every backend has an error of its own for this.
        return None


def _refuse(flags: np.ndarray, kind: str, what: str) -> None:
    """Raises where a value is flagged, `(N, columns)`, naming the first."""
    if flags.any():
        row, column = (int(place) for place in np.argwhere(flags)[0])
        raise ValueError(
            f"row {row} of {kind} column {column} {what} ({int(flags.sum())} such values in "
            f"{len(flags)} rows)."
        )


@keras.saving.register_keras_serializable(package="keras_ssl")
class EmbeddingTokenizer(keras.layers.Layer):
    """Turns a sequence of ready vectors into tokens: one linear map.

    Args:
        width: features of a token.
        seed: integer for the initial weights, or `None`.
        **kwargs: `name`, `dtype` and other arguments of `keras.layers.Layer`.

    Call: `(B, N, F)` → `(B, N, width)`; or `{"vectors": (B, N, F), "real": (B, N)}`, real true
    where a vector is no padding. A transformer does not attend to padding then.

    Raises:
        ValueError: for a width below 1.

    Source: LV-MAE, Naiman et al. 2025, section 3 (embeddings of the segments of a long video).
    """

    patch = (1,)

    def __init__(self, width: int, seed: int | None = None, **kwargs: Any):
        super().__init__(**kwargs)
        if width < 1:
            raise ValueError(f"EmbeddingTokenizer needs a width of at least 1; received {width!r}.")
        self.width, self.seed = int(width), seed
        start = keras.initializers.GlorotUniform(seed)
        self.projection = keras.layers.Dense(
            self.width, kernel_initializer=start, dtype=self.dtype_policy, name="projection"
        )

    def build(self, input_shape: Any) -> None:
        """Builds the linear map."""
        shape = input_shape["vectors"] if isinstance(input_shape, Mapping) else input_shape
        self.projection.build(tuple(shape))
        self.built = True

    def call(self, inputs: Any) -> Any:
        """The sequence of tokens."""
        return self.projection(inputs["vectors"] if isinstance(inputs, Mapping) else inputs)

    def padding_mask(self, inputs: Any) -> Any:
        """`(B, N)`, true where a token is real; `None` where the samples do not say."""
        return inputs.get("real") if isinstance(inputs, Mapping) else None

    def compute_output_shape(self, input_shape: Any) -> Any:
        """`(B, N, width)`."""
        shape = input_shape["vectors"] if isinstance(input_shape, Mapping) else input_shape
        return (*shape[:2], self.width)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {**super().get_config(), "width": self.width, "seed": self.seed}
