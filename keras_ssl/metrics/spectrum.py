# SPDX-License-Identifier: Apache-2.0
"""The singular spectrum of embeddings, as numbers and as a picture."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from keras import ops

from keras_ssl.metrics._rows import as_rows


def singular_spectrum(z: Any, *, center: bool = False) -> Any:
    """Singular values of embeddings as shares of the largest, descending.

    Args:
        z: (N, D) embeddings.
        center: subtract the mean row first, so that a large common part does not count.

    Returns:
        (min(N, D),), from 1 down; all 0 where the embeddings are.

    Raises:
        ValueError: if `z` is not (N, D).

    Source: Understanding Dimensional Collapse in Contrastive Self-supervised Learning, 2022,
    figure 2 (there of the covariance, in logarithms).

    Example:
        >>> import numpy as np
        >>> singular_spectrum(np.diag([4.0, 2.0, 1.0])).numpy().tolist()
        [1.0, 0.5, 0.25]
    """
    z = as_rows(z, "z")
    if center:
        z = z - ops.mean(z, axis=0)
    # Without it the squares of very large or very small embeddings leave float32.
    largest = ops.max(ops.abs(z))
    found = ops.svd(z / ops.where(largest > 0, largest, ops.ones_like(largest)), compute_uv=False)
    return found / ops.where(found[0] > 0, found[0], ops.ones_like(found[0]))


def show_spectrum(embeddings: Mapping[str, Any], *, center: bool = False) -> Any:
    """Draws singular spectra of several embeddings on logarithmic axes, with their RankMe.

    A line that drops to nothing says that embeddings fill only so many dimensions.

    Args:
        embeddings: (N, D) arrays by name.
        center: as `singular_spectrum`; RankMe is that of the same rows.

    Returns:
        A `PIL.Image.Image` in RGB.

    Raises:
        ValueError: without any, or as `singular_spectrum`.

    Example:
        >>> show_spectrum({"encoder": features, "projector": projections}).save("spectrum.png")
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from PIL import Image

    from keras_ssl.metrics.rank_me import rank_me

    if not embeddings:
        raise ValueError("show_spectrum needs at least one array of embeddings, by its name.")
    figure = Figure(figsize=(6, 4), layout="constrained", dpi=110)
    canvas, axes = FigureCanvasAgg(figure), figure.subplots()
    for name, z in embeddings.items():
        values = ops.convert_to_numpy(singular_spectrum(z, center=center))
        shown = values > 1e-8
        label = f"{name}: RankMe {float(rank_me(z, center=center)):.1f} of {len(values)}"
        axes.loglog(np.arange(1, len(values) + 1)[shown], values[shown], label=label)
    axes.set_xlabel("rank")
    axes.set_ylabel("singular value, of the largest")
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    canvas.draw()
    return Image.fromarray(np.asarray(canvas.buffer_rgba())[..., :3].copy())
