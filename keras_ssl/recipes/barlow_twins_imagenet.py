# SPDX-License-Identifier: Apache-2.0
"""Barlow Twins on ImageNet, as in the paper (73.5 % linear).

| what | value |
|---|---|
| encoder, head | ResNet-50; 8192-8192-8192 |
| loss | lambda 0.0051 |
| batch, epochs | 2048, 1000 |
| optimizer | LARS (eta 1e-3), 0.2 x batch/256; biases and batch norms 0.0048 x batch/256 |
| schedule | 10 epochs of warm-up, cosine to a thousandth |
| weight decay | 1e-6, one-axis parameters in neither decay nor adaptation |

The released code averages gradients over devices once too often, so that the 0.0048 was tuned
for gradients smaller by the number of devices; adapted weights do not notice the factor.

Source: Zbontar et al., 2021 (https://arxiv.org/abs/2103.03230); facebookresearch/barlowtwins.
"""

from keras_ssl.recipes._recipe import Optimizer, Recipe

RECIPE = Recipe(
    name="barlow_twins_imagenet",
    method="BarlowTwins",
    source="Zbontar et al., 2021; facebookresearch/barlowtwins",
    views="barlow_twins",
    data="imagenet",
    backbone="resnet50",
    backbone_options={"stem": "imagenet"},
    image_shape=(224, 224, 3),
    epochs=1000,
    batch_size=2048,
    optimizer=Optimizer(
        "lars",
        learning_rate=0.2,
        warmup_epochs=10,
        end_factor=1e-3,
        weight_decay=1e-6,
        options={"bias_scale": 0.0048 / 0.2},
    ),
    projector=(8192, 8192, 8192),
    model={"lambd": 0.0051},
)
