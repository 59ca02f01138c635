# SPDX-License-Identifier: Apache-2.0
"""Vision transformers (Dosovitskiy et al., 2020)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import keras

from keras_ssl.backbones._convnet import checked_image_shape
from keras_ssl.backbones._token_transformer import TokenTransformer
from keras_ssl.core.seeds import layer_seed
from keras_ssl.tokens import PatchTokenizer

# Width, depth, heads.
SIZES = {
    "tiny": (192, 12, 3),
    "small": (384, 12, 6),
    "base": (768, 12, 12),
    "large": (1024, 24, 16),
}


@keras.saving.register_keras_serializable(package="keras_ssl")
class VisionTransformer(TokenTransformer):
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
        positions: `"learned"` (bicubic for other sizes), `"sincos"` (MAE's table), `"rotary"`,
            `"none"`, or settings of `tokens.SinCosPositions` or, with `pairs` among them, of
            `tokens.RotaryPositions`.
        activation: `"gelu"` or `"swiglu"`.
        layer_scale: start of the blocks' `LayerScale`, or `None` without it.
        drop_path: rate of the last block; it rises linearly from 0 at the first.
        qkv_bias: whether queries, keys and values have an offset.
        kernel_initializer: Keras name for the blocks' linear maps; `None` for a truncated normal
            of 0.02 (ViT, DeiT). `"glorot_uniform"` is MAE's and much larger in narrow networks.
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
        positions: str | Mapping[str, Any] = "learned",
        activation: str = "gelu",
        layer_scale: float | None = None,
        drop_path: float = 0.0,
        qkv_bias: bool = True,
        kernel_initializer: str | None = None,
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
        policy = keras.dtype_policies.get(dtype or keras.config.dtype_policy())
        steps = (patch, patch) if isinstance(patch, int) else tuple(patch)
        tokenizer = PatchTokenizer(
            steps, own_width, seed=layer_seed(seed, 0), dtype=policy, name="tokenizer"
        )
        super().__init__(
            tokenizer,
            shape,
            own_depth,
            own_heads,
            mlp_ratio=mlp_ratio,
            class_token=class_token,
            registers=registers,
            pooling=pooling,
            tokens=tokens,
            layers=layers,
            positions=positions,
            activation=activation,
            layer_scale=layer_scale,
            drop_path=drop_path,
            qkv_bias=qkv_bias,
            kernel_initializer=kernel_initializer,
            seed=seed,
            name=name or f"vit_{size}",
            dtype=policy,
        )
        self._settings = settings
