# SPDX-License-Identifier: Apache-2.0
"""Audio-MAE with ViT-B on AudioSet.

| what | value |
|---|---|
| samples | log-mel spectrograms of 10 s, 1024 frames of 128 bands; (x + 4.2677) / (2 x 4.5690) |
| encoder | ViT-B, patch 16, fixed sine-cosine positions, Glorot-uniform weights |
| masks | 80 % of the patches, single ones |
| decoder | width 512, 16 blocks, 16 heads, windows of 4 x 4 patches, every second moved by 2 |
| target | values, each patch standardised |
| batch, epochs | 512, 33 |
| optimizer | AdamW, 2e-4 x batch/256, beta_2 0.95 |
| schedule | 3 epochs of warm-up, cosine to 0 |
| weight decay | 0.0001; not on biases and norms |

Sounds are turned around in time and made louder or softer before they become spectrograms; that is
for the pipeline of the data.

Source: Huang et al., 2022 (https://arxiv.org/abs/2207.06405); facebookresearch/AudioMAE, command of
the pre-training on AudioSet-2M.
"""

from keras_ssl.recipes._recipe import Optimizer, Recipe

RECIPE = Recipe(
    name="audio_mae_audioset",
    method="AudioMAE",
    source="Huang et al., 2022; facebookresearch/AudioMAE",
    data="audioset",
    backbone="vit_base",
    backbone_options={"positions": "sincos", "kernel_initializer": "glorot_uniform"},
    sample_shape=(1024, 128, 1),
    epochs=33,
    batch_size=512,
    optimizer=Optimizer(
        "adamw",
        learning_rate=2e-4,
        warmup_epochs=3,
        weight_decay=1e-4,
        options={"beta_2": 0.95},
    ),
    model={"masking": 0.8, "decoder": (512, 16, 16), "window": (4, 4)},
)
