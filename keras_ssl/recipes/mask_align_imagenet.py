# SPDX-License-Identifier: Apache-2.0
"""MaskAlign with ViT-B on ImageNet.

| what | value |
|---|---|
| encoder | ViT-B, patch 16, fixed sine-cosine positions, Glorot-uniform weights, drop path 0.1 |
| teacher | given: a trained ViT of the same grid and depth, `build(teacher=...)`; CLIP's ViT-B/16 |
| masks | 70 % of the patches; visible ones drawn by the teacher's attention |
| target | the teacher's last 5 blocks, whitened |
| views | crop of 20 to 100 % of the area, flip |
| batch, epochs | 1024, 200 |
| optimizer | AdamW, 1.5e-4 x batch/256, beta_2 0.95 |
| schedule | 20 epochs of warm-up, cosine to 1e-5 |
| weight decay | 0.05; not on biases, norms and mixtures |

Source: Xue et al., 2022 (https://arxiv.org/abs/2211.08887); README and main_pretrain.py of
OpenDriveLab/maskalign.
"""

from keras_ssl.recipes._recipe import Optimizer, Recipe

RECIPE = Recipe(
    name="mask_align_imagenet",
    method="MaskAlign",
    source="Xue et al., 2022; OpenDriveLab/maskalign",
    views="mae",
    data="imagenet",
    backbone="vit_base",
    backbone_options={
        "positions": "sincos",
        "kernel_initializer": "glorot_uniform",
        "drop_path": 0.1,
    },
    image_shape=(224, 224, 3),
    epochs=200,
    batch_size=1024,
    optimizer=Optimizer(
        "adamw",
        learning_rate=1.5e-4,
        warmup_epochs=20,
        end_factor=1e-5 / 6e-4,
        weight_decay=0.05,
        options={"beta_2": 0.95, "exclude": ("fusion",)},
    ),
)
