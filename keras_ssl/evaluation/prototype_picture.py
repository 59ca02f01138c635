# SPDX-License-Identifier: Apache-2.0
"""What prototypes look like, as one picture."""

from collections.abc import Callable
from typing import Any

import numpy as np
from keras import ops

from keras_ssl.evaluation._cells import as_rgb, cell


def prototype_picture(layer: Any, decoder: Callable, *, columns: int = 5) -> np.ndarray:
    """Decodes the prototypes of a layer and draws them side by side.

    Args:
        layer: a built `layers.PrototypeDistance`.
        decoder: model or function from codes, of the shape that the layer was built for, to images
            `(P, H, W, C)` of 0..1, C of 1 or 3.
        columns: prototypes in a row.

    Returns:
        uint8 `(height, width, 3)`.

    Raises:
        ValueError: if the layer has no prototypes yet, or the decoder gives no images.

    Example:
        >>> picture = prototype_picture(distances, decoder)
        >>> keras.utils.save_img("prototypes.png", picture)
    """
    if getattr(layer, "prototypes", None) is None:
        raise ValueError(
            f"{getattr(layer, 'name', layer)!r} has no prototypes. Give a layers.PrototypeDistance "
            "that was called on codes before."
        )
    images = np.asarray(decoder(ops.convert_to_tensor(layer.prototypes)))
    if images.ndim != 4 or images.shape[-1] not in (1, 3):
        raise ValueError(
            "the decoder must give images (prototypes, height, width, 1 or 3); it gave "
            f"{images.shape}."
        )
    cells = [cell(image) for image in as_rgb(images)]
    blank = np.full_like(cells[0], 255)
    cells += [blank] * (-len(cells) % columns)
    rows = [np.concatenate(cells[i : i + columns], 1) for i in range(0, len(cells), columns)]
    return np.concatenate(rows, axis=0)
