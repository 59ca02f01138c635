# SPDX-License-Identifier: Apache-2.0
"""SIE."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import keras
from keras import ops

from keras_ssl.core import distribution, register
from keras_ssl.core.seeds import layer_seed
from keras_ssl.layers._hyper_linear import HyperLinear
from keras_ssl.layers._split_head import SplitHead
from keras_ssl.losses.sie import sie
from keras_ssl.models.joint_embedding.engine import JointEmbedding
from keras_ssl.views.known import WithParameters

PAIR = ("first", "second", "latent")


@register(
    paper="Self-supervised learning of Split Invariant Equivariant representations",
    year=2023,
    family="redundancy reduction",
    modality="image",
    needs=("transformation parameters", "wide projector"),
)
class SIE(JointEmbedding):
    """One part of the representation ignores a known transformation, the other follows it.

    The invariant parts of two views are made alike; the equivariant part of the second is
    predicted from that of the first, by a linear map that a hyper-network makes of the
    transformation's parameters. Calling the model gives both parts, `invariant` and `equivariant`
    give one.

    The parameters (the latent) come from either of two sources:

    * with `latent=L` from the data, which yields pairs, as a dict of `"first"` and `"second"`,
      images of one thing, and `"latent"` `(B, L)`, how the second differs from the first: in the
      paper two renderings of an object and the quaternion of the rotation, L = 4. Images only go
      through the deterministic part of the views, or through one view each with `augment`;
    * with `latent=None` from the views of plain images, see `views.WithParameters`.

    Args:
        encoder: any Keras model from image `(H, W, C)` to vector; a feature map is pooled.
        projector: widths of the expanders of both parts together (Linear, BN, ReLU; last Linear
            alone), divided between them as the representation is, or a layer that keeps the parts
            apart, such as `layers.SplitHead`.
        split: share (a float) or number (an integer) of the representation's features that are
            invariant; they come first.
        latent: number of transformation parameters in the data; None for those of the views.
        augment: whether pairs from the data go through random views besides.
        hidden: widths of the hyper-network's hidden layers; `(4, 4)` is the paper's deep variant.
        bias: whether the hyper-network has biases. None: only where the parameters are those of
            the views, which are 0 for two equal views; those of a quaternion never are.
        invariance: weight of the distance between invariant parts.
        equivariance_factor: weight of the prediction's distance, as a share of `invariance`.
        variance: weight of the hinge on each feature's standard deviation.
        covariance: weight of the squared off-diagonal covariances.
        views: view recipe of two views, a name or a layer.
        **kwargs: `seed`, `name`, `dtype`.

    Raises:
        ValueError: for a split that leaves a part empty, views without parameters, or data of the
            other kind.

    Source: Garrido et al., 2023, section 4; https://arxiv.org/abs/2302.10283.

    Example:

    ```python
    model = SIE(encoder, latent=4)
    model.compile(optimizers.AdamW(1e-3, weight_decay=1e-6))
    model.fit({"first": images, "second": rotated, "latent": quaternions}, batch_size=1024)
    model.equivariant(images)
    ```
    """

    loss_terms = ("invariance", "equivariance", "variance", "prediction_variance", "covariance")

    def __init__(
        self,
        encoder: keras.Model,
        projector: Sequence[int] | keras.Layer = (2048, 2048, 2048),
        split: float | int = 0.5,
        latent: int | None = None,
        augment: bool = False,
        hidden: Sequence[int] = (),
        bias: bool | None = None,
        invariance: float = 10.0,
        equivariance_factor: float = 0.45,
        variance: float = 10.0,
        covariance: float = 1.0,
        views: str | keras.Layer = "vicreg",
        **kwargs: Any,
    ):
        self.split = split
        super().__init__(encoder, projector, views, **kwargs)
        self.latent, self.augment = latent, augment
        self.hidden, self.bias = tuple(hidden), bias
        self.invariance, self.equivariance_factor = invariance, equivariance_factor
        self.variance, self.covariance = variance, covariance
        if latent is None and isinstance(self.views, WithParameters):
            self.views = self.views.views
        if augment and getattr(self.views, "count", None) != 2:
            raise ValueError(
                "SIE(augment=True) gives each picture of a pair one random view, so it needs views "
                f"of exactly two; {views!r} has {getattr(self.views, 'count', 'no known number')}."
            )
        # With parameters from the data no view need have any.
        self.known: Any = WithParameters(self.views) if latent is None else None
        width = self.projector.compute_output_shape((None, self.width))[-1]
        self.projected_size = getattr(self.projector, "first_width", self._cut(width))
        self.predictor = HyperLinear(
            width - self.projected_size,
            hidden,
            use_bias=latent is None if bias is None else bias,
            seed=layer_seed(self.seed, 2),
            dtype=self.dtype_policy,
            name="predictor",
        )
        parameters = latent if latent is not None else self.known.latent_size
        self.predictor.build([(None, width - self.projected_size), (None, parameters)])

    def _cut(self, width: int) -> int:
        """How many of a number of features are invariant."""
        share = self.split if isinstance(self.split, float) else self.split / self.width
        size = round(width * share)
        if not 0 < size < width:
            raise ValueError(
                f"SIE(split={self.split}) makes {size} of {width} features invariant; it is a "
                "share between 0 and 1, or a number of features, that leaves both parts some."
            )
        return size

    def build_head(self, head, width, position, **options):
        """An expander for each part, with the paper's layout; only hidden layers have a bias."""
        build, options = super().build_head, {"bias": "hidden", **options}
        if isinstance(head, keras.Layer):
            return build(head, width, position, **options)
        cut = self._cut(width)
        first = [self._cut(units) for units in head]
        second = [units - mine for units, mine in zip(head, first, strict=True)]
        parts = (first, cut, 11), (second, width - cut, 12)
        heads = [build(*part, **options) for part in parts]
        return build(SplitHead(*heads, at=cut, dtype=self.dtype_policy), width, position)

    def make_views(self, batch: Any) -> tuple:
        """Two views of every image, and the parameters by which they differ."""
        if self.latent is not None:
            return self._pair(batch)
        if isinstance(batch, (Mapping, list, tuple)):
            raise ValueError(
                "SIE(latent=None) takes images and knows the parameters of its views; received "
                f"a {type(batch).__name__}. For pairs with parameters of their own give the "
                "number of parameters: SIE(encoder, latent=4)."
            )
        self.check_images(batch)
        seed = self.draw_seed()
        first, second = self.views(batch, seed=seed)
        return first, second, self.known.relative(batch, seed)

    def _pair(self, batch: Any) -> tuple:
        first, second, latent = self._parts(batch)
        for images in (first, second):
            self.check_images(images)
        shape = tuple(getattr(latent, "shape", ()))
        if len(shape) != 2 or shape[1] not in (self.latent, None):
            raise ValueError(
                f"SIE(latent={self.latent}) needs {self.latent} transformation parameters for "
                f"every pair, shape (batch, {self.latent}); received shape {shape}."
            )
        latent = ops.cast(latent, "float32")
        if not self.augment:
            return self.views.preprocess(first), self.views.preprocess(second), latent
        seed, each = self.draw_seed(), zip((first, second), self.views.each(), strict=True)
        first, second = (
            view(images, seed=distribution.fold_in(seed, index))
            for index, (images, view) in enumerate(each)
        )
        return first, second, latent

    def _parts(self, batch: Any) -> tuple:
        if isinstance(batch, Mapping) and set(PAIR) <= set(batch):
            return tuple(batch[name] for name in PAIR)
        if isinstance(batch, (list, tuple)) and len(batch) == 3:
            return tuple(batch)
        found = f"keys {sorted(batch)}" if isinstance(batch, Mapping) else type(batch).__name__
        raise ValueError(
            f'SIE(latent={self.latent}) takes pairs, {{"first": images, "second": images, '
            f'"latent": (batch, {self.latent})}}; received {found}. A data set that yields three '
            "tensors is read as (x, y, sample_weight): let it yield the dict. For plain images "
            "leave latent=None."
        )

    def compute_losses(self, views: tuple, training: bool) -> dict[str, Any]:
        """The five weighted terms; the prediction goes from the first view to the second."""
        first, second, latent = views
        x, y = self.project(first, training), self.project(second, training)
        size = self.projected_size
        return sie(
            x,
            y,
            self.predictor([x[:, size:], latent]),
            invariant_size=size,
            invariance=self.invariance,
            equivariance_factor=self.equivariance_factor,
            variance=self.variance,
            covariance=self.covariance,
        )

    def invariant(self, images: Any) -> Any:
        """The invariant features `(B, F)` of raw images `(B, H, W, C)`."""
        return self(images)[:, : self._cut(self.width)]

    def equivariant(self, images: Any) -> Any:
        """The equivariant features `(B, features - F)` of raw images `(B, H, W, C)`."""
        return self(images)[:, self._cut(self.width) :]
