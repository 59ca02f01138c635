# SPDX-License-Identifier: Apache-2.0
"""Uni4Eye with ViT-L on images and volumes of the retina.

| what | value |
|---|---|
| samples | images of 224 x 224 pixels, and volumes of 112 x 224 x 224 voxels |
| encoder | ViT-L, patch 16, fixed sine-cosine positions, Glorot-uniform weights |
| masks | 75 % of the patches, single ones |
| decoders | width 512, 8 blocks, 16 heads, for values and for gradients |
| target | values, not standardised, and gradients |
| batch, epochs | 64 images or 8 volumes, 200 |
| optimizer | AdamW, 1e-3 x batch/256, beta_2 0.95 |
| schedule | 40 epochs of warm-up, cosine to 0 |
| weight decay | 0.05; not on biases and norms |

The numbers are those of the code of the successor, Uni4Eye++, on OCTA-500; that of Uni4Eye itself
is not public. Images and volumes take turns there, an epoch each (`fit` on one, then on the other);
random crops of 20 to 100 % of an image are for the pipeline of the data.

Source: Cai et al., 2022 (https://arxiv.org/abs/2203.04614); Davidczy/Uni4Eye_pp.
"""

from keras_ssl.recipes._recipe import Optimizer, Recipe

RECIPE = Recipe(
    name="uni4eye_octa",
    method="Uni4Eye",
    source="Cai et al., 2022; Davidczy/Uni4Eye_pp",
    data="octa",
    backbone="vit_large",
    backbone_options={"positions": "sincos", "kernel_initializer": "glorot_uniform"},
    sample_shape={"image": (224, 224, 3), "volume": (112, 224, 224, 1)},
    epochs=200,
    batch_size=64,
    optimizer=Optimizer(
        "adamw",
        learning_rate=1e-3,
        warmup_epochs=40,
        longest_warmup=0.2,
        weight_decay=0.05,
        options={"beta_2": 0.95},
    ),
    model={"masking": 0.75, "decoder_size": (512, 8, 16), "volume_patch": (16, 16, 16)},
)
