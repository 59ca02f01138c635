# SPDX-License-Identifier: Apache-2.0
"""Discrete codes of the patches of a sample."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_ssl.core import Teacher
from keras_ssl.targets._pixels import PixelTarget
from keras_ssl.targets._target import PatchTarget, Target, sizes_of

# Patches that k-means looks at, and those from which on it looks at some at a time.
MOST = 200_000
MANY = 20_000


@keras.saving.register_keras_serializable(package="keras_ssl")
class CodeTarget(Target):
    """The ids that a frozen codebook gives the tokens of a sample.

    Args:
        codebook: callable of samples `(B, N1, …, Nd, C)` that gives integer ids `(B, L)` or
            `(B, g1, …, gd)`. A layer must be built; it is copied, frozen, and runs in inference
            mode. A function is saved only if it is registered with
            `keras.saving.register_keras_serializable`.
        classes: number of codes; ids are in 0..classes-1.
        **kwargs: `name` and other arguments of `keras.layers.Layer`.

    Call: `(B, N1, …, Nd, C)` → int32 `(B, L)`.

    Raises:
        ValueError: for fewer than 2 classes or a codebook that is neither callable nor built; at
            the first call for ids that are no integers.

    Source: BEiT: BERT Pre-Training of Image Transformers, 2021, section 2.1.

    Example:
        >>> def brightness(x):
        ...     return keras.ops.cast(keras.ops.mean(x[:, ::4, ::4], axis=-1) * 7, "int32")
        >>> CodeTarget(brightness, classes=8)(keras.ops.ones((2, 32, 32, 3))).shape
        (2, 64)
    """

    categorical = True

    def __init__(self, codebook: Callable, classes: int, **kwargs: Any):
        super().__init__(**kwargs)
        _check_classes(self, classes)
        layer = isinstance(codebook, keras.Layer)
        if not callable(codebook) or (layer and not codebook.built):
            raise ValueError(
                "CodeTarget needs a callable that gives the ids of a sample's tokens, a layer only "
                f"when it is built; received {codebook!r}. Call a layer once on a batch before."
            )
        if layer and not isinstance(codebook, Teacher):
            codebook = Teacher(codebook, None, dtype=codebook.dtype_policy, name="codebook")
        self.codebook, self.classes = codebook, int(classes)
        self.built = True

    def call(self, inputs: Any) -> Any:
        """The ids."""
        frozen = {"training": False} if isinstance(self.codebook, keras.Layer) else {}
        ids = self.codebook(inputs, **frozen)
        if "int" not in keras.backend.standardize_dtype(ids.dtype) or len(ids.shape) < 2:
            raise ValueError(
                "CodeTarget expects integer ids (B, L) or (B, …) of its codebook; received "
                f"{ids.dtype} of shape {tuple(ids.shape)}. Take the argmax of logits."
            )
        rows, *grid = sizes_of(ids)
        ids = ops.reshape(ids, (rows, math.prod(grid)))
        return ops.stop_gradient(ops.cast(ids, "int32"))

    def compute_output_shape(self, input_shape: Any) -> Any:
        """`(B, L)`."""
        samples = keras.KerasTensor(tuple(input_shape), dtype="float32")
        return tuple(keras.Operation.compute_output_spec(self, samples).shape)

    def head_width(self, input_shape: Sequence) -> int:
        """The number of codes."""
        return self.classes

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        codebook = keras.saving.serialize_keras_object(self.codebook)
        return {**super().get_config(), "codebook": codebook, "classes": self.classes}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> CodeTarget:
        """Makes a target from `get_config`."""
        codebook = keras.saving.deserialize_keras_object(config["codebook"])
        return cls(**{**config, "codebook": codebook})


@keras.saving.register_keras_serializable(package="keras_ssl")
class PatchCodeTarget(PatchTarget):
    """The nearest of k centroids of patches, which `adapt` finds in data: a codebook without
    training.

    Args:
        patch: sizes `(p1, …, pd)` of a patch.
        classes: number of centroids, k.
        normalize: of the values of a patch before they are compared, as of `PixelTarget`.
        seed: integer for the choice of patches and the first centroids, or None.
        **kwargs: `name` and other arguments of `keras.layers.Layer`.

    Call: `(B, N1, …, Nd, C)` → int32 `(B, L)` in 0..classes-1; of equals the first.

    Raises:
        ValueError: for fewer than 2 classes or an unknown normalisation; when called before
            `adapt`.

    Source: k-means, Lloyd, 1982, by scikit-learn; in place of BEiT's (2021) trained codebook.

    Example:
        >>> target = PatchCodeTarget((4, 4), classes=16, seed=0)
        >>> target.adapt(np.random.default_rng(0).random((32, 16, 16, 3)))
        >>> target(np.ones((2, 16, 16, 3), "float32")).shape
        (2, 16)
    """

    categorical = True

    def __init__(
        self,
        patch: Sequence[int],
        classes: int,
        normalize: str | None = None,
        seed: int | None = None,
        **kwargs: Any,
    ):
        adapted = bool(kwargs.pop("adapted", False))
        super().__init__(patch, **kwargs)
        _check_classes(self, classes)
        self.classes, self.normalize, self.seed = int(classes), normalize, seed
        self.pixels = PixelTarget(self.patch, normalize)
        self.adapted = adapted

    def build(self, input_shape: Any) -> None:
        """Makes room for the centroids of patches of `(B, N1, …, Nd, C)`."""
        shape = (self.classes, self.pixels.values(input_shape[-1]))
        self.centroids = self.add_weight(
            shape=shape, initializer="zeros", trainable=False, name="centroids"
        )
        self.built = True

    def adapt(self, samples: Any) -> None:
        """Finds the centroids: k-means of at most 200 000 patches.

        Args:
            samples: `(N, N1, …, Nd, C)` as the model sees them.

        Raises:
            ValueError: for fewer patches than classes.
        """
        from sklearn.cluster import KMeans, MiniBatchKMeans

        samples = np.asarray(samples)
        if not self.built:
            self.build(samples.shape)
        patches = self._some_patches(samples)
        if len(patches) < self.classes:
            raise ValueError(
                f"{len(patches)} patches cannot be split into {self.classes} classes; give more "
                "samples, or fewer classes."
            )
        kind = KMeans if len(patches) <= MANY else MiniBatchKMeans
        found = kind(self.classes, n_init=1, random_state=self.seed).fit(patches)
        self.centroids.assign(found.cluster_centers_.astype("float32"))
        self.adapted = True

    def ready(self) -> bool:
        """Whether there are centroids: found by `adapt`, or loaded as weights."""
        if not self.adapted and self.built:
            self.adapted = bool(np.any(ops.convert_to_numpy(self.centroids)))
        return self.adapted

    def call(self, inputs: Any) -> Any:
        """The ids."""
        if not self.adapted:
            raise ValueError(
                "PatchCodeTarget has no centroids yet; call target.adapt(samples) with some of the "
                "data, or `fit` of a masked model, which does so."
            )
        # Around their mean: large values that all patches share would cost the products precision.
        middle = ops.mean(self.centroids, axis=0)
        centroids = self.centroids - middle
        # The squared distance, halved and without the part that all centroids share.
        near = ops.matmul(self.pixels(inputs) - middle, ops.transpose(centroids))
        near = near - 0.5 * ops.sum(ops.square(centroids), axis=-1)
        return ops.stop_gradient(ops.cast(ops.argmax(near, axis=-1), "int32"))

    def compute_output_shape(self, input_shape: Any) -> Any:
        """`(B, L)`."""
        return self.pixels.compute_output_shape(input_shape)[:2]

    def head_width(self, input_shape: Sequence) -> int:
        """The number of centroids."""
        return self.classes

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments, and whether the saved centroids are found ones."""
        names = ("classes", "normalize", "seed", "adapted")
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}

    def _some_patches(self, samples: np.ndarray) -> np.ndarray:
        """Rows of patches, at random where there are too many."""
        rng = np.random.default_rng(self.seed)
        each = self.pixels.compute_output_shape(samples.shape)[1]
        wanted = -(-MOST // each)
        if len(samples) > wanted:
            samples = samples[np.sort(rng.choice(len(samples), wanted, replace=False))]
        patches = np.asarray(self.pixels(samples))
        return patches.reshape(-1, patches.shape[-1])[:MOST]


def _check_classes(target: Target, classes: int) -> None:
    if classes < 2:
        raise ValueError(
            f"{type(target).__name__} needs at least 2 classes to tell apart; received {classes!r}."
        )
