# SPDX-License-Identifier: Apache-2.0
"""CropMAE with a small vision transformer on CIFAR.

| what | value |
|---|---|
| encoder | ViT-Tiny, patch 4, fixed sine-cosine positions, Glorot-uniform weights |
| masks | all but two patches of the second view |
| decoder | width 96, 2 blocks, 3 heads, dropout 0.1 |
| target | pixels, each patch standardised |
| views | a crop of 10 to 100 % of the area, and one of 30 to 60 % of that; flips |
| batch, epochs | 256, 400 |
| optimizer | AdamW, 1e-3 x batch/256, beta_2 0.95 |
| schedule | 20 epochs of warm-up, cosine to 0 |
| weight decay | 0.05; not on biases and norms |

No published command trains this network on CIFAR. Two patches are visible as with the authors, here
of 64; the decoder is that of `mae_cifar`, and a batch this small has a larger rate.

Source: Eymaël et al., 2024 (https://arxiv.org/abs/2403.17823); alexandre-eymael/CropMAE.
"""

from keras_ssl.recipes._recipe import Optimizer, Recipe

RECIPE = Recipe(
    name="crop_mae_cifar",
    method="CropMAE",
    source="Eymaël et al., 2024; alexandre-eymael/CropMAE",
    views="crop_mae",
    data="cifar",
    backbone="vit_tiny",
    backbone_options={"patch": 4, "positions": "sincos", "kernel_initializer": "glorot_uniform"},
    image_shape=(32, 32, 3),
    epochs=400,
    batch_size=256,
    optimizer=Optimizer(
        "adamw",
        learning_rate=1e-3,
        warmup_epochs=20,
        weight_decay=0.05,
        options={"beta_2": 0.95},
    ),
    model={"masking": 0.968, "decoder": (96, 2, 3)},
)
