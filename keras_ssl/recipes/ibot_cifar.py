# SPDX-License-Identifier: Apache-2.0
"""iBOT with a small vision transformer on CIFAR.

| what | value |
|---|---|
| encoder | ViT-Tiny, patch 4, dropped paths 0.1 |
| head | 2048-2048-256, 4096 prototypes for class token and patches, which stand still for 1 epoch |
| masks | none in half of the images, else blocks over 10 to 50 % of the patches |
| teacher | momentum 0.9995 to 1, cosine; temperature 0.04, of patches 0.04 to 0.07 in 30 epochs |
| batch, epochs | 256, 1000 |
| optimizer | AdamW, 5e-4 x batch/256, each gradient clipped to a norm of 3 |
| schedule | 10 epochs of warm-up, cosine to 1e-6 |
| weight decay | 0.04 to 0.4, cosine; not on biases and norms |

No published command trains this network on CIFAR. Optimizer, temperatures and masks are those of
the authors' ViT-S; momentum, prototypes, views and epochs those of DINO on CIFAR.

Source: Zhou et al., 2021 (https://arxiv.org/abs/2111.07832); bytedance/ibot.
"""

from keras_ssl.recipes._recipe import Optimizer, Recipe

RECIPE = Recipe(
    name="ibot_cifar",
    method="IBOT",
    source="Zhou et al., 2021; bytedance/ibot; vturrisi/solo-learn, CIFAR",
    views="ibot",
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
    model={"prototypes": 4096, "patch_temperature": 0.07},
    ramps={"patch_temperature": (0.04, 30)},
    delays={"freeze_steps": 1},
)
