# SPDX-License-Identifier: Apache-2.0
"""DeepCluster-v2."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_ssl import data, losses
from keras_ssl.core import distribution, register
from keras_ssl.core.seeds import layer_seed
from keras_ssl.layers import Prototypes, spherical_kmeans
from keras_ssl.models.joint_embedding.engine import JointEmbedding

# The first two views are the full ones, whose projections are remembered.
FULL = 2


@register(
    paper="Unsupervised Learning of Visual Features by Contrasting Cluster Assignments",
    year=2020,
    family="clustering",
    modality="image",
    needs=("prototypes", "memory bank"),
)
class DeepClusterV2(JointEmbedding):
    """Predicts the cluster of each image, found once per epoch among projections of the last one.

    A memory keeps the last projection of both full crops of every image. Before the step at which
    `optimizer.iterations` is a multiple of `recluster_every`, head h clusters the memory of crop
    h mod 2 by spherical k-means from random images; its centroids are the prototypes of the head,
    which no gradient trains. All crops of an image predict the same cluster.

    Before training `fill_memory` gives the first clusters; without it the first epoch fills the
    memory and its loss is 0. The number of each image must come with it: `fit` numbers arrays
    itself, a data set yields `(x, index)`. Evaluation takes the nearest centroids of the full crops
    as targets and needs no numbers.

    Args:
        encoder: any Keras model from image `(H, W, C)` to vector; a feature map is pooled.
        samples: number of images in the data set.
        projector: widths of the head (Linear, BN, ReLU, Linear) or a layer.
        prototypes: number of clusters of every head.
        temperature: divisor of the scores.
        rounds: of k-means.
        recluster_every: optimizer steps from one clustering to the next; None for
            `samples // global batch`, one epoch.
        views: view recipe, a name or a layer; the first two views are the full crops.
        **kwargs: `seed`, `name`, `dtype`.

    Raises:
        ValueError: for fewer samples than clusters, or a `recluster_every` below 1.

    Source: Caron et al., 2020, appendix D; https://arxiv.org/abs/2006.09882.

    Example:

    ```python
    model = DeepClusterV2(encoder, samples=len(images), prototypes=(300, 300, 300))
    model.compile(optimizers.LARS(0.6, weight_decay=1e-6))
    model.fill_memory(images)
    model.fit(images, batch_size=256, epochs=100)
    ```
    """

    loss_terms = ("deepcluster_v2",)
    uses_indices = True

    def __init__(
        self,
        encoder: keras.Model,
        samples: int,
        projector: Sequence[int] | keras.Layer = (2048, 128),
        prototypes: Sequence[int] = (3000, 3000, 3000),
        temperature: float = 0.1,
        rounds: int = 10,
        recluster_every: int | None = None,
        views: str | keras.Layer = "swav",
        **kwargs: Any,
    ):
        super().__init__(encoder, projector, views, **kwargs)
        self.prototypes = tuple(prototypes)
        if not self.prototypes or max(self.prototypes) > samples:
            raise ValueError(
                f"DeepClusterV2 needs at least one head and no more clusters than samples; "
                f"received prototypes={self.prototypes} and samples={samples}."
            )
        if recluster_every is not None and recluster_every < 1:
            raise ValueError(f"recluster_every is at least 1 or None; received {recluster_every}.")
        self.samples, self.temperature = samples, temperature
        self.rounds, self.recluster_every = rounds, recluster_every
        width = self.projector.compute_output_shape((None, self.width))[-1]
        self.scorers = [
            Prototypes(count, normalize=False, seed=layer_seed(self.seed, 2 + h), trainable=False)
            for h, count in enumerate(self.prototypes)
        ]
        for scorer in self.scorers:
            scorer.build((None, width))
        self.memory = self._state((FULL, samples, width), 0, "float32", "memory")
        self.assignments = self._state((len(self.prototypes), samples), -1, "int32", "assignments")
        self.clustered = self._state((), -1, "int32", "clustered")
        self._filling = False

    def _state(self, shape: tuple, value: int, dtype: str, name: str) -> Any:
        constant = keras.initializers.Constant(value)
        return self.add_weight(
            shape=shape, initializer=constant, dtype=dtype, trainable=False, name=name
        )

    def build_head(self, head, width, position, **options):
        """Biases throughout."""
        return super().build_head(head, width, position, **{"bias": "all", **options})

    # --- the clusters ------------------------------------------------------------------------

    def before_step(self):
        """Clusters the memory where it is time to."""
        super().before_step()
        step = ops.cast(self.optimizer.iterations, "int32")
        # Once for all micro-batches of a gradient accumulation.
        due = ops.logical_and(
            ops.equal(step % self._interval(), 0), ops.not_equal(step, self.clustered)
        )
        state = [self.assignments, *(scorer.vectors for scorer in self.scorers)]
        found = ops.cond(
            due,
            lambda: self._cluster(step),
            lambda: [ops.convert_to_tensor(variable) for variable in state],
        )
        clustered = ops.where(due, step, self.clustered)
        # Outside of the condition, where replicas may meet.
        distribution.assign_all([*state, self.clustered], [*found, clustered], equal=True)

    def _interval(self) -> Any:
        if self.recluster_every is not None:
            return self.recluster_every
        rows = self.global_rows * (self.optimizer.gradient_accumulation_steps or 1)
        return ops.maximum(self.samples // rows, 1)

    def _cluster(self, step: Any) -> list:
        """New assignments `(heads, samples)` and the prototypes of every head."""
        # Made from the step, since no generator may advance within a condition.
        seed = distribution.fold_in(distribution.fixed_seed(self.seed or 0), step)
        assignments, prototypes = [], []
        for head, scorer in enumerate(self.scorers):
            memory = self.memory[head % FULL]
            seen = ops.any(ops.not_equal(memory, 0.0), axis=1)
            draws = distribution.uniform_batch(distribution.fold_in(seed, head), (self.samples,))
            order = ops.top_k(ops.where(seen, draws, -1.0), scorer.count)[1]
            old = ops.transpose(scorer.vectors)
            # As long as fewer images were seen than there are clusters, some stay as they are.
            usable = ops.expand_dims(ops.take(seen, order), 1)
            start = ops.where(usable, ops.take(memory, order, axis=0), old)
            assigned, centroids = spherical_kmeans(memory, start, self.rounds)
            assignments.append(ops.where(seen, assigned, -1))
            prototypes.append(ops.transpose(centroids))
        return [ops.stack(assignments), *prototypes]

    def _remember(self, projections: Sequence, index: Any) -> None:
        """Writes the projections `(B, D)` of both full crops, of all replicas, to their places."""
        index = distribution.all_gather(index)
        rows = distribution.all_gather([losses.normalize(z) for z in projections])
        places = [ops.stack([ops.full_like(index, crop), index], 1) for crop in range(FULL)]
        written = ops.scatter_update(
            ops.convert_to_tensor(self.memory),
            ops.concatenate(places, axis=0),
            ops.stop_gradient(ops.concatenate(rows, axis=0)),
        )
        distribution.assign_all([self.memory], [written], equal=True)

    def fill_memory(self, images: Any, batch_size: int = 256) -> None:
        """Fills the memory before training, without gradient, as the released code does.

        Batch norms are in training mode. The clusters are found in the first step of `fit`.

        Args:
            images: `(N, H, W, C)` in the order of their numbers, or a `data.Source`.
            batch_size: rows in a global batch.

        Raises:
            ValueError: for more images than `samples`.
        """
        images = getattr(images, "images", images)
        if len(images) > self.samples:
            raise ValueError(
                f"DeepClusterV2 was made for samples={self.samples}; received {len(images)} images."
            )
        replicas = self._prepare()
        size = max(min(batch_size, len(images)) // replicas, 1) * replicas
        # Full batches only: the last one is filled up with the first images.
        order = np.arange(-(-len(images) // size) * size) % len(images)
        feed = data.EpochData(images, size, seed=0, indices=True, order=lambda epoch: order)
        self._filling, self.predict_function = True, None
        try:
            self.predict(feed.stream(epochs=1), verbose=0)
        finally:
            self._filling, self.predict_function = False, None

    def predict_step(self, data: Any) -> Any:
        """The representation of one batch."""
        if not self._filling:
            return super().predict_step(data)
        views, index = self.make_views(self.batch_of(data))
        self._remember(self.project_views(views[:FULL], training=True), index)
        return index

    # --- the loss ----------------------------------------------------------------------------

    def make_views(self, batch: Any) -> tuple:
        """Views of the images, and the images' numbers."""
        images, index = batch
        return super().make_views(images), index

    def compute_losses(self, views: tuple, training: bool) -> dict[str, Any]:
        """Cross-entropy with the clusters of the images."""
        views, index = views
        projections = ops.stack([losses.normalize(z) for z in self.project_views(views, training)])
        scores = [scorer(projections) for scorer in self.scorers]
        if training:
            targets = ops.take(self.assignments, index, axis=1)
            self._remember([projections[crop] for crop in range(FULL)], index)
        else:
            nearest = [ops.argmax(s[h % FULL], axis=-1) for h, s in enumerate(scores)]
            targets = ops.stack(nearest)
        loss = losses.deepcluster_v2(scores, targets, temperature=self.temperature)
        return {"deepcluster_v2": loss}
