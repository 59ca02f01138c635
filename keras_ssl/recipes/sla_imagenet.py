# SPDX-License-Identifier: Apache-2.0
"""Self-supervised label augmentation on ImageNet, the authors' settings for large data sets.

| what | value |
|---|---|
| encoder | ResNet-50 |
| loss | four rotations, summed, distilled into one head at temperature 1 |
| views | one: a crop of 0.08 to 1 of the area, and a flip |
| batch, epochs | 256, 90 |
| optimizer | SGD (momentum 0.9), 0.1 x batch/256 |
| schedule | a tenth after each third of the run |
| weight decay | 1e-4 on all |

The released code states steps, not epochs: batch and epochs are the usual ones of supervised
training.

Source: Lee et al., 2020 (https://arxiv.org/abs/1910.05872); hankook/SLA.
"""

from keras_ssl.recipes._recipe import Optimizer, Recipe

RECIPE = Recipe(
    name="sla_imagenet",
    method="SLA",
    source="Lee et al., 2020; hankook/SLA",
    views="sla",
    data="imagenet",
    backbone="resnet50",
    backbone_options={"stem": "imagenet"},
    image_shape=(224, 224, 3),
    epochs=90,
    batch_size=256,
    optimizer=Optimizer("sgd", learning_rate=0.1, weight_decay=1e-4, drops=(1 / 3, 2 / 3)),
    projector=(),
    model={"classes": 1000, "transforms": "rotation", "temperature": 1.0, "summed": True},
)
