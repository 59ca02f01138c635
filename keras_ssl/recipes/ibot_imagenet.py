# SPDX-License-Identifier: Apache-2.0
"""iBOT on ImageNet, the authors' ViT-S (kNN 75.2 %, linear 77.9 %).

| what | value |
|---|---|
| encoder | ViT-S, patch 16, dropped paths 0.1 |
| head | 2048-2048-256, 8192 prototypes for class token and patches, which stand still for 1 epoch |
| masks | none in half of the images, else blocks over 10 to 50 % of the patches |
| teacher | momentum 0.996 to 1, cosine; temperature 0.04, of patches 0.04 to 0.07 in 30 epochs |
| views | 2 of 224 pixels from area 0.25, 10 of 96 below it |
| batch, epochs | 1024, 800 |
| optimizer | AdamW, 5e-4 x batch/256, each gradient clipped to a norm of 3 |
| schedule | 10 epochs of warm-up, cosine to 1e-6 |
| weight decay | 0.04 to 0.4, cosine; not on biases and norms |

Source: Zhou et al., 2021 (https://arxiv.org/abs/2111.07832); bytedance/ibot.
"""

from keras_ssl.recipes._recipe import Optimizer, Recipe

RECIPE = Recipe(
    name="ibot_imagenet",
    method="IBOT",
    source="Zhou et al., 2021; bytedance/ibot",
    views="ibot",
    data="imagenet",
    backbone="vit_small",
    backbone_options={"patch": 16, "drop_path": 0.1},
    image_shape=(224, 224, 3),
    epochs=800,
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
    model={"prototypes": 8192, "patch_temperature": 0.07},
    ramps={"patch_temperature": (0.04, 30)},
    delays={"freeze_steps": 1},
)
