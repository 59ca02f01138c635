# SPDX-License-Identifier: Apache-2.0
"""MaskAlign with a small vision transformer on CIFAR.

| what | value |
|---|---|
| encoder | ViT-Tiny, patch 4, fixed sine-cosine positions, Glorot-uniform weights, drop path 0.1 |
| teacher | given: a trained ViT of the same grid and depth, `build(teacher=...)` |
| masks | 70 % of the patches; visible ones drawn by the teacher's attention |
| target | the teacher's last 5 blocks, whitened |
| views | crop of 20 to 100 % of the area, flip |
| batch, epochs | 256, 200 |
| optimizer | AdamW, 1.5e-3, beta_2 0.95 |
| schedule | 20 epochs of warm-up, cosine to 1e-5 |
| weight decay | 0.05; not on biases, norms and mixtures |

No published command trains this network on CIFAR. Masks, target, schedule, optimizer and epochs are
the authors', the rate is that of `mae_cifar` for the same small batch.

Source: Xue et al., 2022 (https://arxiv.org/abs/2211.08887); OpenDriveLab/maskalign.
"""

from keras_ssl.recipes._recipe import Optimizer, Recipe

RECIPE = Recipe(
    name="mask_align_cifar",
    method="MaskAlign",
    source="Xue et al., 2022; OpenDriveLab/maskalign",
    views="mae",
    data="cifar",
    backbone="vit_tiny",
    backbone_options={
        "patch": 4,
        "positions": "sincos",
        "kernel_initializer": "glorot_uniform",
        "drop_path": 0.1,
    },
    image_shape=(32, 32, 3),
    epochs=200,
    batch_size=256,
    optimizer=Optimizer(
        "adamw",
        learning_rate=1.5e-3,
        warmup_epochs=20,
        end_factor=1e-5 / 1.5e-3,
        weight_decay=0.05,
        options={"beta_2": 0.95, "exclude": ("fusion",)},
    ),
)
