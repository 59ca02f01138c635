# SPDX-License-Identifier: Apache-2.0
"""MAE on signals: the electricity that household devices draw in a day.

| what | value |
|---|---|
| samples | ElectricDevices: running sums of 96 steps, standardised |
| encoder | width 64, 2 blocks, 4 heads, pieces of 4 steps, fixed sine-cosine positions |
| masks | half of the pieces, single ones |
| decoder | width 64, 1 block, 4 heads |
| target | raw values |
| batch, epochs | 128, 9 |
| optimizer | AdamW, 3e-3, beta_2 0.95 |
| schedule | 0.9 epochs of warm-up, cosine to 0 |
| weight decay | 0.05; not on biases and norms |

There is no paper of these settings: optimizer and decay are MAE's, sizes and the rate those of the
benchmark of modalities, which says what they reach.

Source: He et al., 2021 (https://arxiv.org/abs/2111.06377); benchmarks/modalities.py.
"""

from keras_ssl.recipes._recipe import Optimizer, Recipe, Transformer
from keras_ssl.tokens import PatchTokenizer

RECIPE = Recipe(
    name="signal_mae_electricity",
    method="SignalMAE",
    source="He et al., 2021; benchmarks/modalities.py",
    data="electricity",
    backbone=Transformer(
        PatchTokenizer,
        width=64,
        depth=2,
        heads=4,
        tokenizer_options={"patch": (4,)},
        options={"pooling": "mean"},
    ),
    sample_shape=(96, 1),
    epochs=9,
    batch_size=128,
    optimizer=Optimizer(
        "adamw",
        learning_rate=3e-3,
        reference=None,
        warmup_epochs=0.9,
        weight_decay=0.05,
        options={"beta_2": 0.95},
    ),
    model={"masking": 0.5, "decoder": (64, 1, 4)},
)
