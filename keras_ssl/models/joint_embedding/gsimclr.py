# SPDX-License-Identifier: Apache-2.0
"""G-SimCLR."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from keras_ssl import backbones, data, evaluation
from keras_ssl.core import register
from keras_ssl.models.joint_embedding.simclr import SimCLR
from keras_ssl.views.preprocessing import to_unit

# Beyond this many rows k-means sees them in parts.
MANY = 50_000
AUTOENCODER_BATCH = 64


@register(
    paper="G-SimCLR: Self-Supervised Contrastive Learning with Guided Projection via "
    "Pseudo Labelling",
    year=2020,
    family="contrastive",
    modality="image",
    needs=("negatives", "clusters"),
)
class GSimCLR(SimCLR):
    """SimCLR on batches that hold no two images of one cluster.

    Clusters are those of k-means on the codes of a denoising autoencoder, which is trained first.
    `fit` on an array of images does all of it; a `tf.data.Dataset` is taken as it comes, so build
    it from `clusters_of` and `data.GuidedOrder`.

    Args:
        encoder: any Keras model from image `(H, W, C)` to vector; a feature map is pooled.
        projector: widths of the head (Linear, ReLU, no batch norm) or a layer.
        temperature: divisor of the cosine similarities.
        clusters: number of clusters; None for as many as there are images in a batch.
        autoencoder_epochs: most epochs of the autoencoder, which stops when its error on a tenth
            of the images has not fallen for two.
        leftover: `"repeat"` or `"mix"` (released), see `data.GuidedOrder`.
        views: view recipe, a name or a layer.
        **kwargs: `seed`, `name`, `dtype`.

    Raises:
        ValueError: for fewer images than clusters.

    Source: Chakraborty et al., 2020, section 3; https://arxiv.org/abs/2009.12007. The released
    views hold a mistake (grey images stay coloured); SimCLR's are taken instead.

    Example:

    ```python
    model = GSimCLR(encoder)
    model.compile(optimizers.SGD(0.1))
    model.fit(images, batch_size=64, epochs=15)
    ```
    """

    guides_batches = True

    def __init__(
        self,
        encoder: keras.Model,
        projector: Sequence[int] | keras.Layer = (256, 128, 50),
        temperature: float = 0.1,
        clusters: int | None = None,
        autoencoder_epochs: int = 100,
        leftover: str = "repeat",
        views: str | keras.Layer = "simclr",
        **kwargs: Any,
    ):
        super().__init__(encoder, projector, temperature, views, **kwargs)
        self.clusters = clusters
        self.autoencoder_epochs = autoencoder_epochs
        self.leftover = leftover

    def build_head(self, head, width, position, **options):
        """A head without batch norm."""
        options = {"bias": "all", "batch_norm": False, "last_batch_norm": False, **options}
        return super().build_head(head, width, position, **options)

    def clusters_of(self, images: np.ndarray, batch_size: int, verbose: Any = "auto") -> np.ndarray:
        """Trains an autoencoder and clusters its codes.

        Args:
            images: `(N, H, W, C)` uint8 of 0..255 or float of 0..1.
            batch_size: images in a batch, the number of clusters where none was given.
            verbose: as in `keras.Model.fit`.

        Returns:
            `(N,)` int64, the cluster of every image.
        """
        from sklearn.cluster import KMeans, MiniBatchKMeans

        count = self.clusters or batch_size
        if len(images) < 2 * count:
            raise ValueError(
                f"{len(images)} images cannot be split into {count} clusters of more than one; "
                "use smaller batches, or fewer clusters."
            )
        codes = self._codes(images, verbose)
        kind = KMeans if len(images) <= MANY else MiniBatchKMeans
        return kind(count, n_init=1, random_state=self.seed).fit_predict(codes).astype("int64")

    def _codes(self, images: np.ndarray, verbose: Any) -> np.ndarray:
        network = backbones.DenoisingAutoencoder(images.shape[1:], seed=self.seed)
        network.compile("adam", loss="mse")
        held_out = max(1, len(images) // 10)
        network.fit(
            self._pairs(images[held_out:]),
            validation_data=self._pairs(images[:held_out]),
            epochs=self.autoencoder_epochs,
            callbacks=[keras.callbacks.EarlyStopping(patience=2, restore_best_weights=True)],
            verbose=verbose,
            shuffle=False,
        )
        scale = 1.0 / 255.0 if images.dtype.kind in "iu" else 1.0
        code = keras.Model(network.input, network.get_layer("bottleneck").output)
        layers = [keras.layers.Rescaling(scale), code, keras.layers.GlobalAveragePooling2D()]
        inputs = keras.Input(images.shape[1:], dtype=images.dtype.name)
        return evaluation.extract_features(keras.Sequential([inputs, *layers]), images)

    def _pairs(self, images: np.ndarray) -> Any:
        feed = data.EpochData(images, AUTOENCODER_BATCH, seed=self.seed or 0)
        return feed.dataset().map(lambda x: (to_unit(x), to_unit(x)))

    def guided_feed(self, source: Any, clusters: Any, batch_size: int, seed: int) -> Any:
        """Batches with no two images of one cluster, as far as there are others.

        Args:
            source: array of images or a `keras_ssl.data.Source`.
            clusters: `(N,)` integers, as `clusters_of` returns them.
            batch_size: images in a batch.
            seed: of the order.

        Returns:
            A `keras_ssl.data.EpochData`.
        """
        order = data.GuidedOrder(clusters, batch_size, seed=seed, leftover=self.leftover)
        return data.EpochData(source, batch_size, seed=seed, order=order)

    def fit(self, x: Any = None, y: Any = None, batch_size: int | None = None, **kwargs: Any):
        """Trains; on an array of images, with guided batches of `batch_size` (32)."""
        if isinstance(x, np.ndarray):
            self.check_images(x)
            size = batch_size or 32
            clusters = self.clusters_of(x, size, kwargs.get("verbose", "auto"))
            feed = self.guided_feed(x, clusters, size, self.seed or 0)
            kwargs.setdefault("steps_per_epoch", feed.steps_per_epoch)
            x, y, batch_size = feed.stream(kwargs.get("initial_epoch", 0)), None, None
        return super().fit(x, y, batch_size=batch_size, **kwargs)
