# SPDX-License-Identifier: Apache-2.0
"""SiT with ViT-S on ImageNet.

| what | value |
|---|---|
| encoder | ViT-S, patch 16, dropped paths 0.1 |
| corruption | zeros on half of the pixels, or another image on 30 % |
| heads | projector 4096-4096-256, temperature 0.2; three hidden layers to pixels |
| loss | contrast + 1 x absolute error of overwritten pixels |
| teacher | momentum 0.996 to 1, cosine |
| views | two crops of 20 to 100 % of the area, flip, colours, blur, solarisation |
| batch, epochs | 256 (64 on each of four devices), 800 |
| optimizer | AdamW, 5e-4 x batch/256, each gradient clipped to a norm of 3 |
| schedule | 10 epochs of warm-up, cosine to 1e-6 |
| weight decay | 0.04 to 0.1, cosine; not on biases and norms |

Source: Atito et al., 2021 (https://arxiv.org/abs/2104.03602); Sara-Ahmed/SiT.
"""

from keras_ssl.recipes._recipe import Optimizer, Recipe

RECIPE = Recipe(
    name="sit_imagenet",
    method="SiT",
    source="Atito et al., 2021; Sara-Ahmed/SiT",
    views="sit",
    data="imagenet",
    backbone="vit_small",
    backbone_options={"patch": 16, "drop_path": 0.1},
    image_shape=(224, 224, 3),
    epochs=800,
    batch_size=256,
    optimizer=Optimizer(
        "adamw",
        learning_rate=5e-4,
        warmup_epochs=10,
        end_factor=2e-3,
        weight_decay=0.04,
        weight_decay_end=0.1,
        options={"clipnorm": 3.0},
    ),
    projector=(4096, 4096, 256),
    teacher_momentum=0.996,
    model={"temperature": 0.2, "reconstruction_weight": 1.0},
)
