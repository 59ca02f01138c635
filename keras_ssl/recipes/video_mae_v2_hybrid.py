# SPDX-License-Identifier: Apache-2.0
"""VideoMAE V2 with ViT-B on UnlabeledHybrid, videos of several sources.

| what | value |
|---|---|
| samples | 16 frames, every fourth of a video, 224 x 224 pixels, 0..1 |
| encoder | ViT-B, cubes of 2 frames and 16 x 16 pixels, flat sine-cosine positions |
| masks | tubes of 90 % of the places; half of the cubes by running cells for the decoder |
| decoder | width 384, 4 blocks, 6 heads |
| target | pixels, each channel of a cube standardised |
| batch, epochs | 1024 videos of 4 clips each, 200 |
| optimizer | AdamW, 1e-3 x batch/256, beta_2 0.95 |
| schedule | 20 epochs of warm-up from 1e-6 x batch/256, cosine to 1e-5 x batch/256 |
| weight decay | 0.05; not on biases and norms |

Crops of several sizes and the four clips of a video, which the batch does not count, are for the
pipeline of the data.

Source: Wang et al., 2023 (https://arxiv.org/abs/2303.16727); OpenGVLab/VideoMAEv2, its command for
ViT-B.
"""

from keras_ssl.models import VideoMAEV2
from keras_ssl.recipes._recipe import Optimizer, Recipe, Transformer
from keras_ssl.tokens import PatchTokenizer

RECIPE = Recipe(
    name="video_mae_v2_hybrid",
    method="VideoMAEV2",
    source="Wang et al., 2023; OpenGVLab/VideoMAEv2",
    data="hybrid",
    backbone=Transformer(
        PatchTokenizer,
        width=768,
        depth=12,
        heads=12,
        tokenizer_options={"patch": (2, 16, 16)},
        options={"class_token": False, "positions": VideoMAEV2.positions},
    ),
    sample_shape=(16, 224, 224, 3),
    epochs=200,
    batch_size=1024,
    optimizer=Optimizer(
        "adamw",
        learning_rate=1e-3,
        warmup_epochs=20,
        warmup_start=4e-6,
        end_factor=1e-2,
        weight_decay=0.05,
        options={"beta_2": 0.95},
    ),
    model={"masking": 0.9, "decode": 0.5, "decoder": (384, 4, 6)},
)
