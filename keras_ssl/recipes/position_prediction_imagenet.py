# SPDX-License-Identifier: Apache-2.0
"""Position prediction (MP3) with ViT-B on ImageNet.

| what | value |
|---|---|
| encoder | ViT-B, patch 16, no positions, stochastic depth 0.1 |
| masks | 75 % of the patches are attended to by none |
| views | crop of 20 to 100 % of the area, flip |
| batch, epochs | 1024, 300 |
| optimizer | AdamW, 5e-4 x batch/512 |
| schedule | 5 epochs of warm-up, cosine to 1e-5 |
| weight decay | 0.05; not on biases and norms |

No code is published. A replication says that the authors train with DeiT's settings; those are its
optimizer, schedule and epochs, without its mixing and smoothing of labels.

Source: Zhai et al., 2022 (https://arxiv.org/abs/2207.07611); DeiT, Touvron et al., 2021.
"""

from keras_ssl.recipes._recipe import Optimizer, Recipe

RECIPE = Recipe(
    name="position_prediction_imagenet",
    method="PositionPrediction",
    source="Zhai et al., 2022; Touvron et al., 2021",
    views="mae",
    data="imagenet",
    backbone="vit_base",
    backbone_options={"positions": "none", "drop_path": 0.1},
    image_shape=(224, 224, 3),
    epochs=300,
    batch_size=1024,
    optimizer=Optimizer(
        "adamw",
        learning_rate=2.5e-4,
        warmup_epochs=5,
        end_factor=0.01,
        weight_decay=0.05,
    ),
    model={"masking": 0.75},
)
