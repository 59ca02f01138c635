# SPDX-License-Identifier: Apache-2.0
"""CACR on CIFAR, the authors' small-scale setting.

| what | value |
|---|---|
| encoder, head | ResNet-18, 3x3 stem, no max-pooling; 512-128 (the authors: an AlexNet) |
| loss | alpha and beta 1, temperatures 1.0 and 0.9 |
| views | five equal ones |
| batch, epochs | 128, 200 |
| optimizer | SGD (momentum 0.9), 0.12 x batch/256 |
| schedule | a tenth after 155, 170 and 185 epochs |
| weight decay | 1e-4 on all |

Source: Zheng et al., 2023 (https://arxiv.org/abs/2105.03746); JegZheng/CACR-SSL.
"""

from keras_ssl.recipes._recipe import Optimizer, Recipe

RECIPE = Recipe(
    name="cacr_cifar",
    method="CACR",
    source="Zheng et al., 2023; JegZheng/CACR-SSL",
    views="cacr",
    data="cifar",
    backbone="resnet18",
    backbone_options={"stem": "small"},
    image_shape=(32, 32, 3),
    epochs=200,
    batch_size=128,
    optimizer=Optimizer("sgd", learning_rate=0.12, weight_decay=1e-4, drops=(0.775, 0.85, 0.925)),
    projector=(512, 128),
    model={"positive_temperature": 1.0, "negative_temperature": 0.9},
)
