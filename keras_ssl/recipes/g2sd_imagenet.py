# SPDX-License-Identifier: Apache-2.0
"""G2SD's generic stage with ViT-S on ImageNet.

| what | value |
|---|---|
| encoder | ViT-S, patch 16, fixed sine-cosine positions, Glorot-uniform weights |
| teacher | given: a trained MAE of the same grid, `build(teacher=...)`; ViT-B |
| masks | 75 % of the patches, single ones, the same for both |
| decoder | width 256, 4 blocks, 8 heads |
| target | all tokens behind block 4 of the teacher's decoder, whitened |
| views | crop of 20 to 100 % of the area, flip |
| batch, epochs | 4096, 300 |
| optimizer | AdamW, 1.5e-4 x batch/256, beta_2 0.95 |
| schedule | 10 epochs of warm-up, cosine to 2.5e-6 |
| weight decay | 0.05; not on biases and norms |

The specific stage is `evaluation.fine_tune(model, ..., recipe="g2sd", teacher=...)`.

Source: Huang et al., 2023 (https://arxiv.org/abs/2302.14771); GD.sh and main_distill.py of
pengzhiliang/G2SD.
"""

from keras_ssl.recipes._recipe import Optimizer, Recipe

RECIPE = Recipe(
    name="g2sd_imagenet",
    method="G2SD",
    source="Huang et al., 2023; pengzhiliang/G2SD",
    views="mae",
    data="imagenet",
    backbone="vit_small",
    backbone_options={"positions": "sincos", "kernel_initializer": "glorot_uniform"},
    image_shape=(224, 224, 3),
    epochs=300,
    batch_size=4096,
    optimizer=Optimizer(
        "adamw",
        learning_rate=1.5e-4,
        warmup_epochs=10,
        end_factor=2.5e-6 / 2.4e-3,
        weight_decay=0.05,
        options={"beta_2": 0.95},
    ),
    model={"decoder": (256, 4, 8), "teacher_block": 4},
)
