# SPDX-License-Identifier: Apache-2.0
"""LV-MAE on embeddings of segments of films and other long videos.

| what | value |
|---|---|
| samples | at most 256 embeddings of segments of 5 s, of unit length, by a frozen model |
| encoder | width 1024, 32 blocks, 16 heads, fixed sine-cosine positions, Glorot-uniform weights |
| masks | half of the segments: those that are most like the one before |
| decoder | width 512, 8 blocks, 16 heads |
| target | embeddings, squared error |
| batch, epochs | 128, 151 |
| optimizer | AdamW, 1e-3 x batch/256, beta_2 0.95 |
| schedule | 40 epochs of warm-up, cosine to 0 |
| weight decay | 0.05; not on biases and norms |

The authors add positions to the embeddings themselves; here a linear map makes them tokens. Their
code has a cosine loss as well (`model={"loss": "cosine", ...}`), which their command leaves out.

Source: Naiman et al., 2025 (https://arxiv.org/abs/2504.03501); amazon-science/lv-mae, recommended
command and its defaults.
"""

from keras_ssl.recipes._recipe import Optimizer, Recipe, Transformer
from keras_ssl.tokens import EmbeddingTokenizer

RECIPE = Recipe(
    name="lv_mae_films",
    method="LVMAE",
    source="Naiman et al., 2025; amazon-science/lv-mae",
    data="films",
    backbone=Transformer(EmbeddingTokenizer, width=1024, depth=32, heads=16),
    sample_shape={"vectors": (256, 1024), "real": (256,)},
    epochs=151,
    batch_size=128,
    optimizer=Optimizer(
        "adamw",
        learning_rate=1e-3,
        warmup_epochs=40,
        longest_warmup=40 / 151,
        weight_decay=0.05,
        options={"beta_2": 0.95},
    ),
    model={"masking": 0.5, "decoder": (512, 8, 16), "loss": "l2", "importance": True},
)
