# SPDX-License-Identifier: Apache-2.0
"""DINO with a small vision transformer on CIFAR.

| what | value |
|---|---|
| encoder | ViT-Tiny, patch 4, dropped paths 0.1 |
| head | 2048-2048-256, 4096 prototypes, which stand still for 1 epoch |
| teacher | momentum 0.9995 to 1, cosine; temperature 0.04 to 0.07 over 30 epochs |
| batch, epochs | 256, 1000 |
| optimizer | AdamW, 5e-4 x batch/256, each gradient clipped to a norm of 3 |
| schedule | 10 epochs of warm-up, cosine to 1e-6 |
| weight decay | 0.04 to 0.4, cosine; not on biases and norms |

No published command trains this network on CIFAR. The optimizer is that of the authors' ViT-S, the
momentum what they recommend for batch 256, views, prototypes and epochs are solo-learn's.

Source: Caron et al., 2021 (https://arxiv.org/abs/2104.14294); facebookresearch/dino;
vturrisi/solo-learn, CIFAR.
"""

from keras_ssl.recipes._recipe import Optimizer, Recipe

RECIPE = Recipe(
    name="dino_cifar",
    method="DINO",
    source="Caron et al., 2021; facebookresearch/dino; vturrisi/solo-learn, CIFAR",
    views="dino",
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
        weight_decay_end=0.4,
        options={"clipnorm": 3.0},
    ),
    projector=(2048, 2048, 256),
    teacher_momentum=0.9995,
    model={"prototypes": 4096, "teacher_temperature": 0.07},
    ramps={"teacher_temperature": (0.04, 30)},
    delays={"freeze_steps": 1},
)
