# SPDX-License-Identifier: Apache-2.0
"""NNCLR on CIFAR, by solo-learn's settings (91.9 % linear on CIFAR-10 there).

| what | value |
|---|---|
| encoder, heads | ResNet-18, 3x3 stem, no max-pooling; 2048-2048-256, predictor 4096-256 |
| loss | temperature 0.2, support set of 65536 |
| batch, epochs | 256, 1000 |
| optimizer | LARS (eta 0.02, clipped), 0.4 x batch/256 |
| schedule | 10 epochs of warm-up from 3e-5, cosine to 0 |
| weight decay | 1e-5, one-axis parameters in neither decay nor adaptation |

Source: Dwibedi et al., 2021 (https://arxiv.org/abs/2104.14548); vturrisi/solo-learn, CIFAR.
"""

from keras_ssl.recipes._recipe import Optimizer, Recipe

RECIPE = Recipe(
    name="nnclr_cifar",
    method="NNCLR",
    source="Dwibedi et al., 2021; vturrisi/solo-learn, CIFAR",
    views="byol",
    data="cifar",
    backbone="resnet18",
    backbone_options={"stem": "small"},
    image_shape=(32, 32, 3),
    epochs=1000,
    batch_size=256,
    optimizer=Optimizer(
        "lars",
        learning_rate=0.4,
        warmup_epochs=10,
        warmup_start=3e-5,
        weight_decay=1e-5,
        options={"trust_coefficient": 0.02, "clip": True, "ratio": "separate"},
    ),
    projector=(2048, 2048, 256),
    predictor=(4096, 256),
    model={"temperature": 0.2, "queue_size": 65536},
)
