# SPDX-License-Identifier: Apache-2.0
"""ECG-JEPA with ViT-S on electrocardiograms of twelve leads.

| what | value |
|---|---|
| samples | 10 s at 500 Hz of 12 leads, gaps filled, above 0.5 Hz, standardised lead by lead |
| encoder | width 384, 8 blocks, 6 heads, pieces of 25 steps, one register, sine-cosine positions |
| masks | 15 to 25 % of the pieces are seen, hidden runs of 10 or more |
| predictor | width 192, 8 blocks, 6 heads |
| teacher | momentum 0.998 to 0.9995, in a straight line; it moves before a step |
| loss | absolute differences of latents as the teacher's last norm leaves them |
| batch, steps | 2048, 100,000: 100 epochs of 1,000 steps |
| optimizer | AdamW, 1e-3, betas 0.9 and 0.99, epsilon 1e-6 |
| schedule | 10,000 steps of warm-up, cosine to 1e-6 |
| weight decay | 0.01 to 0.1, cosine; not on norms and offsets |

Source: Weimann and Conrad, 2024 (https://arxiv.org/abs/2410.13867); kweimann/ECG-JEPA.
"""

from keras_ssl.recipes._recipe import Optimizer, Recipe, Transformer
from keras_ssl.tokens import PatchTokenizer

RECIPE = Recipe(
    name="ecg_jepa_12lead",
    method="ECGJEPA",
    source="Weimann and Conrad, 2024; kweimann/ECG-JEPA",
    data="12lead",
    backbone=Transformer(
        PatchTokenizer,
        width=384,
        depth=8,
        heads=6,
        tokenizer_options={"patch": (25,)},
        options={"class_token": False, "registers": 1},
    ),
    sample_shape=(5000, 12),
    epochs=100,
    batch_size=2048,
    optimizer=Optimizer(
        "adamw",
        learning_rate=1e-3,
        reference=None,
        warmup_epochs=10,
        end_factor=1e-3,
        weight_decay=0.01,
        weight_decay_end=0.1,
        options={"beta_2": 0.99, "epsilon": 1e-6},
    ),
    teacher_momentum=0.998,
    teacher_momentum_end=0.9995,
    teacher_ramp="linear",
    model={"predictor": (192, 8, 6)},
)
