# SPDX-License-Identifier: Apache-2.0
"""SupCon on CIFAR, the authors' command (96.0 % linear on CIFAR-10).

| what | value |
|---|---|
| encoder, head | ResNet-50, 3x3 stem, no max-pooling; 2048-128 without batch norm |
| loss | temperature 0.1, base temperature 0.07 |
| batch, epochs | 1024, 1000 |
| optimizer | SGD (momentum 0.9), 0.5 at batch 1024 |
| schedule | 10 epochs of warm-up from 0.01, cosine to a thousandth |
| weight decay | 1e-4 on all |

Source: Khosla et al., 2020 (https://arxiv.org/abs/2004.11362); HobbitLong/SupContrast.
"""

from keras_ssl.recipes._recipe import Optimizer, Recipe

RECIPE = Recipe(
    name="sup_con_cifar",
    method="SupCon",
    source="Khosla et al., 2020; HobbitLong/SupContrast",
    views="moco_v2",
    data="cifar",
    backbone="resnet50",
    backbone_options={"stem": "small"},
    image_shape=(32, 32, 3),
    epochs=1000,
    batch_size=1024,
    optimizer=Optimizer(
        "sgd",
        learning_rate=0.5,
        reference=1024,
        warmup_epochs=10,
        warmup_start=0.01,
        end_factor=1e-3,
        weight_decay=1e-4,
    ),
    projector=(2048, 128),
    model={"temperature": 0.1, "base_temperature": 0.07},
)
