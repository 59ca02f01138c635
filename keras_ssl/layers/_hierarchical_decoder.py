# SPDX-License-Identifier: Apache-2.0
"""From the sparse maps of a convolutional network at several scales to pixels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from keras_ssl.core.seeds import layer_seed
from keras_ssl.layers._batch_norm import batch_norm, masked_batch_norm
from keras_ssl.layers._sparse_cnn import active_at
from keras_ssl.tokens import patchify

NORMS = ("batch", "layer")


@keras.saving.register_keras_serializable(package="keras_ssl")
class HierarchicalDecoder(keras.layers.Layer):
    """Fills the gaps of maps of several scales and reconstructs samples from them, as a U-Net does.

    A map is normalised over what was seen, a learned vector fills the rest, and a convolution
    brings it to the decoder's width, which halves as sides double. From the smallest map on,
    blocks of a transposed convolution and two convolutions double the sides; the map of the new
    size is added before the next. A convolution of 1x1 makes the values of a pixel.

    Args:
        values: numbers to predict for a cell; `None` takes those of the target.
        width: channels at the smallest map.
        norm: of the maps: `"batch"`, or `"layer"` for networks with layer normalization.
        seed: integer for the initial weights, or `None`.
        **kwargs: `name`, `dtype` and other arguments of `keras.layers.Layer`.

    Call: `decoder(maps, plan=…, grid=…, training=False)` with maps `(B, n1, …, nd, C)`, the
    smallest first and each twice as large as the one before, `None` where there is none, a
    `masking.MaskPlan` of the cells and their grid gives the values of all cells `(B, L, values)`,
    the pixels of a cell in the order of `tokens.patchify`.

    Raises:
        ValueError: for sizes that do not fit, or an unknown norm.

    Source: SparK, Tian et al. 2023, section 3.3; block and initial weights as released.

    Example:
        >>> decoder = HierarchicalDecoder(16 * 3, width=32)
        >>> decoder.build([(None, 8, 8, 24), (None, 16, 16, 12)])
        >>> maps = [keras.ops.ones((2, 8, 8, 24)), keras.ops.ones((2, 16, 16, 12))]
        >>> plan = RandomMasking(0.6).plan(2, (8, 8), distribution.fixed_seed(0))
        >>> decoder(maps, plan=plan, grid=(8, 8)).shape
        (2, 64, 48)
    """

    def __init__(
        self,
        values: int | None = None,
        width: int = 768,
        norm: str = "batch",
        seed: int | None = None,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        if min(width, values or 1) < 1 or norm not in NORMS:
            raise ValueError(
                "HierarchicalDecoder needs values and width of at least 1 and a norm in "
                f"{NORMS}; received {values}, {width} and {norm!r}."
            )
        self.values, self.width, self.norm, self.seed = values, int(width), norm, seed

    def build(self, encoded_shape: Sequence) -> None:
        """Makes all parts for maps `(B, n1, …, nd, C)`, the smallest first."""
        if self.values is None:
            raise ValueError(f"{self.name}: say how many values a cell has, values=...")
        rank, doublings = len(encoded_shape[0]) - 2, len(encoded_shape)
        self.patch = (2**doublings,) * rank
        pixels = 2 ** (doublings * rank)
        if self.values % pixels or self.width < 2**doublings:
            raise ValueError(
                f"{self.name} makes as many values for every one of the {pixels} pixels of a cell "
                f"and halves its width {doublings} times; received values={self.values} and "
                f"width={self.width}."
            )
        widths = [self.width // 2**level for level in range(doublings + 1)]
        self.norms, self.fillings, self.projections, self.blocks = [], [], [], []
        for level, shape in enumerate(encoded_shape):
            self._build_level(level, shape, rank, widths[level])
            self._build_block(level, rank, *widths[level : level + 2])
        self.head = self._conv(rank, widths[-1], self.values // pixels, 1, 4)
        self.built = True

    def _build_level(self, level: int, shape: Sequence | None, rank: int, width: int) -> None:
        norm = filling = projection = None
        if shape is not None:
            options = {"dtype": self.dtype_policy, "name": f"norm{level + 1}"}
            norm = (
                batch_norm(**options)
                if self.norm == "batch"
                else keras.layers.LayerNormalization(epsilon=1e-6, **options)
            )
            norm.build(tuple(shape))
            start = keras.initializers.TruncatedNormal(
                stddev=0.02, seed=layer_seed(self.seed, 1, level)
            )
            filling = self.add_weight(
                shape=(shape[-1],), initializer=start, name=f"mask_token{level + 1}"
            )
            if level > 0 or shape[-1] != width:
                size = 1 if level == 0 else 3
                projection = self._conv(rank, shape[-1], width, size, 2, level, start="torch")
        self.norms.append(norm)
        self.fillings.append(filling)
        self.projections.append(projection)

    def _build_block(self, level: int, rank: int, before: int, after: int) -> None:
        start = keras.initializers.VarianceScaling(
            2.0, "fan_out", "untruncated_normal", seed=layer_seed(self.seed, 3, level, 0)
        )
        rise = getattr(keras.layers, f"Conv{rank}DTranspose")(
            before, 4, 2, "same", kernel_initializer=start, dtype=self.dtype_policy
        )
        rise.build((None, *[None] * rank, before))
        parts = [rise]
        for index, width in enumerate((before, after), start=1):
            parts.append(self._conv(rank, before, width, 3, 3, level, index, use_bias=False))
            parts.append(batch_norm(dtype=self.dtype_policy))
            parts[-1].build((None, *[None] * rank, width))
        self.blocks.append(parts)

    def _conv(self, rank, before, after, size, *position, use_bias=True, start="normal"):
        """A built convolution that keeps the size."""
        seed = layer_seed(self.seed, *position)
        starts = {
            "normal": keras.initializers.TruncatedNormal(stddev=0.02, seed=seed),
            "torch": keras.initializers.VarianceScaling(1 / 3, "fan_in", "uniform", seed=seed),
        }
        conv = getattr(keras.layers, f"Conv{rank}D")(
            after,
            size,
            padding="same",
            use_bias=use_bias,
            kernel_initializer=starts[start],
            dtype=self.dtype_policy,
        )
        conv.build((None, *[None] * rank, before))
        return conv

    def fill(self, level: int, x: Any, active: Any, training: bool = False) -> Any:
        """A map, normalised and without gaps.

        Args:
            level: its place in the list of maps.
            x: `(B, n1, …, nd, C)`, zero where a cell was not seen.
            active: boolean `(B, g1, …, gd, 1)`, which cells were.
            training: whether a batch norm runs in training mode.

        Returns:
            As the map.
        """
        seen, norm = active_at(active, x.shape[1:-1]), self.norms[level]
        batch = isinstance(norm, keras.layers.BatchNormalization)
        x = masked_batch_norm(norm, x, seen, training) if batch else norm(x)
        return ops.where(seen, x, ops.cast(self.fillings[level], x.dtype))

    def call(self, inputs: Any, plan: Any, grid: Sequence[int], training: bool = False) -> Any:
        """Predicted values of all cells."""
        active = ops.reshape(plan.mask < 0.5, (-1, *grid, 1))
        x = 0.0
        for level, (given, block) in enumerate(zip(inputs, self.blocks, strict=True)):
            if given is not None:
                dense = self.fill(level, given, active, training)
                projection = self.projections[level]
                dense = dense if projection is None else projection(dense)
                x = dense if level == 0 else x + dense
            rise, first, first_norm, second, second_norm = block
            x = ops.relu6(first_norm(first(rise(x)), training=training))
            x = second_norm(second(x), training=training)
        x = patchify(self.head(x), self.patch)
        return ops.reshape(x, (-1, plan.mask.shape[1], self.values))

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        names = ("values", "width", "norm", "seed")
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}
