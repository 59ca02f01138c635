# SPDX-License-Identifier: Apache-2.0
"""SparseJEPA."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import keras
from keras import ops

from keras_ssl.backbones import TokenTransformer
from keras_ssl.core import distribution, register
from keras_ssl.models.predictive.ijepa import IJEPA

# Added to squared norms, whose root has no gradient at 0.
EPSILON = 1e-12


@register(
    paper="SparseJEPA: Sparse Representation Learning of Joint Embedding Predictive Architectures",
    year=2025,
    family="joint-embedding prediction",
    modality="image",
    needs=("teacher", "vision transformer"),
)
class SparseJEPA(IJEPA):
    """I-JEPA whose groups of latents are each predicted from few features.

    The latents of a token are split into groups of equal size. The predictor's last map has for
    each of its inputs and each group a column of weights, and the sum of the columns' lengths is
    added to the loss (group lasso), so that whole columns go to zero: a group then does not use
    that feature.

    Args:
        encoder: a `backbones.VisionTransformer` with `class_token=False`.
        masking: as `IJEPA`.
        predictor: `(width, depth, heads)` of a `tokens.TransformerDecoder`, or such a layer.
        momentum: as `IJEPA`.
        groups: number of groups, which divides the width of the latents.
        sparsity: weight of the sum; with 0 this is `IJEPA`.
        proximal: whether columns are shortened after every step by the learning rate times the
            weight, to exactly zero where they are shorter, in place of a gradient, which
            only makes them small.
        **kwargs: other arguments of `IJEPA`, `seed`, `name`, `dtype`.

    Weight decay of the same map would shrink it a second time: `optimizers.AdamW(...,
    exclude=["head"])`.

    Raises:
        ValueError: for groups that do not divide the latents, a negative weight, or as `IJEPA`.

    Source: SparseJEPA, 2025, known to us by summaries: a penalty on the columns of decoders of
    groups, as in output-interpretable VAEs (Ainsworth et al., 2018). That the groups are those of
    latents and the decoders the predictor's last map, without a variational part, is our reading;
    no code and no weights of the terms are known.

    Example:

    ```python
    model = SparseJEPA(encoder, predictor=(96, 4, 3), groups=8, sparsity=1e-4)
    model.compile(optimizers.AdamW(1e-3, weight_decay=0.04, exclude=["head"]))
    model.fit(dataset)
    ```
    """

    loss_terms = ("prediction", "sparsity")
    decoded_terms = ("prediction",)

    def __init__(
        self,
        encoder: TokenTransformer,
        masking: keras.Layer | None = None,
        predictor: Sequence[int] | keras.Layer = (384, 6, 12),
        groups: int = 8,
        sparsity: float = 1e-4,
        proximal: bool = False,
        momentum: float | Callable = 0.996,
        **kwargs: Any,
    ):
        super().__init__(encoder, masking, predictor, momentum, **kwargs)
        if sparsity < 0.0 or groups < 1 or self.predictor.values % groups:
            raise ValueError(
                f"SparseJEPA splits {self.predictor.values} latents into groups of equal size with "
                f"a weight of at least 0; received groups={groups}, sparsity={sparsity}."
            )
        self.groups, self.sparsity, self.proximal = int(groups), sparsity, proximal

    def lengths(self) -> Any:
        """Lengths of the columns of weights, float32 `(width, groups, 1)`."""
        return ops.sqrt(ops.sum(ops.square(self._columns()), axis=2, keepdims=True) + EPSILON)

    def _columns(self) -> Any:
        kernel = ops.cast(self.predictor.head.kernel, "float32")
        return ops.reshape(kernel, (kernel.shape[0], self.groups, -1))

    def compute_losses(self, views: dict, training: bool) -> dict[str, Any]:
        """The error of predictions, and the weighted sum of the columns' lengths."""
        total = self.sparsity * ops.sum(self.lengths())
        total = ops.stop_gradient(total) if self.proximal else total
        return {**super().compute_losses(views, training), "sparsity": total}

    def after_update(self) -> None:
        """The teacher moves; before, columns are shortened where that is asked for."""
        if self.proximal and self.sparsity:
            kernel = self.predictor.head.kernel
            step = ops.cast(self.optimizer.learning_rate, "float32") * self.sparsity
            step = ops.where(self.stepped, step, 0.0)
            shorter = self._columns() * ops.relu(1.0 - step / self.lengths())
            new = ops.cast(ops.reshape(shorter, kernel.shape), kernel.dtype)
            distribution.assign_all([kernel], [new], equal=True)
        super().after_update()
