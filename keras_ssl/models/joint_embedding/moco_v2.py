# SPDX-License-Identifier: Apache-2.0
"""MoCo v2."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import keras
from keras import ops

from keras_ssl import losses
from keras_ssl.core import Teacher, distribution, register
from keras_ssl.layers import Queue, as_encoder, split_batch_norm
from keras_ssl.models.joint_embedding.engine import JointEmbedding


@register(
    paper="Improved Baselines with Momentum Contrastive Learning",
    year=2020,
    family="contrastive",
    modality="image",
    needs=("negatives", "teacher", "queue"),
)
class MoCoV2(JointEmbedding):
    """Finds the key of the other view among the last keys of a slowly moving encoder.

    The key encoder moves before the forward pass and its batch norms track their own batches; the
    keys enter the queue after the loss.

    Args:
        encoder: any Keras model from image `(H, W, C)` to vector; a feature map is pooled.
        projector: widths of the head (Linear, ReLU, Linear, no batch norm) or a layer.
        queue_size: number of negatives kept.
        momentum: share of the old key encoder, a float or a schedule of the optimizer's step.
        temperature: divisor of the cosine similarities.
        symmetric: whether each view is query and key once (two passes each, the average of both
            losses, both keys enqueued), as in the authors' CIFAR demo; the paper has one way.
        decoupled: `"dcl"` or `"dclw"`, see `losses.info_nce`.
        batch_norm: `"synchronized"`: statistics of the whole batch, as the encoder has them;
            `"split"`: of each of `splits` parts, with the keys' rows shuffled, which is what eight
            devices with batch shuffling do, on one.
        splits: parts of the batch under `"split"`; must divide it.
        views: view recipe, a name or a layer.
        **kwargs: `seed`, `name`, `dtype`.

    Raises:
        ValueError: for an unknown `batch_norm`, or `"split"` on several replicas.

    Source: Chen et al., 2020; He et al., 2020, algorithm 1; https://arxiv.org/abs/2003.04297.

    Example:

    ```python
    model = MoCoV2(encoder, queue_size=4096, momentum=0.99, temperature=0.1)
    model.compile(optimizers.SGD(0.03, weight_decay=1e-4))
    model.fit(dataset)
    ```
    """

    loss_terms = ("info_nce",)
    teachers_move = "before"

    def __init__(
        self,
        encoder: keras.Model,
        projector: Sequence[int] | keras.Layer = (2048, 128),
        queue_size: int = 65536,
        momentum: float | Callable = 0.999,
        temperature: float = 0.2,
        symmetric: bool = False,
        decoupled: str | None = None,
        batch_norm: str = "synchronized",
        splits: int = 8,
        views: str | keras.Layer = "moco_v2",
        **kwargs: Any,
    ):
        if batch_norm not in ("synchronized", "split"):
            raise ValueError(f'batch_norm is "synchronized" or "split"; received {batch_norm!r}.')
        if batch_norm == "split":
            encoder = split_batch_norm(as_encoder(encoder), splits)
        super().__init__(encoder, projector, views, **kwargs)
        self.queue_size, self.momentum, self.temperature = queue_size, momentum, temperature
        self.symmetric, self.decoupled = symmetric, decoupled
        self.batch_norm, self.splits = batch_norm, splits
        width = self.projector.compute_output_shape((None, self.width))[-1]
        self.queue = Queue(queue_size, width, seed=self.seed)
        self.teacher_encoder = Teacher(self.encoder, momentum)
        self.teacher_projector = Teacher(self.projector, momentum)

    def build_head(self, head, width, position, **options):
        """A head without batch norm."""
        options = {"bias": "all", "batch_norm": False, **options}
        return super().build_head(head, width, position, **options)

    def teachers(self):
        """The key encoder and its head follow the query's."""
        return [(self.teacher_encoder, self.encoder), (self.teacher_projector, self.projector)]

    def keys(self, view: Any, training: bool) -> Any:
        """Unit keys `(B, D)` of one view, without gradient."""
        shuffle = self.batch_norm == "split" and training
        if shuffle:
            seed = distribution.next_seed(self.view_generator)
            order = ops.argsort(distribution.uniform_batch(seed, (ops.shape(view)[0],)))
            view = ops.take(view, order, axis=0)
        keys = self.teacher_encoder(view, training=training)
        keys = self.teacher_projector(keys, training=training)
        if shuffle:
            keys = ops.take(keys, ops.argsort(order), axis=0)
        return losses.normalize(keys)

    def compute_losses(self, views: list, training: bool) -> dict[str, Any]:
        """InfoNCE of queries and keys against the queue as it was before this batch."""
        pairs = [(0, 1), (1, 0)] if self.symmetric else [(0, 1)]
        total, fresh = 0.0, []
        for query, key in pairs:
            keys = self.keys(views[key], training)
            total = total + losses.info_nce(
                self.project(views[query], training),
                keys,
                queue=self.queue.vectors,
                temperature=self.temperature,
                decoupled=self.decoupled,
            )
            fresh.append(keys)
        if training:
            self.queue.enqueue(ops.concatenate(fresh, axis=0))
        return {"info_nce": total / len(pairs)}

    def check_replicas(self, replicas: int) -> None:
        """Refuses the imitation of several devices on several devices."""
        if self.batch_norm == "split":
            raise ValueError(
                'MoCoV2(batch_norm="split") imitates several devices on one; on '
                f'{replicas} replicas use batch_norm="synchronized".'
            )
        super().check_replicas(replicas)
