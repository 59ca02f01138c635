# SPDX-License-Identifier: Apache-2.0
"""Mixed Barlow Twins."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import keras
from keras import ops

from keras_ssl import losses
from keras_ssl.core import distribution, register
from keras_ssl.losses._math import check_two_views
from keras_ssl.models.joint_embedding.barlow_twins import BarlowTwins

# The views fold in 0, 1, … themselves, and evaluation starts from the same seed.
MIXING = 1000


@register(
    paper="Guarding Barlow Twins Against Overfitting with Mixed Samples",
    year=2023,
    family="redundancy reduction",
    modality="image",
    needs=("wide projector",),
)
class MixedBarlowTwins(BarlowTwins):
    """Barlow Twins with a third view, a mixture of images, that must correlate as mixed.

    One mixing coefficient and one permutation serve the whole batch of all replicas.

    Args:
        encoder: any Keras model from image `(H, W, C)` to vector; a feature map is pooled.
        projector: widths of the head (Linear without bias, BN, ReLU, Linear; the last has a bias
            where `normalize` does not cancel it) or a layer. `(8192, 8192, 8192)` on ImageNet.
        lambd: weight of the off-diagonal correlations; 0.0051 on ImageNet.
        mix_scale: factor of the mixed term, a float or a schedule of the optimizer's step; 2 on
            STL-10, on ImageNet a ramp from 0 to 1 over 10 epochs.
        form: `"cifar"` or `"imagenet"`, see `losses.mixed_barlow_twins`.
        normalize: whether projections have unit length before features are standardised (the
            authors' models for small images); `False` on ImageNet.
        scale: factor of the whole loss.
        variance: `"unbiased"` (the released code) or `"biased"` standardisation.
        views: view recipe, a name or a layer; two views.
        **kwargs: `seed`, `name`, `dtype`.

    Source: Bandara et al., 2023, equations 4 to 7; https://arxiv.org/abs/2312.02151.

    Example:

    ```python
    model = MixedBarlowTwins(encoder, mix_scale=4.0)
    model.compile("adam")
    model.fit(images, batch_size=256, epochs=2000)
    ```
    """

    loss_terms = ("barlow_twins", "mixed")

    def __init__(
        self,
        encoder: keras.Model,
        projector: Sequence[int] | keras.Layer = (512, 1024),
        lambd: float = 1 / 128,
        mix_scale: float | Callable = 4.0,
        form: str = "cifar",
        normalize: bool = True,
        scale: float = 1.0,
        variance: str = "unbiased",
        views: str | keras.Layer = "mixed_barlow_twins",
        **kwargs: Any,
    ):
        # The head depends on it.
        self.normalize = normalize
        super().__init__(encoder, projector, lambd, scale, variance, views, **kwargs)
        self.mix_scale = mix_scale
        self.form = form

    def build_head(self, head, width, position, **options):
        """A head with the released layout."""
        bias = "last" if self.normalize else "none"
        return super().build_head(head, width, position, **{"bias": bias, **options})

    def make_views(self, batch: Any) -> dict[str, Any]:
        """Two views, their mixture, and how it was mixed."""
        views = super().make_views(batch)
        check_two_views("MixedBarlowTwins", views)
        first, second = views
        seed = self.draw_seed()
        # A partner may be on another replica.
        everyone = ops.reshape(distribution.all_gather(second), (-1, *second.shape[1:]))
        alpha, permutation = mixing(distribution.fold_in(seed, MIXING), ops.shape(everyone)[0])
        mine = distribution.own_rows(permutation, ops.shape(first)[0])
        partner = ops.take(everyone, mine, axis=0)
        mixed = ops.cast(alpha, first.dtype) * first + ops.cast(1.0 - alpha, first.dtype) * partner
        return {"views": [first, second, mixed], "permutation": permutation, "alpha": alpha}

    def project(self, view: Any, training: bool = False) -> Any:
        """Projections `(B, D)` of one view, of unit length where `normalize` says so."""
        projection = super().project(view, training)
        return losses.normalize(projection) if self.normalize else projection

    def compute_losses(self, views: dict, training: bool) -> dict[str, Any]:
        """The loss of Barlow Twins and that of the mixture."""
        first, second, mixed = (self.project(view, training) for view in views["views"])
        return losses.mixed_barlow_twins(
            first,
            second,
            mixed,
            views["permutation"],
            views["alpha"],
            lambd=self.lambd,
            mix_scale=self.now(self.mix_scale),
            scale=self.scale,
            variance=self.variance,
            form=self.form,
        )


def mixing(seed: Any, rows: Any) -> tuple[Any, Any]:
    """The mixing coefficient and the partners of a batch, alike on all replicas.

    Args:
        seed: int32 `(2,)`.
        rows: number of rows of the global batch.

    Returns:
        alpha, a float32 scalar from Beta(1, 1), which is uniform in 0..1; an int32 permutation
        `(rows,)`.
    """
    alpha = distribution.uniform_batch(distribution.fold_in(seed, 0), ())
    keys = distribution.uniform_batch(distribution.fold_in(seed, 1), (rows,))
    return alpha, ops.cast(ops.argsort(keys), "int32")
