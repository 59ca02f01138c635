# SPDX-License-Identifier: Apache-2.0
"""Hybrid Distillation with a small vision transformer on CIFAR.

| what | value |
|---|---|
| encoder | ViT-Tiny, patch 4, fixed sine-cosine positions, Glorot-uniform weights |
| teachers | given, `build(teacher=..., relation_teacher=...)`: such as DINO and MAE |
| features | last tokens of the first, whitened, weight 1 |
| relations | of queries and keys, and of values, in the last block but one, weight 1 |
| dropped tokens | 30 % of those left before blocks 4, 7 and 10 |
| views | crop of 20 to 100 % of the area, flip |
| batch, epochs | 256, 300 |
| optimizer | AdamW, 1.5e-3, beta_2 0.95 |
| schedule | 15 epochs of warm-up, cosine to 0 |
| weight decay | 0.05; not on biases and norms |

No code is published, and of these numbers the paper's abstract and reviews state the weights alone;
`models.HybridDistillation` says what else is inferred. The schedule is that of TinyMIM, which
distils the same relations; the rate is that of `mae_cifar` for the same small batch.

Source: Shi et al., 2023 (https://arxiv.org/abs/2306.15876); OliverRensu/TinyMIM.
"""

from keras_ssl.recipes._recipe import Optimizer, Recipe

RECIPE = Recipe(
    name="hybrid_distillation_cifar",
    method="HybridDistillation",
    source="Shi et al., 2023; schedule of OliverRensu/TinyMIM",
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
        warmup_epochs=15,
        weight_decay=0.05,
        options={"beta_2": 0.95},
    ),
)
