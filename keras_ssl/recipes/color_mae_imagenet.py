# SPDX-License-Identifier: Apache-2.0
"""ColorMAE with ViT-B on ImageNet.

| what | value |
|---|---|
| encoder | ViT-B, patch 16, fixed sine-cosine positions, Glorot-uniform weights |
| masks | 75 % of the patches, green noise |
| decoder | width 512, 8 blocks, 16 heads |
| target | pixels, each patch standardised |
| views | crop of 20 to 100 % of the area, flip |
| batch, epochs | 4096, 300 |
| optimizer | AdamW, 1.5e-4 x batch/256, beta_2 0.95 |
| schedule | 40 epochs of warm-up, cosine to 0 |
| weight decay | 0.05; not on biases and norms |

Source: Hinojosa et al., 2024 (https://arxiv.org/abs/2407.13036); carlosh93/ColorMAE.
"""

from keras_ssl.recipes._recipe import Optimizer, Recipe

RECIPE = Recipe(
    name="color_mae_imagenet",
    method="ColorMAE",
    source="Hinojosa et al., 2024; carlosh93/ColorMAE",
    views="mae",
    data="imagenet",
    backbone="vit_base",
    backbone_options={"positions": "sincos", "kernel_initializer": "glorot_uniform"},
    image_shape=(224, 224, 3),
    epochs=300,
    batch_size=4096,
    optimizer=Optimizer(
        "adamw",
        learning_rate=1.5e-4,
        warmup_epochs=40,
        weight_decay=0.05,
        options={"beta_2": 0.95},
        longest_warmup=0.14,
    ),
    model={"decoder": (512, 8, 16), "color": "green"},
)
