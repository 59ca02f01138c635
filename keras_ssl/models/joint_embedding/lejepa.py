# SPDX-License-Identifier: Apache-2.0
"""LeJEPA."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from keras_ssl.core import register
from keras_ssl.core.seeds import layer_seed
from keras_ssl.layers._sigreg import SIGReg
from keras_ssl.losses.sigreg import check_lejepa, lejepa
from keras_ssl.models.joint_embedding.engine import JointEmbedding


@register(
    paper="LeJEPA: Provable and Scalable Self-Supervised Learning Without the Heuristics",
    year=2025,
    family="redundancy reduction",
    modality="image",
    needs=("several views",),
)
class LeJEPA(JointEmbedding):
    """Makes views agree while random directions of the projections look standard normal.

    No teacher, predictor, negatives or stopped gradient. As in the authors' code, views of one
    size go through the encoder together, and all views through the projector, so that batch norms
    see the rows of all of them. Cost is linear in the batch and in the projector's width.

    Args:
        encoder: any Keras model from image `(H, W, C)` to vector; a feature map is pooled. Local
            views of another size need one of convolutions and global pooling.
        projector: widths of the head (Linear, BN, ReLU; last Linear alone) or a layer.
        trade_off: λ, the weight of SIGReg; 0.01 to 0.1 in the paper.
        slices: number of random directions a step.
        knots: points of the quadrature, see `losses.epps_pulley`.
        t_max: upper end of the quadrature.
        centre: `"global"`: views move to the mean of the global ones; `"all"`: to the mean of all,
            for equal views.
        global_views: number of global views, which come first.
        combine: `"convex"`, `λ SIGReg + (1 - λ) invariance` (the paper), or `"sum"`, whose
            invariance has weight 1 (stable-pretraining).
        views: view recipe, a name or a layer; any number of views from two.
        flatten: whether SIGReg takes all views as one sample, see `losses.sigreg`.
        **kwargs: `seed`, `name`, `dtype`.

    Raises:
        ValueError: for an unknown option or a number out of range.

    Source: Balestriero and LeCun, 2025, sections 4 and 5; https://arxiv.org/abs/2511.08544.

    Example:

    ```python
    model = LeJEPA(encoder, projector=(2048, 2048, 16), trade_off=0.02, centre="all")
    model.compile(optimizers.AdamW(2e-3, weight_decay=5e-4))
    model.fit(dataset)
    ```
    """

    loss_terms = ("sigreg", "invariance")

    def __init__(
        self,
        encoder: keras.Model,
        projector: Sequence[int] | keras.Layer = (2048, 2048, 128),
        trade_off: float = 0.05,
        slices: int = 1024,
        knots: int = 17,
        t_max: float = 3.0,
        centre: str = "global",
        global_views: int = 2,
        combine: str = "convex",
        views: str | keras.Layer = "lejepa",
        flatten: bool = False,
        **kwargs: Any,
    ):
        check_lejepa("LeJEPA", trade_off, centre, global_views, combine)
        super().__init__(encoder, projector, views, **kwargs)
        self.trade_off, self.slices, self.knots, self.t_max = trade_off, slices, knots, t_max
        self.centre, self.global_views, self.combine = centre, global_views, combine
        self.flatten = flatten
        self.sigreg = SIGReg(slices, knots, t_max, flatten, seed=layer_seed(self.seed, 2))

    def project_views(self, views: list, training: bool) -> list:
        """Projections `(B, D)` of every view: the encoder once a size, the projector once."""
        features = []
        for _, same in itertools.groupby(views, key=lambda view: tuple(view.shape[1:3])):
            rows = ops.concatenate(list(same), axis=0)
            features.append(self.view_encoder(rows, training=training))
        z = self.projector(ops.concatenate(features, axis=0), training=training)
        return ops.split(z, len(views), axis=0)

    def compute_losses(self, views: list, training: bool) -> dict[str, Any]:
        """Both weighted terms."""
        z = self.project_views(views, training)
        return lejepa(
            z,
            self.sigreg.directions(z[0].shape[-1], training),
            trade_off=self.trade_off,
            centre=self.centre,
            global_views=self.global_views,
            combine=self.combine,
            flatten=self.flatten,
            knots=self.knots,
            t_max=self.t_max,
        )
