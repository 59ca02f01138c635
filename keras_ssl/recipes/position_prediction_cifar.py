# SPDX-License-Identifier: Apache-2.0
"""Position prediction (MP3) with a small vision transformer on CIFAR.

| what | value |
|---|---|
| encoder | ViT-Tiny, patch 4, no positions, Glorot-uniform weights |
| masks | half of the patches are attended to by none |
| views | crop of 20 to 100 % of the area, flip |
| batch, epochs | 256, 800 |
| optimizer | AdamW, 1.5e-3, beta_2 0.95 |
| schedule | 40 epochs of warm-up, cosine to 0 |
| weight decay | 0.05; not on biases and norms |

No code is published; a replication on CIFAR hides half of the patches. What is left open is that of
`mae_cifar`.

Source: Zhai et al., 2022 (https://arxiv.org/abs/2207.07611);
arshadshk/Position-Prediction-Pretraining-MP3.
"""

from keras_ssl.recipes._recipe import Optimizer, Recipe

RECIPE = Recipe(
    name="position_prediction_cifar",
    method="PositionPrediction",
    source="Zhai et al., 2022; arshadshk/Position-Prediction-Pretraining-MP3",
    views="mae",
    data="cifar",
    backbone="vit_tiny",
    backbone_options={"patch": 4, "positions": "none", "kernel_initializer": "glorot_uniform"},
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
    model={"masking": 0.5},
)
