# SPDX-License-Identifier: Apache-2.0
"""SwAV."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from keras_ssl import losses
from keras_ssl.core import distribution, register
from keras_ssl.core.seeds import layer_seed
from keras_ssl.layers import Prototypes, Queue
from keras_ssl.models.joint_embedding.engine import JointEmbedding

# The first two views are the full ones; their codes are what all others predict.
FULL = 2


@register(
    paper="Unsupervised Learning of Visual Features by Contrasting Cluster Assignments",
    year=2020,
    family="clustering",
    modality="image",
    needs=("prototypes",),
)
class SwAV(JointEmbedding):
    """Predicts the cluster assignment of one crop from the others.

    Assignments are soft codes over learned prototypes, balanced over the batch by Sinkhorn-Knopp.
    Prototypes are brought to unit length before every step and after it. Small batches balance over
    a queue besides: projections of earlier images, scored with the prototypes of the moment, take
    part in the balance once the queue is full of them and `queue_start` steps are done. Evaluation
    uses no queue.

    A loss that stays at log(prototypes) has not begun to learn: lower `epsilon` (0.03), freeze
    the prototypes longer, start the queue later, or take fewer prototypes.

    Args:
        encoder: any Keras model from image `(H, W, C)` to vector; a feature map is pooled.
        projector: widths of the head (Linear, BN, ReLU, Linear) or a layer.
        prototypes: number of prototypes.
        temperature: divisor of the scores that predict.
        epsilon: of `losses.sinkhorn_knopp`; smaller gives sharper codes.
        iterations: of `losses.sinkhorn_knopp`.
        queue_size: earlier images kept for each full crop; 0 for none. 3840 at batch 256.
        queue_start: optimizer steps before the queue is used; 15 epochs at batch 256.
        freeze_steps: optimizer steps in which the prototypes stand still; one epoch.
        views: view recipe, a name or a layer; the first two views are the full crops.
        **kwargs: `seed`, `name`, `dtype`.

    Raises:
        ValueError: for fewer than two views.

    Source: Caron et al., 2020, section 3; https://arxiv.org/abs/2006.09882. Defaults are those of
    the released code for batch 4096.

    Example:

    ```python
    model = SwAV(encoder, prototypes=300, queue_size=3840, queue_start=3000, freeze_steps=200)
    model.compile(optimizers.LARS(0.6, weight_decay=1e-6))
    model.fit(dataset)
    ```
    """

    loss_terms = ("swav",)

    def __init__(
        self,
        encoder: keras.Model,
        projector: Sequence[int] | keras.Layer = (2048, 128),
        prototypes: int = 3000,
        temperature: float = 0.1,
        epsilon: float = 0.05,
        iterations: int = 3,
        queue_size: int = 0,
        queue_start: int = 0,
        freeze_steps: int = 313,
        views: str | keras.Layer = "swav",
        **kwargs: Any,
    ):
        super().__init__(encoder, projector, views, **kwargs)
        self.prototypes, self.temperature = prototypes, temperature
        self.epsilon, self.iterations = epsilon, iterations
        self.queue_size, self.queue_start = queue_size, queue_start
        self.freeze_steps = freeze_steps
        width = self.projector.compute_output_shape((None, self.width))[-1]
        self.scorer = Prototypes(prototypes, seed=layer_seed(self.seed, 2), name="prototypes")
        self.scorer.build((None, width))
        self.queues = []
        if queue_size:
            seeds = [layer_seed(self.seed, 3 + crop) for crop in range(FULL)]
            self.queues = [Queue(queue_size, width, seed=seed) for seed in seeds]
            # The queues start with random vectors, which must not take part.
            self.queued = self.add_weight(
                shape=(), initializer="zeros", dtype="int32", trainable=False, name="queued"
            )

    def build_head(self, head, width, position, **options):
        """Biases throughout."""
        return super().build_head(head, width, position, **{"bias": "all", **options})

    def before_step(self):
        """Prototypes have unit length in every forward pass."""
        super().before_step()
        self.scorer.normalize_prototypes()

    def frozen_variables(self):
        """The prototypes, in the first `freeze_steps` steps."""
        frozen = self.optimizer.iterations < self.freeze_steps
        return [(self.scorer.trainable_variables, frozen)]

    def after_update(self):
        """Prototypes have unit length in every saved file, too."""
        super().after_update()
        self.scorer.normalize_prototypes()

    def compute_losses(self, views: list, training: bool) -> dict[str, Any]:
        """Swapped prediction, balanced over the queues as they were before this batch."""
        projections = [losses.normalize(z) for z in self.project_views(views, training)]
        full = projections[:FULL]
        loss = losses.swav(
            [self.scorer(z) for z in projections],
            temperature=self.temperature,
            epsilon=self.epsilon,
            iterations=self.iterations,
            **(self._queue_scores() if training and self.queues else {}),
        )
        if training and self.queues:
            self._enqueue(full)
        return {"swav": loss}

    def _queue_scores(self) -> dict[str, Any]:
        """Scores of the queues with the prototypes of this step, and the weight of their rows."""
        full = self.queued >= self.queue_size
        started = ops.cast(self.optimizer.iterations, "int32") >= self.queue_start
        return {
            "queue_scores": [self.scorer(queue.vectors) for queue in self.queues],
            "queue_weight": ops.cast(ops.logical_and(full, started), "float32"),
        }

    def _enqueue(self, projections: Sequence) -> None:
        for queue, rows in zip(self.queues, projections, strict=True):
            queue.enqueue(rows)
        rows = ops.shape(projections[0])[0] * distribution.replica_count()
        # Capped, so that it cannot overflow in a long run.
        queued = ops.minimum(self.queued + rows, self.queue_size)
        distribution.assign_all([self.queued], [queued], equal=True)
