# SPDX-License-Identifier: Apache-2.0
"""MMC with a ViT-S on ImageNet.

| what | value |
|---|---|
| encoder | ViT-S, patch 16, dropped paths 0.1 |
| class token | projector 4096-4096-256, predictor 4096-256, temperature 0.2 |
| patches | head 2048-2048-256, 8192 prototypes, which stand still for 1 epoch |
| masks | none in half of the images, else blocks over 10 to 50 % of the patches |
| teacher | momentum 0.996 to 1, cosine; temperature of patches 0.04 to 0.07 in 30 epochs |
| batch, epochs | 1024, 800 |
| optimizer | AdamW, 5e-4 x batch/256, each gradient clipped to a norm of 3 |
| schedule | 10 epochs of warm-up, cosine to 1e-6 |
| weight decay | 0.04 to 0.1, cosine; not on biases and norms |

No source at hand states how MMC was trained. Epochs, optimizer and teacher are those of SiT, which
the same group trained alike; batch, masks, temperatures and head of patches are iBOT's; heads and
temperature of class tokens MoCo v3's for ViT.

Source: Wu et al., 2023 (https://arxiv.org/abs/2308.11448, abstract); Atito et al., 2021,
Sara-Ahmed/SiT; bytedance/ibot; facebookresearch/moco-v3.
"""

from keras_ssl.recipes._recipe import Optimizer, Recipe

RECIPE = Recipe(
    name="mmc_imagenet",
    method="MMC",
    source="Wu et al., 2023, abstract; Sara-Ahmed/SiT; bytedance/ibot; facebookresearch/moco-v3",
    views="byol",
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
        weight_decay_end=0.1,
        options={"clipnorm": 3.0},
    ),
    projector=(4096, 4096, 256),
    predictor=(4096, 256),
    teacher_momentum=0.996,
    model={
        "patch_projector": (2048, 2048, 256),
        "prototypes": 8192,
        "temperature": 0.2,
        "patch_temperature": 0.07,
    },
    ramps={"patch_temperature": (0.04, 30)},
    delays={"freeze_steps": 1},
)
