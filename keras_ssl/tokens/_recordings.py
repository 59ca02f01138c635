# SPDX-License-Identifier: Apache-2.0
"""Recordings of many channels as videos."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from keras_ssl.tokens._patches import PatchTokenizer, grid_of


@keras.saving.register_keras_serializable(package="keras_ssl")
class RecordingTokenizer(keras.layers.Layer):
    """Cuts a recording into frames of channels and time, and these into tokens as a video.

    A token has neighbouring channels of neighbouring frames, so their order matters: keep to one
    montage. A patch of one channel leaves every channel its own tokens.

    Args:
        frames: number of frames, equal parts of a recording.
        patch: frames, channels and steps of a token.
        width: features of a token.
        seed: integer for the initial weights, or `None`.
        **kwargs: `name`, `dtype` and other arguments of `keras.layers.Layer`.

    Call: `(B, steps, channels)` → `(B, frames / p1, channels / p2, steps / frames / p3, width)`.

    Raises:
        ValueError: for sizes below 1, or recordings that frames or patches do not tile: nothing is
            left out silently.

    Source: From Video to EEG, Hojjati et al. 2025, section 3 (frames of 19 channels and 500 steps,
    of which its patches use 16 and 480).

    Example:
        >>> RecordingTokenizer(32, (4, 4, 25), 384)(keras.ops.ones((2, 16000, 16))).shape
        (2, 8, 4, 20, 384)
    """

    def __init__(
        self, frames: int, patch: Sequence[int], width: int, seed: int | None = None, **kwargs: Any
    ):
        super().__init__(**kwargs)
        self.frames, self.seed = int(frames), seed
        if frames < 1 or len(patch) != 3:
            raise ValueError(
                "RecordingTokenizer needs at least 1 frame and a patch of (frames, channels, "
                f"steps); received frames={frames}, patch={patch!r}."
            )
        self.inner = PatchTokenizer(patch, width, seed=seed, dtype=self.dtype_policy, name="inner")
        self.patch, self.width = self.inner.patch, self.inner.width

    def video_shape(self, input_shape: Sequence) -> tuple:
        """`(B, frames, channels, steps of a frame, 1)` of recordings `(B, steps, channels)`.

        Raises:
            ValueError: for another rank, or where frames do not tile the steps.
        """
        if len(input_shape) != 3 or (input_shape[1] or 0) % self.frames:
            raise ValueError(
                f"RecordingTokenizer cuts recordings (batch, steps, channels) into {self.frames} "
                f"frames of equal length; received shape {tuple(input_shape)}. Crop or resample "
                "them, or choose another number of frames."
            )
        rows, steps, channels = input_shape
        return (rows, self.frames, channels, steps and steps // self.frames, 1)

    def build(self, input_shape: Any) -> None:
        """Builds the linear map for `(B, steps, channels)`."""
        self.inner.build(self.video_shape(input_shape))
        self.built = True

    def call(self, inputs: Any) -> Any:
        """Tokens on their grid."""
        _, _, channels, steps, _ = self.video_shape(inputs.shape)
        steps = -1 if steps is None else steps
        x = ops.reshape(inputs, (-1, self.frames, steps, channels))
        return self.inner(ops.expand_dims(ops.transpose(x, (0, 1, 3, 2)), -1))

    def compute_output_shape(self, input_shape: Any) -> Any:
        """`(B, frames / p1, channels / p2, steps / frames / p3, width)`."""
        shape = self.video_shape(input_shape)
        return (shape[0], *grid_of(shape, self.patch), self.width)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        own = {"frames": self.frames, "width": self.width, "seed": self.seed}
        return {**super().get_config(), **own, "patch": list(self.patch)}
