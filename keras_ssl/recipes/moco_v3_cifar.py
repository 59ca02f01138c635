# SPDX-License-Identifier: Apache-2.0
"""MoCo v3 on CIFAR, by solo-learn's settings (93.1 % linear on CIFAR-10 there).

| what | value |
|---|---|
| encoder, heads | ResNet-18, 3x3 stem, no max-pooling; projector 4096-256, predictor 4096-256 |
| loss | temperature 0.2 |
| teacher | momentum 0.99 to 1, cosine |
| batch, epochs | 256, 1000 |
| optimizer | LARS (eta 0.02, clipped), 0.3 x batch/256 |
| schedule | 10 epochs of warm-up from 3e-5, cosine to 0 |
| weight decay | 1e-6, one-axis parameters in neither decay nor adaptation |

Source: Chen et al., 2021 (https://arxiv.org/abs/2104.02057); vturrisi/solo-learn, CIFAR.
"""

from keras_ssl.recipes._recipe import Optimizer, Recipe

RECIPE = Recipe(
    name="moco_v3_cifar",
    method="MoCoV3",
    source="Chen et al., 2021; vturrisi/solo-learn, CIFAR",
    views="byol",
    data="cifar",
    backbone="resnet18",
    backbone_options={"stem": "small"},
    image_shape=(32, 32, 3),
    epochs=1000,
    batch_size=256,
    optimizer=Optimizer(
        "lars",
        learning_rate=0.3,
        warmup_epochs=10,
        warmup_start=3e-5,
        weight_decay=1e-6,
        options={"trust_coefficient": 0.02, "clip": True, "ratio": "separate"},
    ),
    projector=(4096, 256),
    predictor=(4096, 256),
    teacher_momentum=0.99,
    model={"temperature": 0.2},
)
