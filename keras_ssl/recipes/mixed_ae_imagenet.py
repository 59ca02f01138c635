# SPDX-License-Identifier: Apache-2.0
"""MixedAE with ViT-B on ImageNet.

| what | value |
|---|---|
| encoder | ViT-B, patch 16, fixed sine-cosine positions, Glorot-uniform weights |
| masks | four images share the patches of one |
| decoder | width 512, 8 blocks, 16 heads |
| target | pixels, each patch standardised |
| recognition | weight 0.1, temperature 0.25 |
| views | crop of 20 to 100 % of the area, flip |
| batch, epochs | 4096, 800 |
| optimizer | AdamW, 1.5e-4 x batch/256, beta_2 0.95 |
| schedule | 40 epochs of warm-up, cosine to 0 |
| weight decay | 0.05; not on biases and norms |

No code is published. What is not mixing is that of `mae_imagenet`.

Source: Chen et al., 2023 (https://arxiv.org/abs/2303.17152); facebookresearch/mae.
"""

from keras_ssl.recipes._recipe import Optimizer, Recipe

RECIPE = Recipe(
    name="mixed_ae_imagenet",
    method="MixedAE",
    source="Chen et al., 2023; facebookresearch/mae",
    views="mae",
    data="imagenet",
    backbone="vit_base",
    backbone_options={"positions": "sincos", "kernel_initializer": "glorot_uniform"},
    image_shape=(224, 224, 3),
    epochs=800,
    batch_size=4096,
    optimizer=Optimizer(
        "adamw",
        learning_rate=1.5e-4,
        warmup_epochs=40,
        weight_decay=0.05,
        options={"beta_2": 0.95},
    ),
    model={"decoder": (512, 8, 16)},
)
