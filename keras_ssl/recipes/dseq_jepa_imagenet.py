# SPDX-License-Identifier: Apache-2.0
"""DSeq-JEPA with ViT-B on ImageNet.

| what | value |
|---|---|
| encoder | ViT-B, patch 16, fixed sine-cosine positions, a class token, mean of the patches |
| regions | 5, of at least 15 % of the patches but for the last; by the last block but one |
| masks | of the other steps, those of `ijepa_imagenet` |
| predictor | width 192, 6 blocks, 12 heads |
| teacher | momentum 0.996 to 1, in a straight line; latents standardised |
| sequence | steps with regions, from none to all in a straight line |
| views | crop of 30 to 100 % of the area, no flip |
| batch, epochs | 2048, 600 |
| optimizer | AdamW, 8e-4 |
| schedule | 15 epochs of warm-up from 2e-4, cosine to 1e-4 |
| weight decay | 0.04 to 0.4, cosine; not on biases and norms |

The batch is I-JEPA's; the released settings leave it to the number of devices.

Source: DSeq-JEPA, 2025; SkyShunsuke/DSeq-JEPA.
"""

from keras_ssl.recipes._recipe import Optimizer, Recipe

RECIPE = Recipe(
    name="dseq_jepa_imagenet",
    method="DSeqJEPA",
    source="DSeq-JEPA, 2025; SkyShunsuke/DSeq-JEPA",
    views="ijepa",
    data="imagenet",
    backbone="vit_base",
    backbone_options={"pooling": "mean", "positions": "sincos"},
    image_shape=(224, 224, 3),
    epochs=600,
    batch_size=2048,
    optimizer=Optimizer(
        "adamw",
        learning_rate=8e-4,
        reference=None,
        warmup_epochs=15,
        warmup_start=2e-4,
        end_factor=0.125,
        weight_decay=0.04,
        weight_decay_end=0.4,
    ),
    teacher_momentum=0.996,
    teacher_ramp="linear",
    model={"predictor": (192, 6, 12), "regions": 5, "least": 0.15, "sequence": 1.0},
    ramps={"sequence": None},
)
