# SPDX-License-Identifier: Apache-2.0
"""Self-supervised label augmentation on CIFAR, the authors' command.

| what | value |
|---|---|
| encoder | ResNet-18, 3x3 stem, no max-pooling (the authors: ResNet-32) |
| loss | four rotations, distilled into one head at temperature 1 |
| views | one: shifts of up to 4 pixels, and a flip |
| batch, epochs | 128, 205 (80,000 steps of 50,000 images) |
| optimizer | SGD (momentum 0.9), 0.1, not scaled |
| schedule | a tenth after half and after three quarters of the run |
| weight decay | 1e-4 on all |

Source: Lee et al., 2020 (https://arxiv.org/abs/1910.05872); hankook/SLA.
"""

from keras_ssl.recipes._recipe import Optimizer, Recipe

RECIPE = Recipe(
    name="sla_cifar",
    method="SLA",
    source="Lee et al., 2020; hankook/SLA",
    views="sla",
    data="cifar",
    backbone="resnet18",
    backbone_options={"stem": "small"},
    image_shape=(32, 32, 3),
    epochs=205,
    batch_size=128,
    optimizer=Optimizer(
        "sgd", learning_rate=0.1, reference=None, weight_decay=1e-4, drops=(0.5, 0.75)
    ),
    projector=(),
    model={"classes": 10, "transforms": "rotation", "temperature": 1.0},
)
