# SPDX-License-Identifier: Apache-2.0
"""SimMIM with ViT-B on ImageNet.

| what | value |
|---|---|
| encoder | ViT-B, patch 16, dropped paths 0.1, layer scale from 0.1 |
| masks | 60 % of units of 32 x 32 pixels, replaced |
| decoder | linear |
| target | pixels, absolute error |
| views | crop of 67 to 100 % of the area, flip |
| batch, epochs | 2048, 800 |
| optimizer | AdamW, 1e-4 x batch/512, gradients clipped to a norm of 5 |
| schedule | 10 epochs of warm-up, cosine to 0 |
| weight decay | 0.05; not on biases and norms |

The released command lets the rate fall to a tenth after 700 epochs in place of the cosine, and its
encoder has relative positions where this one has learned ones.

Source: Xie et al., 2021 (https://arxiv.org/abs/2111.09886); microsoft/SimMIM.
"""

from keras_ssl.recipes._recipe import Optimizer, Recipe

RECIPE = Recipe(
    name="simmim_imagenet",
    method="SimMIM",
    source="Xie et al., 2021; microsoft/SimMIM",
    views="simmim",
    data="imagenet",
    backbone="vit_base",
    backbone_options={"layer_scale": 0.1, "drop_path": 0.1},
    image_shape=(224, 224, 3),
    epochs=800,
    batch_size=2048,
    optimizer=Optimizer(
        "adamw",
        learning_rate=1e-4,
        reference=512,
        warmup_epochs=10,
        weight_decay=0.05,
        options={"global_clipnorm": 5.0},
    ),
    model={"unit": (32, 32)},
)
