# SPDX-License-Identifier: Apache-2.0
"""MAE with ViT-S on chest X-rays, and on other images of that size.

| what | value |
|---|---|
| encoder | ViT-S, patch 16, fixed sine-cosine positions, Glorot-uniform weights |
| masks | 90 % of the patches, single ones |
| decoder | width 512, 2 blocks, 16 heads |
| target | pixels, each patch standardised |
| views | crop of 50 to 100 % of the area, flip |
| batch, epochs | 2048, 800 |
| optimizer | AdamW, 1.5e-4 x batch/256, beta_2 0.95 |
| schedule | 40 epochs of warm-up, cosine to 0 |
| weight decay | 0.05; not on biases and norms |

Source: Xiao et al., 2022 (https://arxiv.org/abs/2210.12843); lambert-x/medical_mae.
"""

from keras_ssl.recipes._recipe import Optimizer, Recipe

RECIPE = Recipe(
    name="thorax_mae_imagenet",
    method="ThoraxMAE",
    source="Xiao et al., 2022; lambert-x/medical_mae",
    views="thorax_mae",
    data="imagenet",
    backbone="vit_small",
    backbone_options={"positions": "sincos", "kernel_initializer": "glorot_uniform"},
    image_shape=(224, 224, 3),
    epochs=800,
    batch_size=2048,
    optimizer=Optimizer(
        "adamw",
        learning_rate=1.5e-4,
        warmup_epochs=40,
        weight_decay=0.05,
        options={"beta_2": 0.95},
    ),
    model={"decoder": (512, 2, 16)},
)
