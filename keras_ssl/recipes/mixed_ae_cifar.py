# SPDX-License-Identifier: Apache-2.0
"""MixedAE with a small vision transformer on CIFAR.

| what | value |
|---|---|
| encoder | ViT-Tiny, patch 4, fixed sine-cosine positions, Glorot-uniform weights |
| masks | four images share the patches of one |
| decoder | width 96, 2 blocks, 3 heads |
| target | pixels, each patch standardised |
| recognition | weight 0.1, temperature 0.25 |
| views | crop of 20 to 100 % of the area, flip |
| batch, epochs | 256, 800 |
| optimizer | AdamW, 1.5e-3, beta_2 0.95 |
| schedule | 40 epochs of warm-up, cosine to 0 |
| weight decay | 0.05; not on biases and norms |

No code is published. What is not mixing is that of `mae_cifar`.

Source: Chen et al., 2023 (https://arxiv.org/abs/2303.17152); facebookresearch/mae.
"""

from keras_ssl.recipes._recipe import Optimizer, Recipe

RECIPE = Recipe(
    name="mixed_ae_cifar",
    method="MixedAE",
    source="Chen et al., 2023; facebookresearch/mae",
    views="mae",
    data="cifar",
    backbone="vit_tiny",
    backbone_options={"patch": 4, "positions": "sincos", "kernel_initializer": "glorot_uniform"},
    image_shape=(32, 32, 3),
    epochs=800,
    batch_size=256,
    optimizer=Optimizer(
        "adamw",
        learning_rate=1.5e-3,
        warmup_epochs=40,
        weight_decay=0.05,
        options={"beta_2": 0.95},
    ),
    model={"decoder": (96, 2, 3)},
)
