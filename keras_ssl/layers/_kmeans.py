# SPDX-License-Identifier: Apache-2.0
"""k-means on the unit sphere, within a compiled step."""

from __future__ import annotations

from typing import Any

from keras import ops

from keras_ssl.losses._math import as_float32, check_positive, normalize

# Most similarities held at once: 128 MB in float32.
_MOST = 2**25


def spherical_kmeans(x: Any, centroids: Any, iterations: int = 10) -> tuple[Any, Any]:
    """Clusters unit vectors by cosine similarity, from given centroids.

    Each round assigns every vector to its most similar centroid and moves each centroid to the
    direction of the sum of its vectors. A centroid without vectors stays where it is. A last
    assignment follows. Zero vectors move no centroid; what they are assigned to means nothing.

    Unsupervised Learning of Visual Features by Contrasting Cluster Assignments, Caron et al. 2020,
    appendix D; Concept Decompositions for Large Sparse Text Data, Dhillon and Modha 2001.

    Args:
        x: `(N, D)` unit vectors, any float dtype.
        centroids: `(K, D)` unit vectors to start from, usually rows of `x`.
        iterations: number of rounds.

    Returns:
        `(N,)` int32 assignments (the first of equals), and `(K, D)` float32 centroids.

    Raises:
        ValueError: for other than two axes, different widths, or `iterations` below 1.

    Example:

    >>> x = keras.utils.normalize(np.random.normal(size=(100, 8)))
    >>> assignments, centroids = spherical_kmeans(x, x[:5])
    """
    check_positive("spherical_kmeans", "iterations", iterations)
    x, centroids = as_float32(x), as_float32(centroids)
    shapes = tuple(x.shape), tuple(centroids.shape)
    if any(len(shape) != 2 for shape in shapes) or shapes[0][1] != shapes[1][1]:
        raise ValueError(
            "spherical_kmeans expects vectors (N, D) and centroids (K, D); received shapes "
            f"{shapes[0]} and {shapes[1]}."
        )

    def improve(_, centroids):
        return _moved(x, _nearest(x, centroids), centroids)

    # A loop of the graph: unrolled rounds would be traced and compiled one by one.
    centroids = ops.fori_loop(0, iterations, improve, centroids)
    return _nearest(x, centroids), centroids


def _nearest(x: Any, centroids: Any) -> Any:
    """Index of the most similar centroid of each row, `(N,)` int32, some rows at a time."""
    columns = ops.transpose(centroids)
    rows, width = x.shape
    chunk = max(1, _MOST // centroids.shape[0])
    if rows is None or rows <= chunk:
        return ops.cast(ops.argmax(ops.matmul(x, columns), axis=1), "int32")
    chunks = -(-rows // chunk)
    padded = ops.pad(x, [[0, chunks * chunk - rows], [0, 0]])
    found = ops.map(
        lambda part: ops.cast(ops.argmax(ops.matmul(part, columns), axis=1), "int32"),
        ops.reshape(padded, (chunks, chunk, width)),
    )
    return ops.reshape(found, (-1,))[:rows]


def _moved(x: Any, assignments: Any, centroids: Any) -> Any:
    """The direction of the sum of each cluster's rows, or the old centroid where there is none."""
    sums = ops.segment_sum(x, assignments, num_segments=centroids.shape[0])
    found = ops.sum(ops.square(sums), axis=1, keepdims=True) > 0.0
    return ops.where(found, normalize(sums), centroids)
