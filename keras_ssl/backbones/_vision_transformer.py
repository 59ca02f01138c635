# SPDX-License-Identifier: Apache-2.0
"""Vision transformers (Dosovitskiy et al., 2020)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from keras_ssl.backbones._convnet import checked_image_shape
from keras_ssl.core.seeds import layer_seed
from keras_ssl.tokens import (
    LearnedPositions,
    MaskToken,
    PatchTokenizer,
    PrefixTokens,
    RotaryPositions,
    SinCosPositions,
    TransformerBlock,
)

# Width, depth, heads.
SIZES = {
    "tiny": (192, 12, 3),
    "small": (384, 12, 6),
    "base": (768, 12, 12),
    "large": (1024, 24, 16),
}
POSITIONS = ("learned", "sincos", "rotary")
POOLING = ("class", "mean")


@keras.saving.register_keras_serializable(package="keras_ssl")
class VisionTransformer(keras.Model):
    """A vision transformer as an ordinary Keras model: images to a vector, or to all tokens.

    Images of other sizes than `input_shape` may be given: positions are interpolated. It saves,
    loads and exports like any model, and its parts are attributes: `tokenizer`, `positions`,
    `prefix`, `blocks`, `norm`.

    Args:
        size: `"tiny"`, `"small"`, `"base"` or `"large"`: width 192, 384, 768, 1024.
        input_shape: `(height, width, channels)` of one image, multiples of the patch.
        patch: side of a patch, or `(rows, columns)`.
        width: features of a token, `depth` blocks and `heads` instead of the size's own.
        depth: see `width`.
        heads: see `width`.
        mlp_ratio: hidden features of the feed-forward, in widths.
        class_token: whether a class token goes in front.
        registers: number of register tokens behind it.
        pooling: `"class"` (the class token) or `"mean"` (of the patch tokens), after the last
            norm; `None` takes the class token where there is one.
        tokens: whether the output is all tokens `(B, class + registers + patches, width)`.
        layers: blocks, counted from 1, whose output is given, each normalised as the last; several
            make several outputs of one call. `None` is the last.
        positions: `"learned"` (bicubic for other sizes), `"sincos"` (MAE's table) or `"rotary"`.
        activation: `"gelu"` or `"swiglu"`.
        layer_scale: start of the blocks' `LayerScale`, or `None` without it.
        drop_path: rate of the last block; it rises linearly from 0 at the first.
        qkv_bias: whether queries, keys and values have an offset.
        seed: integer for the initial weights, or `None`.
        **kwargs: `name` and `dtype`.

    Raises:
        ValueError: for an unknown name, a pooling without its token, or sizes that do not fit.

    Source: An Image is Worth 16x16 Words, 2020; sizes and initial weights: DeiT, 2021; registers:
    Vision Transformers Need Registers, 2023.

    Example:
        >>> encoder = VisionTransformer("tiny", (32, 32, 3), patch=4)
        >>> encoder.output_shape
        (None, 192)
        >>> VisionTransformer("tiny", (32, 32, 3), patch=4, tokens=True).output_shape
        (None, 65, 192)
    """

    def __init__(
        self,
        size: str = "small",
        input_shape: tuple[int, int, int] = (224, 224, 3),
        patch: int | Sequence[int] = 16,
        *,
        width: int | None = None,
        depth: int | None = None,
        heads: int | None = None,
        mlp_ratio: float = 4.0,
        class_token: bool = True,
        registers: int = 0,
        pooling: str | None = None,
        tokens: bool = False,
        layers: Sequence[int] | None = None,
        positions: str = "learned",
        activation: str = "gelu",
        layer_scale: float | None = None,
        drop_path: float = 0.0,
        qkv_bias: bool = True,
        seed: int | None = None,
        name: str | None = None,
        dtype: Any = None,
    ):
        # Before anything is added to them: what `get_config` gives back.
        settings = dict(locals())
        for key in ("self", "__class__", "name", "dtype"):
            settings.pop(key, None)
        shape = checked_image_shape(input_shape)
        if size not in SIZES:
            raise ValueError(f"size must be one of {list(SIZES)}, received {size!r}.")
        usual = zip((width, depth, heads), SIZES[size], strict=True)
        own_width, own_depth, own_heads = (given or default for given, default in usual)
        pooling = _checked_pooling(pooling, class_token)
        wanted = _checked_layers(layers, own_depth)
        policy = keras.dtype_policies.get(dtype or keras.config.dtype_policy())
        steps = (patch, patch) if isinstance(patch, int) else tuple(patch)
        tokenizer = PatchTokenizer(
            steps, own_width, seed=layer_seed(seed, 0), dtype=policy, name="tokenizer"
        )
        place = _positions(positions, shape, tokenizer, own_width // own_heads, seed, policy)
        prefix = PrefixTokens(
            class_token, registers, seed=layer_seed(seed, 2), dtype=policy, name="prefix"
        )
        if positions == "rotary":
            place.prefix = prefix.count
        blocks = [
            TransformerBlock(
                own_heads,
                mlp_ratio,
                activation,
                qkv_bias,
                layer_scale,
                drop_path * index / max(own_depth - 1, 1),
                seed=layer_seed(seed, 3, index),
                dtype=policy,
                name=f"block{index + 1}",
            )
            for index in range(own_depth)
        ]
        norm = keras.layers.LayerNormalization(epsilon=1e-6, dtype=policy, name="norm")
        parts = _Parts(tokenizer, place, prefix, blocks, norm)

        images = keras.Input(shape, name="images")
        found = parts(images, wanted)
        if not tokens:
            found = [_pooled(x, pooling, prefix.count) for x in found]
        outputs = found[0] if len(found) == 1 else found
        super().__init__(images, outputs, name=name or f"vit_{size}")
        self.dtype_policy = policy
        self._settings = settings
        self._parts = parts
        self.tokenizer, self.positions, self.prefix = tokenizer, place, prefix
        self.blocks, self.norm = blocks, norm

    @property
    def width(self) -> int:
        """Features of a token."""
        return self.tokenizer.width

    @property
    def patch(self) -> tuple[int, ...]:
        """Sizes of a patch."""
        return self.tokenizer.patch

    @property
    def input_spec(self) -> keras.layers.InputSpec:
        """Images of any size: positions are interpolated."""
        return keras.layers.InputSpec(shape=(None, None, None, self.input_shape[-1]))

    def token_model(
        self, mask_token: MaskToken | None = None, layers: Sequence[int] | None = None
    ) -> keras.Model:
        """A model from images to all tokens, on the same weights.

        Args:
            mask_token: layer that replaces masked patches before positions are added; the model
                then takes `[images, mask]` with mask `(B, rows, columns)` of patches.
            layers: blocks, counted from 1, whose output is given; `None` is the last.

        Returns:
            Functional model with outputs `(B, class + registers + patches, width)`, a list for
            several layers.
        """
        images = keras.Input((None, None, self.input_shape[-1]), name="images")
        inputs, mask = images, None
        if mask_token is not None:
            mask = keras.Input((None, None), name="mask", dtype="float32")
            inputs = [images, mask]
        found = self._parts(images, _checked_layers(layers, len(self.blocks)), mask, mask_token)
        return keras.Model(inputs, found[0] if len(found) == 1 else found, name="tokens")

    def attention_maps(self, images: Any, block: int = -1) -> Any:
        """How much the class token attends to every patch.

        Args:
            images: `(B, H, W, C)` as the model takes them.
            block: index into `blocks`.

        Returns:
            float32 `(B, heads, rows, columns)`; with the weights of the other tokens in front a
            row would sum to 1.

        Raises:
            ValueError: without a class token.
        """
        if not self.prefix.class_token:
            raise ValueError("attention_maps shows what the class token attends to; there is none.")
        grid = tuple(self.tokenizer(images).shape)[1:-1]
        x, angles = self._parts.embed(images)
        asked = self.blocks[block]
        for part in self.blocks[: self.blocks.index(asked)]:
            x = part(x, angles=angles)
        weights = asked.attention_weights(x, angles=angles)
        weights = weights[:, :, 0, self.prefix.count :]
        return ops.reshape(weights, (-1, weights.shape[1], *grid))

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        config = {**self._settings, "name": self.name}
        policy = self.tokenizer.dtype_policy
        if policy != keras.config.dtype_policy():
            config["dtype"] = policy.name
        return config

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> VisionTransformer:
        """Builds the model from `get_config`."""
        return cls(**config)


class _Parts:
    """The layers of a vision transformer, and the way of tokens through them."""

    def __init__(self, tokenizer, positions, prefix, blocks, norm):
        self.tokenizer, self.positions, self.prefix = tokenizer, positions, prefix
        self.blocks, self.norm = blocks, norm

    def embed(self, images: Any, mask: Any = None, mask_token: Any = None) -> tuple:
        """Tokens `(B, N, D)` before the first block, and the angles of rotary positions."""
        x, angles = self.tokenizer(images), None
        if mask_token is not None:
            x = mask_token(x, mask)
        if isinstance(self.positions, RotaryPositions):
            angles = self.positions(x)
        else:
            x = self.positions(x)
        return self.prefix(x), angles

    def __call__(self, images, wanted, mask=None, mask_token=None) -> list:
        """Normalised tokens after each of the wanted blocks."""
        x, angles = self.embed(images, mask, mask_token)
        found = []
        for number, block in enumerate(self.blocks, start=1):
            x = block(x) if angles is None else block(x, angles=angles)
            found += [self.norm(x)] * wanted.count(number)
        return found


def _positions(kind, shape, tokenizer, head_width, seed, policy) -> keras.layers.Layer:
    if kind not in POSITIONS:
        raise ValueError(f"positions must be one of {list(POSITIONS)}, received {kind!r}.")
    grid = tokenizer.compute_output_shape((None, *shape))[1:-1]
    if kind == "learned":
        return LearnedPositions(grid, seed=layer_seed(seed, 1), dtype=policy, name="positions")
    if kind == "sincos":
        return SinCosPositions(order=(1, 0), dtype=policy, name="positions")
    return RotaryPositions(head_width, grid=grid, name="positions")


def _pooled(x: Any, pooling: str, prefix: int) -> Any:
    if pooling == "class":
        return x[:, 0]
    # Summed in float32 by Keras' own layer, and free of the tokens in front.
    return keras.layers.GlobalAveragePooling1D()(x[:, prefix:])


def _checked_pooling(pooling: str | None, class_token: bool) -> str:
    pooling = pooling or ("class" if class_token else "mean")
    if pooling not in POOLING or (pooling == "class" and not class_token):
        raise ValueError(
            f"pooling must be one of {list(POOLING)}, 'class' only with class_token=True; received "
            f"pooling={pooling!r}, class_token={class_token}. tokens=True gives all tokens."
        )
    return pooling


def _checked_layers(layers: Sequence[int] | None, depth: int) -> list[int]:
    layers = [depth] if layers is None else [int(number) for number in layers]
    if not layers or any(not 1 <= n <= depth for n in layers) or sorted(set(layers)) != layers:
        raise ValueError(
            f"layers names blocks in rising order, counted from 1 to {depth}; received {layers}."
        )
    return layers
