# SPDX-License-Identifier: Apache-2.0
"""SAR-JEPA with ViT-B on images of synthetic aperture radar.

| what | value |
|---|---|
| samples | 224 x 224 pixels of one channel, 0 to 1 |
| views | crops of 20 to 100 %, flips, contrast of half to one and a half |
| encoder | ViT-B, patch 16, class token, rotary positions |
| masks | 4 windows of 7 x 7 patches, 80 % of each hidden |
| decoder | width 512, 8 blocks, 16 heads, on the tokens of a window |
| target | ratio gradients of radii 5, 9, 13 and 17 pixels |
| batch, epochs | 300, 300 |
| optimizer | AdamW, 1e-3 x batch/256, beta_2 0.95 |
| schedule | 20 epochs of warm-up, cosine to 0 |
| weight decay | 0.05; not on biases and norms |

Source: Li et al., 2024 (https://arxiv.org/abs/2311.15153); waterdisappear/SAR-JEPA.
"""

from keras_ssl.recipes._recipe import Optimizer, Recipe

RECIPE = Recipe(
    name="sar_jepa_radar",
    method="SARJEPA",
    source="Li et al., 2024; waterdisappear/SAR-JEPA",
    data="radar",
    views="sar_jepa",
    backbone="vit_base",
    backbone_options={"positions": "rotary", "kernel_initializer": "glorot_uniform"},
    sample_shape=(224, 224, 1),
    epochs=300,
    batch_size=300,
    optimizer=Optimizer(
        "adamw",
        learning_rate=1e-3,
        warmup_epochs=20,
        weight_decay=0.05,
        options={"beta_2": 0.95},
    ),
    model={"decoder": (512, 8, 16)},
)
