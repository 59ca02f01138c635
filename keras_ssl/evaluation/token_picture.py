# SPDX-License-Identifier: Apache-2.0
"""Pictures of what a vision transformer attends to, and of what its patches have in common."""

from __future__ import annotations

from typing import Any

import numpy as np
from keras import ops

from keras_ssl.evaluation._cells import as_rgb, cell
from keras_ssl.evaluation.prompts import patch_tokens


def patch_colours(tokens: Any) -> np.ndarray:
    """Colours patches by their first three principal components: alike in colour, alike in kind.

    The components are those of all patches of all images together, so that colours can be compared
    between images.

    Args:
        tokens: `(N, rows, columns, D)` patch tokens, without class token and registers.

    Returns:
        float32 `(N, rows, columns, 3)` in 0..1; 2 % of the values at either end are cut.

    Raises:
        ValueError: for another rank, or fewer than three features or patches.

    Source: DINOv2, Oquab et al. 2023, figure 1.
    """
    from sklearn.decomposition import PCA

    tokens = np.asarray(tokens, "float32")
    if tokens.ndim != 4 or min(tokens.shape[-1], np.prod(tokens.shape[:-1])) < 3:
        raise ValueError(
            "patch_colours expects patch tokens (N, rows, columns, D) of at least three features "
            f"and patches; received shape {tokens.shape}."
        )
    flat = tokens.reshape(-1, tokens.shape[-1])
    found = PCA(3, random_state=0).fit_transform(flat)
    low, high = np.percentile(found, [2, 98], axis=0)
    # A component that hardly varies is rounding, and must not be stretched to full colours.
    reach = np.maximum(high - low, 1e-3 * np.max(high - low) + 1e-12)
    found = np.clip((found - low) / reach, 0.0, 1.0)
    return found.reshape(*tokens.shape[:-1], 3).astype("float32")


def token_picture(encoder: Any, images: Any, preprocess: Any = None, block: int = -1) -> np.ndarray:
    """One row an image: itself, the class token's attention (mean, then each head), patch colours.

    Args:
        encoder: a `backbones.VisionTransformer` with a class token.
        images: `(N, H, W, C)` uint8 of 0..255 or float of 0..1, C of 1 or 3.
        preprocess: from images to what the encoder takes, such as a model's `views.preprocess`;
            None where they are ready.
        block: whose attention, an index into the encoder's blocks.

    Returns:
        uint8 `(height, width, 3)`.

    Raises:
        ValueError: if the encoder has no class token.

    Example:

    ```python
    picture = evaluation.token_picture(model.encoder, images[:6], model.views.preprocess)
    keras.utils.save_img("attention.png", picture)
    ```
    """
    from matplotlib import colormaps

    seen = ops.convert_to_tensor(images)
    seen = seen if preprocess is None else preprocess(seen)
    maps = ops.convert_to_numpy(encoder.attention_maps(seen, block=block))
    patches = patch_tokens(encoder, seen)
    heads = np.concatenate([maps.mean(axis=1, keepdims=True), maps], axis=1)
    # Every map by itself: what matters is where a head looks, not how much the prefix takes.
    low, high = heads.min(axis=(2, 3), keepdims=True), heads.max(axis=(2, 3), keepdims=True)
    heads = colormaps["viridis"]((heads - low) / np.maximum(high - low, 1e-12))[..., :3]
    rows = [
        np.concatenate([cell(picture) for picture in (image, *own, colours)], axis=1)
        for image, own, colours in zip(as_rgb(images), heads, patch_colours(patches), strict=True)
    ]
    return np.concatenate(rows, axis=0)
