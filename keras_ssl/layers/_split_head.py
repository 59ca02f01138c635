# SPDX-License-Identifier: Apache-2.0
"""Two heads on two parts of a vector."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops


@keras.saving.register_keras_serializable(package="keras_ssl")
class SplitHead(keras.layers.Layer):
    """Cuts a vector in two, gives each part to a head of its own, and joins what they give.

    Input: `(batch, features)`. Output: `(batch, first width + second width)`.

    Args:
        first: head of the first `at` features, any Keras layer.
        second: head of the others.
        at: where the vector is cut.
        **kwargs: `name`, `dtype` and other arguments of `keras.layers.Layer`.

    Raises:
        ValueError: if the cut leaves one part without features.

    Example:
        >>> head = SplitHead(MLP((32, 16)), MLP((32, 8)), at=64)
        >>> head(keras.ops.ones((4, 128))).shape
        (4, 24)
    """

    def __init__(self, first: keras.Layer, second: keras.Layer, at: int, **kwargs: Any):
        super().__init__(**kwargs)
        self.first, self.second, self.at = first, second, int(at)

    def build(self, input_shape: Any) -> None:
        """Builds both heads for inputs `(batch, features)`."""
        width = input_shape[-1]
        if not 0 < self.at < width:
            raise ValueError(
                f"SplitHead(at={self.at}) leaves one part of {width} features empty; cut between 1 "
                f"and {width - 1}."
            )
        for head, features in ((self.first, self.at), (self.second, width - self.at)):
            if not head.built:
                head.build((None, features))
        self.first_width = self.first.compute_output_shape((None, self.at))[-1]
        super().build(input_shape)

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        """Projects both parts; the first head's features come first."""
        parts = inputs[:, : self.at], inputs[:, self.at :]
        heads = self.first, self.second
        made = [head(part, training=training) for head, part in zip(heads, parts, strict=True)]
        return ops.concatenate(made, axis=-1)

    def compute_output_shape(self, input_shape: Any) -> Any:
        """`(batch, first width + second width)`."""
        parts = (self.first, self.at), (self.second, input_shape[-1] - self.at)
        widths = [head.compute_output_shape((None, features))[-1] for head, features in parts]
        return (input_shape[0], sum(widths))

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments, heads serialised."""
        heads = {"first": self.first, "second": self.second}
        saved = {name: keras.saving.serialize_keras_object(head) for name, head in heads.items()}
        return {**super().get_config(), **saved, "at": self.at}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> SplitHead:
        """Builds the layer and both heads from `get_config`."""
        config = dict(config)
        heads = [keras.saving.deserialize_keras_object(config.pop(n)) for n in ("first", "second")]
        return cls(*heads, **config)
