# SPDX-License-Identifier: Apache-2.0
"""SimMIM with a small vision transformer on CIFAR.

| what | value |
|---|---|
| encoder | ViT-Tiny, patch 4, dropped paths 0.1 |
| masks | 60 % of units of 8 x 8 pixels, replaced |
| decoder | linear |
| target | pixels, absolute error |
| views | crop of 67 to 100 % of the area, flip |
| batch, epochs | 256, 800 |
| optimizer | AdamW, 1e-3, gradients clipped to a norm of 5 |
| schedule | 10 epochs of warm-up, cosine to 0 |
| weight decay | 0.05; not on biases and norms |

No published command trains this network on CIFAR. Masks, target and schedule are those of the
authors on ImageNet; units have the same share
of the image, and the rate is chosen for the small batch.

Source: Xie et al., 2021 (https://arxiv.org/abs/2111.09886); microsoft/SimMIM.
"""

from keras_ssl.recipes._recipe import Optimizer, Recipe

RECIPE = Recipe(
    name="simmim_cifar",
    method="SimMIM",
    source="Xie et al., 2021; microsoft/SimMIM",
    views="simmim",
    data="cifar",
    backbone="vit_tiny",
    backbone_options={"patch": 4, "drop_path": 0.1},
    image_shape=(32, 32, 3),
    epochs=800,
    batch_size=256,
    optimizer=Optimizer(
        "adamw",
        learning_rate=1e-3,
        warmup_epochs=10,
        weight_decay=0.05,
        options={"global_clipnorm": 5.0},
    ),
    model={"unit": (8, 8)},
)
