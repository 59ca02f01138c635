# SPDX-License-Identifier: Apache-2.0
"""Franca with a small vision transformer on CIFAR.

| what | value |
|---|---|
| encoder | ViT-Tiny, patch 4, dropped paths 0.1 |
| heads | 2048-2048-256 at the first 12, 24, 48, 96 and 192 features, 4096 prototypes at the last |
| masks | none in half of the images, else all but a block, 10 to 65 % of the patches |
| teacher | momentum 0.9995 to 1, cosine; temperature 0.04 to 0.07 in 30 epochs; Sinkhorn-Knopp |
| batch, epochs | 256, 1000 |
| optimizer | AdamW, 5e-4 x batch/256, each gradient clipped to a norm of 3 |
| schedule | 10 epochs of warm-up, cosine to 1e-6 |
| weight decay | 0.04 to 0.2, cosine; not on biases and norms |

The authors train on ImageNet-21k and LAION only. Temperatures, masks, levels and decay are theirs;
momentum, prototypes, views and epochs those of DINO on CIFAR.

Source: Venkataramanan et al., 2025 (https://arxiv.org/abs/2507.14137); valeoai/Franca.
"""

from keras_ssl.recipes._recipe import Optimizer, Recipe

RECIPE = Recipe(
    name="franca_cifar",
    method="Franca",
    source="Venkataramanan et al., 2025; valeoai/Franca; vturrisi/solo-learn, CIFAR",
    views="franca",
    data="cifar",
    backbone="vit_tiny",
    backbone_options={"patch": 4, "drop_path": 0.1},
    image_shape=(32, 32, 3),
    epochs=1000,
    batch_size=256,
    optimizer=Optimizer(
        "adamw",
        learning_rate=5e-4,
        warmup_epochs=10,
        end_factor=2e-3,
        weight_decay=0.04,
        weight_decay_end=0.2,
        options={"clipnorm": 3.0},
    ),
    projector=(2048, 2048, 256),
    teacher_momentum=0.9995,
    model={"prototypes": 4096, "teacher_temperature": 0.07},
    ramps={"teacher_temperature": (0.04, 30)},
    delays={"freeze_steps": 1},
)
