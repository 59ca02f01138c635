# SPDX-License-Identifier: Apache-2.0
"""DCLW on CIFAR, by a widely used re-implementation (82.7 % linear on CIFAR-10 at batch 256 there).

| what | value |
|---|---|
| encoder, head | ResNet-18, 3x3 stem, no max-pooling; 512-128 |
| loss | temperature 0.1, sigma 0.5 |
| batch, epochs | 256, 100 (the paper's point: 32 does nearly as well) |
| optimizer | AdamW, 1e-3, not scaled |
| schedule | constant |
| weight decay | 1e-6 (decoupled here, added to the gradient there) |

Its table says ResNet-18, its code builds ResNet-50.

Source: Yeh et al., 2021 (https://arxiv.org/abs/2110.06848); raminnakhli,
Decoupled-Contrastive-Learning.
"""

from keras_ssl.recipes._recipe import Optimizer, Recipe

RECIPE = Recipe(
    name="dclw_cifar",
    method="DCLW",
    source="Yeh et al., 2021; raminnakhli/Decoupled-Contrastive-Learning",
    views="simclr",
    data="cifar",
    backbone="resnet18",
    backbone_options={"stem": "small"},
    image_shape=(32, 32, 3),
    epochs=100,
    batch_size=256,
    optimizer=Optimizer(
        "adamw", learning_rate=1e-3, reference=None, end_factor=1.0, weight_decay=1e-6
    ),
    projector=(512, 128),
    model={"temperature": 0.1, "sigma": 0.5},
)
