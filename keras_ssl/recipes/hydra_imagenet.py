# SPDX-License-Identifier: Apache-2.0
"""Hydra (SimLAP) on ImageNet, with the optimizer of the authors' command for CIFAR.

| what | value |
|---|---|
| encoder, head | ResNet-50; 2048-256 |
| loss | temperature 0.1, arbitrary pairs, the mean of both class embeddings |
| views | one: a crop of 0.08 to 1 of the area, and a flip |
| batch, epochs | 512, 100 |
| optimizer | AdamW, 1e-3, not scaled |
| schedule | 5 epochs of warm-up, cosine to 0 |
| weight decay | 5e-4, not on one-axis parameters |

The released command for ImageNet states the batch only; epochs and warm-up are a usual short run.

Source: Wu et al., 2024 (https://arxiv.org/abs/2410.18200); erow/vitookit.
"""

from keras_ssl.recipes._recipe import Optimizer, Recipe

RECIPE = Recipe(
    name="hydra_imagenet",
    method="Hydra",
    source="Wu et al., 2024; erow/vitookit",
    views="hydra",
    data="imagenet",
    backbone="resnet50",
    backbone_options={"stem": "imagenet"},
    image_shape=(224, 224, 3),
    epochs=100,
    batch_size=512,
    optimizer=Optimizer(
        "adamw", learning_rate=1e-3, reference=None, warmup_epochs=5, weight_decay=5e-4
    ),
    projector=(2048, 256),
    model={"classes": 1000, "temperature": 0.1},
)
