# SPDX-License-Identifier: Apache-2.0
"""CropMAE with ViT-S on ImageNet.

| what | value |
|---|---|
| encoder | ViT-S, patch 16, fixed sine-cosine positions, Glorot-uniform weights |
| masks | all but two patches of the second view |
| decoder | width 256, 4 blocks, 8 heads, dropout 0.1 |
| target | pixels, each patch standardised |
| views | a crop of 10 to 100 % of the area, and one of 30 to 60 % of that; flips |
| batch, epochs | 2048 (128 on each of sixteen devices), 400 |
| optimizer | AdamW, 1e-4 x batch/256, beta_2 0.95 |
| schedule | 20 epochs of warm-up, cosine to 0 |
| weight decay | 0.05; not on biases and norms |

As the released ImageNet command has it. The code's defaults without that command are crops of 20 to
100 % of either area, raw pixels and a rate of 5e-5 x batch/256.

Source: Eymaël et al., 2024 (https://arxiv.org/abs/2403.17823); alexandre-eymael/CropMAE.
"""

from keras_ssl.recipes._recipe import Optimizer, Recipe

RECIPE = Recipe(
    name="crop_mae_imagenet",
    method="CropMAE",
    source="Eymaël et al., 2024; alexandre-eymael/CropMAE",
    views="crop_mae",
    data="imagenet",
    backbone="vit_small",
    backbone_options={"positions": "sincos", "kernel_initializer": "glorot_uniform"},
    image_shape=(224, 224, 3),
    epochs=400,
    batch_size=2048,
    optimizer=Optimizer(
        "adamw",
        learning_rate=1e-4,
        warmup_epochs=20,
        weight_decay=0.05,
        options={"beta_2": 0.95},
    ),
    model={"masking": 0.985, "decoder": (256, 4, 8)},
)
