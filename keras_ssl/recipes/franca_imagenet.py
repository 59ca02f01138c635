# SPDX-License-Identifier: Apache-2.0
"""Franca on ImageNet, the authors' ViT-B (there on ImageNet-21k).

| what | value |
|---|---|
| encoder | ViT-B, patch 14, SwiGLU, layer scale 1e-5, dropped paths 0.1 |
| heads | 2048-2048-384 at 48, 96, 192, 384 and all 768 features, 131072 prototypes at the last |
| masks | none in half of the images, else all but a block, 10 to 65 % of the patches |
| teacher | momentum 0.994 to 1, cosine; temperature 0.04 to 0.07 in 30 epochs; Sinkhorn-Knopp |
| views | 2 of 224 pixels from area 0.32, 8 of 98 below it |
| batch, epochs | 2048, 800 |
| optimizer | AdamW, 7.01e-4 x sqrt(batch/1024), each gradient clipped to a norm of 3 |
| schedule | 128 epochs of warm-up, cosine to 1e-6 |
| weight decay | 0.04 to 0.2, cosine; not on biases and norms |

The authors' epochs are 1250 steps each; these are passes over the images. They drop the same share
of paths in every block and train the patch embedding at a fifth of the rate, which is left out.

Source: Venkataramanan et al., 2025 (https://arxiv.org/abs/2507.14137); valeoai/Franca.
"""

from keras_ssl.recipes._recipe import Optimizer, Recipe

RECIPE = Recipe(
    name="franca_imagenet",
    method="Franca",
    source="Venkataramanan et al., 2025; valeoai/Franca",
    views="franca",
    data="imagenet",
    backbone="vit_base",
    backbone_options={
        "patch": 14,
        "activation": "swiglu",
        "mlp_ratio": 8 / 3,
        "layer_scale": 1e-5,
        "drop_path": 0.1,
    },
    image_shape=(224, 224, 3),
    epochs=800,
    batch_size=2048,
    optimizer=Optimizer(
        "adamw",
        learning_rate=7.01e-4,
        reference=1024,
        scaling="sqrt",
        warmup_epochs=128,
        longest_warmup=0.16,
        end_factor=1e-3,
        weight_decay=0.04,
        weight_decay_end=0.2,
        options={"clipnorm": 3.0},
    ),
    projector=(2048, 2048, 384),
    teacher_momentum=0.994,
    model={"prototypes": 131072, "teacher_temperature": 0.07},
    ramps={"teacher_temperature": (0.04, 30)},
    delays={"freeze_steps": 1},
)
