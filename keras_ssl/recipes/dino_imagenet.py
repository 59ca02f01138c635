# SPDX-License-Identifier: Apache-2.0
"""DINO on ImageNet, the authors' 100-epoch ViT-S (kNN 69.3 %, linear 74.0 %).

| what | value |
|---|---|
| encoder | ViT-S, patch 16, dropped paths 0.1 |
| head | 2048-2048-256, 65536 prototypes, which stand still for 1 epoch |
| teacher | momentum 0.996 to 1, cosine; temperature 0.04 |
| views | 2 of 224 and 8 of 96 pixels |
| batch, epochs | 1024, 100 |
| optimizer | AdamW, 5e-4 x batch/256, each gradient clipped to a norm of 3 |
| schedule | 10 epochs of warm-up, cosine to 1e-6 |
| weight decay | 0.04 to 0.4, cosine; not on biases and norms |

Longer runs raise the teacher's temperature to 0.07 over 30 epochs.

Source: Caron et al., 2021 (https://arxiv.org/abs/2104.14294); facebookresearch/dino.
"""

from keras_ssl.recipes._recipe import Optimizer, Recipe

RECIPE = Recipe(
    name="dino_imagenet",
    method="DINO",
    source="Caron et al., 2021; facebookresearch/dino",
    views="dino",
    data="imagenet",
    backbone="vit_small",
    backbone_options={"patch": 16, "drop_path": 0.1},
    image_shape=(224, 224, 3),
    epochs=100,
    batch_size=1024,
    optimizer=Optimizer(
        "adamw",
        learning_rate=5e-4,
        warmup_epochs=10,
        end_factor=5e-4,
        weight_decay=0.04,
        weight_decay_end=0.4,
        options={"clipnorm": 3.0},
    ),
    projector=(2048, 2048, 256),
    teacher_momentum=0.996,
    model={"prototypes": 65536},
    delays={"freeze_steps": 1},
)
