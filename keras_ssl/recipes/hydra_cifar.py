# SPDX-License-Identifier: Apache-2.0
"""Hydra (SimLAP) on CIFAR, the authors' command (90.86 % on CIFAR-10).

| what | value |
|---|---|
| encoder, head | ResNet-18, 3x3 stem, no max-pooling (the authors: a deep stem); 2048-256 |
| loss | temperature 0.1, arbitrary pairs, the mean of both class embeddings |
| views | one: a crop of 0.7 to 1 of the area, and a flip |
| batch, epochs | 256, 50 |
| optimizer | AdamW (the authors: Adam), 1e-3, not scaled |
| schedule | 2 epochs of warm-up, cosine to 0 |
| weight decay | 5e-4 (decoupled here, added to the gradient there), not on one-axis parameters |

Source: Wu et al., 2024 (https://arxiv.org/abs/2410.18200); erow/vitookit.
"""

from keras_ssl.recipes._recipe import Optimizer, Recipe

RECIPE = Recipe(
    name="hydra_cifar",
    method="Hydra",
    source="Wu et al., 2024; erow/vitookit",
    views="hydra",
    data="cifar",
    backbone="resnet18",
    backbone_options={"stem": "small"},
    image_shape=(32, 32, 3),
    epochs=50,
    batch_size=256,
    optimizer=Optimizer(
        "adamw", learning_rate=1e-3, reference=None, warmup_epochs=2, weight_decay=5e-4
    ),
    projector=(2048, 256),
    model={"classes": 10, "temperature": 0.1},
)
