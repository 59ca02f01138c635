# SPDX-License-Identifier: Apache-2.0
"""DCLW on ImageNet at a small batch (lightly reports 64.5 % linear for ResNet-50 in 100 epochs).

| what | value |
|---|---|
| encoder, head | ResNet-50; 2048-128 |
| loss | temperature 0.1, sigma 0.5 |
| batch, epochs | 256, 100 |
| optimizer | LARS, 0.3 x batch/256, SimCLR's |
| schedule | 10 epochs of warm-up, cosine to 0 |
| weight decay | 1e-6, not on batch norm and biases |

Optimizer and schedule are SimCLR's, which the method leaves as they are.

Source: Yeh et al., 2021 (https://arxiv.org/abs/2110.06848); batch and epochs of lightly's
benchmark.
"""

from keras_ssl.recipes._recipe import Optimizer, Recipe

RECIPE = Recipe(
    name="dclw_imagenet",
    method="DCLW",
    source="Yeh et al., 2021; lightly benchmark; optimizer of Chen et al., 2020",
    views="simclr",
    data="imagenet",
    backbone="resnet50",
    backbone_options={"stem": "imagenet"},
    image_shape=(224, 224, 3),
    epochs=100,
    batch_size=256,
    optimizer=Optimizer(
        "lars",
        learning_rate=0.3,
        warmup_epochs=10,
        weight_decay=1e-6,
        options={"lr_in_momentum": True},
    ),
    projector=(2048, 128),
    model={"temperature": 0.1, "sigma": 0.5},
)
