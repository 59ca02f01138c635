# SPDX-License-Identifier: Apache-2.0
"""Zero-shot segmentation: what belongs to a prompted patch, by the similarity of tokens alone."""

from __future__ import annotations

from typing import Any

import numpy as np
from keras import ops

from keras_ssl.evaluation._cells import CELL, as_rgb, cell, enlarge

# Equal tokens are equal after rounding in single precision too.
ROUNDING = 1e-6


def patch_tokens(
    encoder: Any, images: Any, preprocess: Any = None, batch_size: int = 256
) -> np.ndarray:
    """The tokens of all patches on their grid, without class token and registers.

    Args:
        encoder: a `backbones.VisionTransformer`.
        images: `(N, H, W, C)`, raw where `preprocess` is given.
        preprocess: from images to what the encoder takes, such as a model's `views.preprocess`;
            None where they are ready.
        batch_size: images at a time.

    Returns:
        float32 `(N, rows, columns, D)`.

    Example:

    ```python
    tokens = evaluation.patch_tokens(model.encoder, images, model.views.preprocess)
    ```
    """
    network, parts = encoder.token_model(), []
    for start in range(0, len(images), batch_size):
        seen = ops.convert_to_tensor(images[start : start + batch_size])
        seen = seen if preprocess is None else preprocess(seen)
        tokens = ops.convert_to_numpy(ops.cast(network(seen, training=False), "float32"))
        grid = [side // step for side, step in zip(seen.shape[1:3], encoder.patch, strict=True)]
        parts.append(tokens[:, encoder.prefix.count :].reshape(len(tokens), *grid, -1))
    return np.concatenate(parts)


def prompt_similarity(tokens: Any, prompts: Any) -> np.ndarray:
    """Cosine similarity of every patch with the prompted one; with several, with the most similar.

    Args:
        tokens: `(N, rows, columns, D)`, see `patch_tokens`.
        prompts: integers `(N, 2)`, row and column of a patch in each image, or `(N, P, 2)`. The
            patch of a pixel is its place divided by the patch's side, rounded down.

    Returns:
        float64 `(N, rows, columns)` in -1..1; 1 at the prompts.

    Raises:
        ValueError: for other shapes, or a prompt outside the grid.

    Source: MMC, Wu et al. 2023; https://arxiv.org/abs/2308.11448.
    """
    unit, prompts = unit_tokens(tokens), np.asarray(prompts)
    images, grid = len(unit), np.array(unit.shape[1:3])
    if prompts.ndim == 2:
        prompts = prompts[:, None]
    fits = prompts.ndim == 3 and prompts.shape[::2] == (images, 2) and prompts.shape[1] > 0
    if not fits or prompts.dtype.kind not in "iu":
        raise ValueError(
            f"prompts are integers ({images}, 2) or ({images}, prompts, 2), row and column of a "
            f"patch in each image; received shape {prompts.shape}, dtype {prompts.dtype}."
        )
    if np.any((prompts < 0) | (prompts >= grid)):
        raise ValueError(
            f"a prompt lies outside the {grid[0]} x {grid[1]} patches of an image. Prompts count "
            "patches; divide the place of a pixel by the patch's side."
        )
    every = np.arange(images)[:, None]
    rows, columns = prompts[..., 0], prompts[..., 1]
    asked = unit[every, rows, columns]
    similar = np.clip(np.einsum("nrcd,npd->nprc", unit, asked), -1.0, 1.0).max(axis=1)
    # Also where a token is zero and has no direction.
    similar[every, rows, columns] = 1.0
    return similar


def prompt_segmentation(tokens: Any, prompts: Any, threshold: float = 0.5) -> np.ndarray:
    """Which patches belong to what a prompt points at: those at least as similar as a threshold.

    No training and no labels: how well it works says how well tokens tell objects apart.

    Args:
        tokens: `(N, rows, columns, D)`, see `patch_tokens`.
        prompts: as in `prompt_similarity`; a patch belongs if it is similar to any of them.
        threshold: of the cosine similarity; -1 takes all patches, 1 those equal to a prompt. Good
            values differ between encoders, see `prompt_iou`.

    Returns:
        Boolean `(N, rows, columns)`; the prompts always belong.

    Raises:
        ValueError: as `prompt_similarity`.

    Source: MMC, Wu et al. 2023; https://arxiv.org/abs/2308.11448.

    Example:

    ```python
    masks = evaluation.prompt_segmentation(tokens, prompts=[[3, 4]] * len(tokens), threshold=0.6)
    ```
    """
    return prompt_similarity(tokens, prompts) >= threshold - ROUNDING


def prompt_picture(
    encoder: Any, images: Any, prompts: Any, preprocess: Any = None, threshold: float = 0.5
) -> np.ndarray:
    """One row an image: itself with its prompts framed, the similarity, what belongs to them.

    Args:
        encoder: a `backbones.VisionTransformer`.
        images: `(N, H, W, C)` uint8 of 0..255 or float of 0..1, C of 1 or 3.
        prompts: as in `prompt_similarity`.
        preprocess: as in `patch_tokens`.
        threshold: as in `prompt_segmentation`.

    Returns:
        uint8 `(height, width, 3)`.

    Raises:
        ValueError: as `prompt_similarity`.

    Example:

    ```python
    picture = evaluation.prompt_picture(model.encoder, images, prompts, model.views.preprocess)
    keras.utils.save_img("prompted.png", picture)
    ```
    """
    from matplotlib import colormaps

    similar = prompt_similarity(patch_tokens(encoder, images, preprocess), prompts)
    prompts = np.asarray(prompts).reshape(len(similar), -1, 2)
    rows = []
    for image, asked, found in zip(as_rgb(images), prompts, similar, strict=True):
        # From -1, so that colours can be compared between images and encoders.
        heat = colormaps["viridis"]((found + 1.0) / 2.0)[..., :3]
        inside = enlarge(np.repeat((found >= threshold - ROUNDING)[..., None], 3, axis=-1)) / 255.0
        shown = enlarge(image) / 255.0
        cut = shown * inside + (1.0 - inside) * (0.15 * shown + 0.1)
        rows.append([cell(picture) for picture in (_framed(shown, asked, found.shape), heat, cut)])
    return np.concatenate([np.concatenate(row, axis=1) for row in rows], axis=0)


def unit_tokens(tokens: Any) -> np.ndarray:
    """Tokens of length 1, so that a product is a cosine; a zero token stays zero.

    Args:
        tokens: `(N, rows, columns, D)`, any float dtype.

    Returns:
        float64 of the same shape.

    Raises:
        ValueError: for another rank, or values that are not finite.
    """
    tokens = ops.convert_to_numpy(ops.cast(tokens, "float64"))
    if tokens.ndim != 4:
        raise ValueError(
            f"patch tokens are (N, rows, columns, D), as patch_tokens gives them; received shape "
            f"{tokens.shape}."
        )
    if not np.isfinite(tokens).all():
        raise ValueError("patch tokens hold NaN or infinity: the encoder has diverged.")
    length = np.linalg.norm(tokens, axis=-1, keepdims=True)
    return tokens / np.where(length > 0, length, 1.0)


def _framed(shown: np.ndarray, prompts: np.ndarray, grid: tuple) -> np.ndarray:
    """An image at the size of a cell with a red frame around every prompted patch."""
    shown = shown.copy()
    for place in prompts:
        (top, left), (bottom, right) = (
            [round(p * CELL / n) for p, n in zip(corner, grid, strict=True)]
            for corner in (place, place + 1)
        )
        inside = shown[top + 2 : bottom - 2, left + 2 : right - 2].copy()
        shown[top:bottom, left:right] = (1.0, 0.0, 0.0)
        shown[top + 2 : bottom - 2, left + 2 : right - 2] = inside
    return shown
