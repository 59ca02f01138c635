# SPDX-License-Identifier: Apache-2.0
"""I-JEPA with a small vision transformer on CIFAR.

| what | value |
|---|---|
| encoder | ViT-Tiny, patch 4, sine-cosine positions, no class token, Glorot-uniform weights |
| masks | 4 blocks of 15 to 20 % of the patches, out of one of 85 to 100 % |
| predictor | width 96, 4 blocks, 3 heads |
| teacher | momentum 0.996 to 1, in a straight line; latents standardised |
| loss | smooth L1 |
| views | crop of 30 to 100 % of the area, no flip |
| batch, epochs | 256, 600 |
| optimizer | AdamW, 1e-3 |
| schedule | 40 epochs of warm-up from 2e-4, cosine to 1e-6 |
| weight decay | 0.04 to 0.4, cosine; not on biases and norms |

No published command trains this network on CIFAR. Masks, views, loss, teacher, decay and schedule
are the authors' for ImageNet; the predictor is as much narrower than the encoder as theirs.

Source: Assran et al., 2023 (https://arxiv.org/abs/2301.08243); facebookresearch/ijepa.
"""

from keras_ssl.recipes._recipe import Optimizer, Recipe

RECIPE = Recipe(
    name="ijepa_cifar",
    method="IJEPA",
    source="Assran et al., 2023; facebookresearch/ijepa",
    views="ijepa",
    data="cifar",
    backbone="vit_tiny",
    backbone_options={
        "patch": 4,
        "class_token": False,
        "positions": "sincos",
        "kernel_initializer": "glorot_uniform",
    },
    image_shape=(32, 32, 3),
    epochs=600,
    batch_size=256,
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
    model={"predictor": (96, 4, 3)},
)
