# SPDX-License-Identifier: Apache-2.0
"""G2SD's generic stage with a small vision transformer on CIFAR.

| what | value |
|---|---|
| encoder | ViT-Tiny, patch 4, fixed sine-cosine positions, Glorot-uniform weights |
| teacher | given: a trained MAE of the same grid, `build(teacher=...)`; ViT-S by `mae_cifar` |
| masks | 75 % of the patches, single ones, the same for both |
| decoder | width 96, 1 block, 3 heads |
| target | all tokens behind block 1 of the teacher's decoder, whitened |
| views | crop of 20 to 100 % of the area, flip |
| batch, epochs | 256, 300 |
| optimizer | AdamW, 1.5e-3, beta_2 0.95 |
| schedule | 10 epochs of warm-up, cosine to 2.5e-6 |
| weight decay | 0.05; not on biases and norms |

No published command trains these networks on CIFAR. Masks, schedule, optimizer and epochs are the
authors', the rate is that of `mae_cifar` for the same small batch, and the student's decoder is as
deep as the half of the teacher's that is learned, as theirs.

The specific stage is `evaluation.fine_tune(model, ..., recipe="g2sd", teacher=...)`.

Source: Huang et al., 2023 (https://arxiv.org/abs/2302.14771); pengzhiliang/G2SD.
"""

from keras_ssl.recipes._recipe import Optimizer, Recipe

RECIPE = Recipe(
    name="g2sd_cifar",
    method="G2SD",
    source="Huang et al., 2023; pengzhiliang/G2SD",
    views="mae",
    data="cifar",
    backbone="vit_tiny",
    backbone_options={"patch": 4, "positions": "sincos", "kernel_initializer": "glorot_uniform"},
    image_shape=(32, 32, 3),
    epochs=300,
    batch_size=256,
    optimizer=Optimizer(
        "adamw",
        learning_rate=1.5e-3,
        warmup_epochs=10,
        end_factor=2.5e-6 / 1.5e-3,
        weight_decay=0.05,
        options={"beta_2": 0.95},
    ),
    model={"decoder": (96, 1, 3), "teacher_block": 1},
)
