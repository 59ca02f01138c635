# SPDX-License-Identifier: Apache-2.0
"""Self-supervised label augmentation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras

from keras_ssl import losses
from keras_ssl.core import register
from keras_ssl.models.joint_embedding.engine import JointEmbedding
from keras_ssl.views.label_augmentation import LabelAugmentation


@register(
    paper="Self-supervised Label Augmentation via Input Transformations",
    year=2020,
    family="label augmentation",
    modality="image",
    needs=("labels",),
)
class SLA(JointEmbedding):
    """Classifies class and transformation jointly, and distils the aggregate into one head.

    Every image is seen under M transformations. `classify` gives the single head's logits, or
    those aggregated over all transformations. Images of label -1 take part in the distillation
    only.

    Args:
        encoder: any Keras model from image `(H, W, C)` to vector; a feature map is pooled.
        classes: number of classes.
        transforms: `"rotation"`, `"color_perm"`, … see `views.LabelAugmentation`.
        projector: widths of hidden layers of the joint classifier, none in the paper, or the
            whole classifier as a layer.
        temperature: of the distillation.
        summed: whether the joint loss is summed over the transformations, as the authors do on
            large data sets.
        views: view recipe, a name or a layer, of a single view; it is transformed afterwards.
        **kwargs: `seed`, `name`, `dtype`.

    Raises:
        ValueError: for unknown transforms, or views of more than one.

    Source: Lee et al., 2020, equations 4 to 6 (SLA+SD); https://arxiv.org/abs/1910.05872.

    Example:

    ```python
    model = SLA(encoder, classes=10)
    model.compile(optimizers.SGD(0.1, weight_decay=1e-4))
    model.fit(images, labels, batch_size=128)
    predicted = model.classify(images, aggregate=True)
    ```
    """

    loss_terms = ("joint", "single", "distillation")
    uses_labels = True

    def __init__(
        self,
        encoder: keras.Model,
        classes: int,
        transforms: str = "rotation",
        projector: Sequence[int] | keras.Layer = (),
        temperature: float = 1.0,
        summed: bool = False,
        views: str | keras.Layer = "sla",
        **kwargs: Any,
    ):
        augmentation = LabelAugmentation(transforms)
        whole = isinstance(projector, keras.Layer)
        joint = projector if whole else [*projector, classes * augmentation.count]
        super().__init__(encoder, joint, views, **kwargs)
        if getattr(self.views, "count", 1) != 1:
            raise ValueError(
                f"SLA transforms a single view of every image; the views given make "
                f"{self.views.count}. Use views.MultiCrop([(pipeline, 1)])."
            )
        self.classes, self.transforms = classes, transforms
        self.temperature, self.summed = temperature, summed
        self.augmentation = augmentation
        self.classifier = self.build_head([classes], self.width, 2)

    def build_head(self, head, width, position, **options):
        """A classifier: a linear layer with bias, after hidden ones where asked for."""
        return super().build_head(head, width, position, **{"bias": "all", **options})

    def make_views(self, batch: Any) -> tuple:
        """All transformed copies of one view of the images, and the labels."""
        images, labels = batch
        return self.augmentation(super().make_views(images)[0]), labels

    def compute_losses(self, views: tuple, training: bool) -> dict[str, Any]:
        """Joint and single cross-entropy, and the divergence between both classifiers."""
        copies, labels = views
        count = self.augmentation.count
        features = self.encoder(copies, training=training)
        joint = self.projector(features, training=training)
        single = self.classifier(features[::count], training=training)
        return {
            "joint": losses.sla(joint, labels, transforms=count, summed=self.summed),
            "single": losses.classification(single, labels),
            "distillation": losses.sla_distillation(
                joint, single, transforms=count, temperature=self.temperature
            ),
        }

    def classify(self, images: Any, aggregate: bool = False) -> Any:
        """Class logits of raw images.

        Args:
            images: `(B, H, W, C)` uint8 or float32 in 0..1.
            aggregate: whether to average the joint classifier over all transformations (M passes)
                instead of asking the single one.

        Returns:
            `(B, classes)` float32.
        """
        if not aggregate:
            return self.classifier(self(images, training=False))
        copies = self.augmentation(self.views.preprocess(images))
        logits = self.projector(self.encoder(copies, training=False))
        return losses.sla_aggregate(logits, transforms=self.augmentation.count)
