# SPDX-License-Identifier: Apache-2.0
"""T-JEPA on Adult, rows of a census with 6 numbers and 8 categories.

| what | value |
|---|---|
| samples | Adult: 6 standardised numbers, 8 categories of 9, 16, 7, 15, 6, 5, 2 and 42 |
| encoder | width 32, 2 blocks, 4 heads, 1 register, sine-cosine positions of base 100 |
| masks | 14 to 37 % of the columns are seen, 4 sets of 16 to 62 % predicted |
| predictor | width 32, 2 blocks, 4 heads |
| teacher | momentum 0.99 to 1, half a cosine; latents as they are |
| loss | squared differences |
| batch, epochs | 256, 16 |
| optimizer | AdamW, 1e-3 |
| schedule | 1.6 epochs of warm-up, cosine to 0 |
| weight decay | 0 |

Masks, register, loss and decay are those of the authors' command, which is for another table
(jannis: width 64 and 16 blocks, a predictor of width 16 and 16 blocks, 300 epochs in batches of
512, a rate of 3.7e-4); their settings for Adult are not released. Sizes, rate and momentum are
those of the benchmark of tables, which says what they reach. The numbers of categories are those of
the training part; `data.from_dataframe` tells those of another table: `tokenizer_options`.

Source: Thimonier et al., 2024 (https://arxiv.org/abs/2410.05016); jose-melo/t-jepa;
benchmarks/tables_quality.py.
"""

from keras_ssl.models import TJEPA
from keras_ssl.recipes._recipe import Optimizer, Recipe, Transformer
from keras_ssl.tokens import FeatureTokenizer

RECIPE = Recipe(
    name="tjepa_adult",
    method="TJEPA",
    source="Thimonier et al., 2024; jose-melo/t-jepa; benchmarks/tables_quality.py",
    data="adult",
    backbone=Transformer(
        FeatureTokenizer,
        width=32,
        depth=2,
        heads=4,
        tokenizer_options={
            "numeric": 6,
            "cardinalities": (9, 16, 7, 15, 6, 5, 2, 42),
            "missing": True,
        },
        options={
            "class_token": False,
            "registers": 1,
            "positions": TJEPA.positions,
            "pooling": "concat",
        },
    ),
    sample_shape={"numeric": (6,), "categorical": (8,)},
    epochs=16,
    batch_size=256,
    optimizer=Optimizer("adamw", learning_rate=1e-3, reference=None, warmup_epochs=1.6),
    teacher_momentum=0.99,
    model={"predictor": (32, 2, 4)},
)
