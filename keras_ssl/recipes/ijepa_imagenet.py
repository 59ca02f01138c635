# SPDX-License-Identifier: Apache-2.0
"""I-JEPA with ViT-B on ImageNet.

| what | value |
|---|---|
| encoder | ViT-B, patch 16, fixed sine-cosine positions, no class token |
| masks | 4 blocks of 15 to 20 % of the patches, out of one of 85 to 100 % |
| predictor | width 384, 6 blocks, 12 heads |
| teacher | momentum 0.996 to 1, in a straight line; latents standardised |
| loss | smooth L1 |
| views | crop of 30 to 100 % of the area, no flip |
| batch, epochs | 2048, 600 |
| optimizer | AdamW, 1e-3 |
| schedule | 40 epochs of warm-up from 2e-4, cosine to 1e-6 |
| weight decay | 0.04 to 0.4, cosine; not on biases and norms |

The numbers are those of the released command for ViT-H, whose predictor has 12 blocks and whose run
300 epochs; the authors report ViT-B after 600. Another batch wants
another rate, and not one in proportion.

Source: Assran et al., 2023 (https://arxiv.org/abs/2301.08243); facebookresearch/ijepa.
"""

from keras_ssl.recipes._recipe import Optimizer, Recipe

RECIPE = Recipe(
    name="ijepa_imagenet",
    method="IJEPA",
    source="Assran et al., 2023; facebookresearch/ijepa",
    views="ijepa",
    data="imagenet",
    backbone="vit_base",
    backbone_options={
        "class_token": False,
        "positions": "sincos",
    },
    image_shape=(224, 224, 3),
    epochs=600,
    batch_size=2048,
    optimizer=Optimizer(
        "adamw",
        learning_rate=1e-3,
        reference=None,
        warmup_epochs=40,
        warmup_start=2e-4,
        end_factor=1e-3,
        weight_decay=0.04,
        weight_decay_end=0.4,
    ),
    teacher_momentum=0.996,
    teacher_ramp="linear",
    model={"predictor": (384, 6, 12)},
)
