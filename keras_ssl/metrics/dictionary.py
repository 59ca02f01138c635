# SPDX-License-Identifier: Apache-2.0
"""How good a dictionary of features is: sparse, faithful, alive, and made of the true atoms."""

from typing import Any

from keras import ops

from keras_ssl.metrics._rows import as_rows, unit_rows


def active_latents(latents: Any) -> Any:
    """L0: how many latents of a row are not zero, averaged over rows.

    Args:
        latents: (N, L) codes.

    Returns:
        Scalar between 0 and L.

    Example:
        >>> float(active_latents([[0.0, 2.0, 1.0], [0.0, 0.0, 1.0]]))
        1.5
    """
    return ops.mean(ops.sum(_used(latents), axis=1))


def dead_fraction(latents: Any) -> Any:
    """The share of latents that are zero in every row.

    Args:
        latents: (N, L) codes of many samples: what is rare looks dead in a few.

    Returns:
        Scalar between 0 and 1.

    Example:
        >>> float(dead_fraction([[0.0, 2.0], [0.0, 1.0]]))
        0.5
    """
    return 1.0 - ops.mean(ops.max(_used(latents), axis=0))


def explained_variance(x: Any, reconstruction: Any) -> Any:
    """The share of the variance of rows that reconstructions hold.

    Args:
        x: (N, D) samples, N at least 2.
        reconstruction: (N, D), row i of x.

    Returns:
        Scalar: 1 for equal rows, 0 for the mean row in place of each, below for worse.

    Raises:
        ValueError: if the shapes differ.

    Example:
        >>> round(float(explained_variance([[1.0], [3.0]], [[1.5], [2.5]])), 2)
        0.75
    """
    x, reconstruction = as_rows(x, "x", at_least=2), as_rows(reconstruction, "reconstruction")
    if tuple(x.shape) != tuple(reconstruction.shape):
        raise ValueError(
            f"explained_variance compares row i of both: x has shape {tuple(x.shape)}, "
            f"reconstruction {tuple(reconstruction.shape)}."
        )
    whole = ops.sum(ops.square(x - ops.mean(x, axis=0)))
    left = ops.sum(ops.square(x - ops.cast(reconstruction, x.dtype)))
    return 1.0 - left / ops.where(whole > 0, whole, ops.ones_like(whole))


def loss_recovered(original: Any, replaced: Any, ablated: Any) -> Any:
    """How much of what activations are worth to a model their reconstructions are worth.

    Args:
        original: loss of the model as it is.
        replaced: its loss with reconstructions in the place of activations.
        ablated: its loss with zeros, or the mean, in their place.

    Returns:
        (ablated - replaced) / (ablated - original): 1 where nothing is lost, 0 where
        reconstructions are worth no more than what ablation puts there.

    Example:
        >>> loss_recovered(2.0, 2.5, 4.0)
        0.75
    """
    return (ablated - replaced) / (ablated - original)


def mean_max_cosine(found: Any, atoms: Any, *, signed: bool = True) -> Any:
    """How near every true atom has a neighbour among those found, as a cosine.

    Args:
        found: (L, D) directions of a dictionary; lengths do not matter.
        atoms: (A, D) true directions.
        signed: whether a direction must point the same way; False for those of no sign, such as
            principal components.

    Returns:
        Scalar: the mean over atoms of the largest cosine, 1 where each was found.

    Raises:
        ValueError: if the widths differ.

    Example:
        >>> float(mean_max_cosine([[2.0, 0.0], [0.0, 1.0]], [[1.0, 0.0]]))
        1.0
    """
    found, atoms = unit_rows(as_rows(found, "found")), unit_rows(as_rows(atoms, "atoms"))
    if found.shape[1] != atoms.shape[1]:
        raise ValueError(
            f"found and atoms must be directions of one space; received {tuple(found.shape)} and "
            f"{tuple(atoms.shape)}. Give one direction a row."
        )
    cosines = ops.matmul(atoms, ops.transpose(ops.cast(found, atoms.dtype)))
    return ops.mean(ops.max(cosines if signed else ops.abs(cosines), axis=1))


def _used(latents: Any) -> Any:
    latents = as_rows(latents, "latents")
    return ops.cast(ops.not_equal(latents, 0), latents.dtype)
