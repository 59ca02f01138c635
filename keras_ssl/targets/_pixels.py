# SPDX-License-Identifier: Apache-2.0
"""The values of a patch, raw or standardised."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from keras_ssl.targets._target import PatchTarget, patch_tokens, sizes_of
from keras_ssl.tokens import unpatchify

NORMALIZE = (None, "patch", "channel")
ORDERS = ("channel_last", "channel_first")


@keras.saving.register_keras_serializable(package="keras_ssl")
class PixelTarget(PatchTarget):
    """The values of every patch, of signals, images, videos and volumes alike.

    Published targets differ in what is standardised and where epsilon stands; in these terms:

    | target | settings |
    |---|---|
    | SimMIM, MAE without normalisation | `normalize=None` |
    | MAE, SparK, M3AE | `normalize="patch"` |
    | CROMA | `normalize="patch", order="channel_first"`, sensors as channels of one sample |
    | CineMA | `normalize="patch", epsilon_inside=False` |
    | VideoMAE, HiCMAE | `normalize="channel", epsilon_inside=False` |

    A model that predicts 0 everywhere has a mean squared error of (n - 1) / n of a target
    standardised over n values.

    Args:
        patch: sizes `(p1, …, pd)` of a patch.
        normalize: None for the values as they are; `"patch"` to subtract the mean of all values of
            a patch and divide by their standard deviation; `"channel"` to do so for every channel
            of the patch by itself.
        epsilon: keeps the division finite where a patch is constant.
        epsilon_inside: whether it is added to the variance, or to the standard deviation.
        unbiased: whether the variance of n values is divided by n - 1, as all the codes above do,
            or by n.
        floor: least variance. Raise it from the published 0 where large areas are nearly constant,
            such as black borders, whose noise would be amplified up to 1 / sqrt(epsilon).
        order: of the values of a token, `"channel_last"` (axes of the patch, then channels) or
            `"channel_first"`.
        **kwargs: `name` and other arguments of `keras.layers.Layer`.

    Call: `(B, N1, …, Nd, C)` → float32 `(B, L, p1 ⋯ pd · C)`, without gradient.

    Raises:
        ValueError: for an unknown setting, or a variance of a single value.

    Source: Masked Autoencoders Are Scalable Vision Learners, 2021, section 3; VideoMAE, 2022;
    CROMA, 2023; CineMA, 2025.

    Example:
        >>> target = PixelTarget((4, 4), normalize="patch")
        >>> target(keras.ops.ones((2, 32, 32, 3))).shape
        (2, 64, 48)
    """

    def __init__(
        self,
        patch: Sequence[int],
        normalize: str | None = None,
        epsilon: float = 1e-6,
        epsilon_inside: bool = True,
        unbiased: bool = True,
        floor: float = 0.0,
        order: str = "channel_last",
        **kwargs: Any,
    ):
        super().__init__(patch, **kwargs)
        if normalize not in NORMALIZE or order not in ORDERS:
            raise ValueError(
                f"PixelTarget knows normalize in {NORMALIZE} and order in {ORDERS}; received "
                f"normalize={normalize!r}, order={order!r}."
            )
        if not epsilon > 0.0 or floor < 0.0:
            raise ValueError(
                "PixelTarget needs epsilon > 0, by which constant patches are divided, and a floor "
                f"of at least 0; received epsilon={epsilon!r}, floor={floor!r}."
            )
        self.normalize, self.order = normalize, order
        self.epsilon, self.floor = float(epsilon), float(floor)
        self.epsilon_inside, self.unbiased = bool(epsilon_inside), bool(unbiased)
        if normalize == "channel":
            self._check_values(math.prod(self.patch))
        self.built = True

    def values(self, channels: int) -> int:
        """Numbers of one token, for samples of so many channels."""
        if self.normalize == "patch":
            self._check_values(math.prod(self.patch) * channels)
        return math.prod(self.patch) * channels

    def call(self, inputs: Any) -> Any:
        """The tokens."""
        self.values(inputs.shape[-1])
        x = self._cut(inputs)
        if self.normalize is not None:
            mean, scale = self._statistics(x)
            x = (x - mean) / scale
        return ops.stop_gradient(self._joined(x))

    def to_pixels(self, predictions: Any, inputs: Any, mask: Any = None) -> Any:
        """Samples made of predicted patches, for pictures.

        What was standardised gets mean and deviation of the patch back, which a model does not
        know: such pictures look better than the model is.

        Args:
            predictions: `(B, L, P)` as the target.
            inputs: `(B, N1, …, Nd, C)`, the samples of the target.
            mask: `(B, L)`, true where the prediction is shown and false where the sample is; None
                for predictions everywhere.

        Returns:
            float32 `(B, N1, …, Nd, C)`.

        Raises:
            ValueError: if the predictions are no tokens of such samples.
        """
        inputs, predictions = ops.convert_to_tensor(inputs), ops.convert_to_tensor(predictions)
        want = self.compute_output_shape(tuple(inputs.shape))
        known = zip(predictions.shape, want, strict=False)
        if len(predictions.shape) != 3 or any(a != b for a, b in known if None not in (a, b)):
            raise ValueError(
                f"samples {tuple(inputs.shape)} have targets {want}; received predictions "
                f"{tuple(predictions.shape)}."
            )
        own = self._cut(inputs)
        x = self._parted(ops.cast(predictions, "float32"), inputs.shape[-1])
        if self.normalize is not None:
            mean, scale = self._statistics(own)
            x = x * scale + mean
        if mask is not None:
            x = ops.where(ops.cast(mask, "bool")[:, :, None, None], x, own)
        rows, *sides, _ = sizes_of(inputs)
        grid = [side // step for side, step in zip(sides, self.patch, strict=True)]
        return unpatchify(ops.reshape(x, (rows, *grid, want[-1])), self.patch)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        names = ("normalize", "epsilon", "epsilon_inside", "unbiased", "floor", "order")
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}

    def _cut(self, inputs: Any) -> Any:
        """Patches as `(B, L, values of a channel, C)`."""
        x = patch_tokens(ops.cast(inputs, "float32"), self.patch)
        return _split(x, math.prod(self.patch), inputs.shape[-1])

    def _joined(self, x: Any) -> Any:
        """Tokens of patches, their values in the target's order."""
        x = ops.swapaxes(x, 2, 3) if self.order == "channel_first" else x
        return _split(x, x.shape[2] * x.shape[3])

    def _parted(self, tokens: Any, channels: int) -> Any:
        """Patches of tokens, the inverse of `_joined`."""
        volume = math.prod(self.patch)
        if self.order == "channel_first":
            return ops.swapaxes(_split(tokens, channels, volume), 2, 3)
        return _split(tokens, volume, channels)

    def _statistics(self, x: Any) -> tuple[Any, Any]:
        """What is subtracted from patches and what they are divided by."""
        axes = (2, 3) if self.normalize == "patch" else (2,)
        count = math.prod(x.shape[axis] for axis in axes)
        mean = ops.mean(x, axis=axes, keepdims=True)
        # Of the differences: a difference of large squares loses a small variance in float32.
        variance = ops.sum(ops.square(x - mean), axis=axes, keepdims=True)
        variance = ops.maximum(variance / (count - 1 if self.unbiased else count), self.floor)
        if self.epsilon_inside:
            return mean, ops.sqrt(variance + self.epsilon)
        return mean, ops.sqrt(variance) + self.epsilon

    def _check_values(self, count: int) -> None:
        if self.unbiased and count < 2:
            raise ValueError(
                f"PixelTarget(patch={self.patch}, normalize={self.normalize!r}) standardises over "
                "a single value, whose unbiased variance is 0 / 0. Choose a larger patch, "
                "normalize='patch' for several channels, or unbiased=False."
            )


def _split(x: Any, *last: int) -> Any:
    """`(B, L, …)` with other axes behind the tokens."""
    return ops.reshape(x, (*sizes_of(x)[:2], *last))
