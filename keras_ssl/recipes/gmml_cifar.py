# SPDX-License-Identifier: Apache-2.0
"""GMML with a small vision transformer on CIFAR.

| what | value |
|---|---|
| encoder | ViT-Tiny, patch 4; the mean of blocks 6, 8, 10 and 12 is decoded |
| corruption | noise on up to 75 % of the pixels, or another image on 30 % |
| decoder | three hidden layers |
| target | clean pixels, absolute error |
| views | two crops of 5 to 100 % of the area, flip, weak colours |
| batch, epochs | 256, 800 |
| optimizer | AdamW, 5e-4 x batch/256, each gradient clipped to a norm of 3 |
| schedule | 10 epochs of warm-up, cosine to 1e-6 |
| weight decay | 0.04 to 0.4, cosine; not on biases and norms |

No published command trains this network on CIFAR. Masks, target and schedule are those of the
authors on ImageNet; images this small are not
blurred.

Source: Atito et al., 2022 (https://arxiv.org/abs/2205.14986); Sara-Ahmed/GMML.
"""

from keras_ssl.recipes._recipe import Optimizer, Recipe

RECIPE = Recipe(
    name="gmml_cifar",
    method="GMML",
    source="Atito et al., 2022; Sara-Ahmed/GMML",
    views="gmml",
    data="cifar",
    backbone="vit_tiny",
    backbone_options={"patch": 4},
    image_shape=(32, 32, 3),
    epochs=800,
    batch_size=256,
    optimizer=Optimizer(
        "adamw",
        learning_rate=5e-4,
        warmup_epochs=10,
        end_factor=2e-3,
        weight_decay=0.04,
        weight_decay_end=0.4,
        options={"clipnorm": 3.0},
    ),
    model={},
)
