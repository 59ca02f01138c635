# SPDX-License-Identifier: Apache-2.0
"""What every transform of a view is: parameters drawn per sample, and their application."""

import keras
from keras import ops

from keras_ssl.core.distribution import fold_in, normal_rows, uniform_rows

register = keras.saving.register_keras_serializable(package="keras_ssl")


class Transform:
    """One member of a view pipeline.

    A transform splits into `draw`, which holds all randomness and gives parameters per sample, and
    `apply`, a pure function of images and parameters. A subclass says how many uniform numbers a
    sample needs (`uniforms`) and what they mean (`parameters`), so that a pipeline draws once for
    all its members. It keeps its constructor arguments as attributes of the same name and lists
    them in `arguments`.

    `kind` tells a `Pipeline` what the member is: "resample", "flip" and "blur" are linear maps of
    space, "colour" is an affine map of colour, "pointwise" is anything that compiles, "foreign"
    runs outside the compiled part.
    """

    kind = "pointwise"
    arguments: tuple[str, ...] = ()
    uniforms: int = 0
    needs_noise: bool = False

    def draw(self, seed, rows: int, image_shape: tuple[int, int, int]) -> dict:
        """Draws the parameters of a batch.

        Args:
            seed: int32 tensor of shape (2,).
            rows: Number of samples on this replica.
            image_shape: (height, width, channels) of the images that `apply` gets.

        Returns:
            A dict of tensors whose first axis is the sample.
        """
        uniform = uniform_rows(seed, rows, (self.uniforms,))
        if not self.needs_noise:
            return self.parameters(uniform, image_shape)
        noise = normal_rows(fold_in(seed, 1), rows, image_shape)
        return {**self.parameters(uniform, image_shape), "noise": noise}

    def parameters(self, uniform, image_shape: tuple[int, int, int]) -> dict:
        """Turns uniform numbers into parameters; no randomness of its own.

        Args:
            uniform: (B, uniforms) float32 in 0..1.
            image_shape: (height, width, channels) of the images that `apply` gets.

        Returns:
            A dict of tensors whose first axis is the sample.
        """
        return {}

    def apply(self, images, params: dict, exact: bool = False):
        """Transforms a batch; this defines the meaning of the transform.

        Args:
            images: (B, H, W, C) float32, nominally in 0..1.
            params: What `draw` returned.
            exact: Follow PIL and torchvision where the fast arithmetic differs.

        Returns:
            (B, h, w, C) float32.
        """
        return images

    def output_shape(self, image_shape: tuple[int, int, int]) -> tuple[int, int, int]:
        """The shape of one image after the transform."""
        return image_shape

    def get_config(self) -> dict:
        """The constructor's arguments."""
        return {name: getattr(self, name) for name in self.arguments}

    @classmethod
    def from_config(cls, config: dict) -> "Transform":
        """Builds the transform from `get_config`."""
        return cls(**config)

    def __repr__(self) -> str:
        settings = ", ".join(f"{name}={value!r}" for name, value in self.get_config().items())
        return f"{type(self).__name__}({settings})"


def check_probability(probability: float) -> float:
    """Returns the probability as a float, or raises."""
    if not 0.0 <= probability <= 1.0:
        raise ValueError(f"`probability` must lie in 0..1, got {probability}.")
    return float(probability)


def interval(value, name: str, low: float | None = None) -> tuple[float, float]:
    """Reads a number or a pair as a pair (low, high), or raises.

    Args:
        value: A number (both ends) or a pair.
        name: The argument's name, for the message.
        low: Smallest allowed end, exclusive; None for any.

    Returns:
        Two floats in order.
    """
    ends = tuple(value) if isinstance(value, (tuple, list)) else (value, value)
    if len(ends) != 2 or ends[0] > ends[1] or (low is not None and ends[0] <= low):
        bound = "" if low is None else f" above {low}"
        raise ValueError(f"`{name}` must be a number or an ordered pair{bound}, got {value!r}.")
    return float(ends[0]), float(ends[1])


def between(uniform, low: float, high: float):
    """Maps uniform numbers of 0..1 to low..high."""
    return low + uniform * (high - low)


def per_sample(values):
    """Reshapes (B,) to (B, 1, 1, 1) so that it multiplies images."""
    return ops.reshape(values, (-1, 1, 1, 1))
