# SPDX-License-Identifier: Apache-2.0
"""Representations as points on a plane."""

from typing import Any

import numpy as np

from keras_ssl.evaluation._inputs import features as checked

METHODS = ("pca", "tsne")


def map_points(
    features: Any, method: str = "pca", *, before: Any = None, seed: int = 0
) -> np.ndarray:
    """Lays features out on a plane.

    Args:
        features: `(N, D)`, N at least 2.
        method: "pca", the plane of largest variance, or "tsne", neighbourhoods, for N above 3.
        before: `(N, 2)` points of an earlier map of the same samples. t-SNE begins there, and the
            new map is turned, or mirrored, to lie over it, so that maps in a row can be followed.
        seed: of the layout.

    Returns:
        float32 `(N, 2)` with mean 0; zeros where all features are the same.

    Raises:
        ValueError: for another method, NaN or infinity, or too few rows.

    Source: Visualizing Data using t-SNE, 2008, by scikit-learn.
    """
    from scipy.linalg import orthogonal_procrustes
    from sklearn.decomposition import PCA
    from sklearn.manifold import TSNE

    z = checked(features, "features").astype("float32")
    if method not in METHODS or len(z) < (4 if method == "tsne" else 2):
        raise ValueError(
            f"method is {method!r} for {len(z)} rows, expected one of {METHODS}, of at least 2 "
            "rows, and 4 for t-SNE."
        )
    if np.ptp(z, axis=0).max() == 0:
        return np.zeros((len(z), 2), "float32")
    # One dimension has no second component.
    z = np.pad(z, ((0, 0), (0, max(0, 2 - z.shape[1]))))
    earlier = np.zeros((len(z), 2)) if before is None else np.asarray(before, "float32")
    began = np.ptp(earlier) > 0
    if method == "pca":
        points = PCA(2, random_state=seed).fit_transform(z)
    else:
        # t-SNE is to begin close together, in the scale that scikit-learn gives to its own start.
        start = earlier * 1e-4 / np.std(earlier) if began else "pca"
        perplexity = min(30.0, len(z) / 4)
        points = TSNE(init=start, perplexity=perplexity, random_state=seed).fit_transform(z)
    points = points - points.mean(axis=0)
    if began:
        points = points @ orthogonal_procrustes(points, earlier)[0]
    return points.astype("float32")


def map_picture(
    points: Any, labels: Any = None, title: str = "", *, size: tuple[float, float] = (7, 6)
) -> np.ndarray:
    """Draws points on a plane, coloured by class.

    Args:
        points: `(N, 2)`, of `map_points`.
        labels: `(N,)` classes, or None for one colour; up to twenty have a legend.
        title: above the map.
        size: width and height in inches of 120 pixels; letters have the same size in any.

    Returns:
        uint8 `(height, width, 3)`.

    Raises:
        ValueError: if points and labels differ in number.

    Example:
        >>> points = map_points(evaluation.extract_features(model, images), "tsne")
        >>> keras.utils.save_img("map.png", map_picture(points, labels))
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    points = np.asarray(points)
    if labels is not None and len(labels) != len(points):
        raise ValueError(f"{len(points)} points have {len(labels)} labels, expected one a point.")
    figure = Figure(figsize=size, dpi=120, layout="constrained")
    axes = figure.add_subplot()
    if labels is None:
        axes.scatter(*points.T, s=min(12, 1.7 * size[0]))
    else:
        classes = np.unique(labels)
        colours = axes.scatter(
            *points.T,
            c=np.searchsorted(classes, labels),
            s=min(12, 1.7 * size[0]),
            cmap="tab10" if len(classes) <= 10 else "turbo",
        )
        if len(classes) <= 20:
            handles = colours.legend_elements(num=None)[0]  # pyright: ignore[reportArgumentType]
            axes.legend(handles, [str(c) for c in classes], title="label", fontsize="small")
    axes.set(title=title, xticks=[], yticks=[])
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()
