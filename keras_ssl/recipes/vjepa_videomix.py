# SPDX-License-Identifier: Apache-2.0
"""V-JEPA with ViT-L on VideoMix2M, videos of several sources.

| what | value |
|---|---|
| samples | 16 frames, every fourth of a video, 224 x 224 pixels, standardised |
| encoder | ViT-L, cubes of 2 frames and 16 x 16 pixels, sine-cosine positions, no class token |
| masks | 8 blocks of 15 % and 2 blocks of 70 % of a frame, through all frames |
| predictor | width 384, 12 blocks, 16 heads, a mask token for each mask |
| teacher | momentum 0.998 to 1, in a straight line; latents standardised |
| loss | absolute differences |
| batch, epochs | 3072, 300 of 300 steps |
| optimizer | AdamW, 6.25e-4, gradients clipped to a norm of 10 |
| schedule | 40 epochs of warm-up from 2e-4, cosine to 1e-6 |
| weight decay | 0.04 to 0.4, cosine; not on biases and norms |

The authors' schedules are made for a quarter more steps and cut, so that they never come to their
ends; here they do. They clip encoder and predictor each by itself, and from the end of the warm-up.
Crops (30 to 100 % of the area, sides of 0.75 to 1.35) and flips are for the pipeline of the data.

Source: Bardes et al., 2024 (https://arxiv.org/abs/2404.08471); facebookresearch/jepa.
"""

from keras_ssl.models import VJEPA
from keras_ssl.recipes._recipe import Optimizer, Recipe, Transformer
from keras_ssl.tokens import PatchTokenizer

OPTIONS = {"class_token": False, "positions": VJEPA.positions, "kernel_initializer": None}

RECIPE = Recipe(
    name="vjepa_videomix",
    method="VJEPA",
    source="Bardes et al., 2024; facebookresearch/jepa",
    data="videomix",
    backbone=Transformer(
        PatchTokenizer,
        width=1024,
        depth=24,
        heads=16,
        tokenizer_options={"patch": (2, 16, 16)},
        options=OPTIONS,
    ),
    sample_shape=(16, 224, 224, 3),
    epochs=300,
    batch_size=3072,
    optimizer=Optimizer(
        "adamw",
        learning_rate=6.25e-4,
        reference=None,
        warmup_epochs=40,
        warmup_start=2e-4,
        end_factor=1.6e-3,
        weight_decay=0.04,
        weight_decay_end=0.4,
        longest_warmup=0.15,
        options={"global_clipnorm": 10.0},
    ),
    teacher_momentum=0.998,
    teacher_ramp="linear",
    model={"predictor": (384, 12, 16)},
)
