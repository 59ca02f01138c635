# SPDX-License-Identifier: Apache-2.0
"""VICReg on ImageNet, as in the paper (73.2 % linear).

| what | value |
|---|---|
| encoder, head | ResNet-50; 8192-8192-8192 |
| loss | 25, 25, 1 |
| batch, epochs | 2048, 1000 |
| optimizer | LARS (eta 1e-3), 0.2 x batch/256 |
| schedule | 10 epochs of warm-up, cosine to a thousandth |
| weight decay | 1e-6, one-axis parameters in neither decay nor adaptation |

Source: Bardes et al., 2022 (https://arxiv.org/abs/2105.04906); facebookresearch/vicreg.
"""

from keras_ssl.recipes._recipe import Optimizer, Recipe

RECIPE = Recipe(
    name="vicreg_imagenet",
    method="VICReg",
    source="Bardes et al., 2022; facebookresearch/vicreg",
    views="vicreg",
    data="imagenet",
    backbone="resnet50",
    backbone_options={"stem": "imagenet"},
    image_shape=(224, 224, 3),
    epochs=1000,
    batch_size=2048,
    optimizer=Optimizer(
        "lars", learning_rate=0.2, warmup_epochs=10, end_factor=1e-3, weight_decay=1e-6
    ),
    projector=(8192, 8192, 8192),
    model={"invariance": 25.0, "variance": 25.0, "covariance": 1.0},
)
