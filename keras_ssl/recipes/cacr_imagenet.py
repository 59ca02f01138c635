# SPDX-License-Identifier: Apache-2.0
"""CACR on ImageNet, with the optimizer of MoCo v3, on which the authors built.

| what | value |
|---|---|
| encoder, head | ResNet-50; 4096-256 |
| loss | alpha and beta 1, temperatures 1.0 and 2.0 |
| batch, epochs | 4096, 1000 |
| optimizer | LARS (eta 1e-3), 0.3 x batch/256 |
| schedule | 10 epochs of warm-up, cosine to 0 |
| weight decay | 1.5e-6, one-axis parameters in neither decay nor adaptation |

The authors' run (74.7 % linear) had a momentum encoder besides and `losses.cacr_momentum`.

Source: Zheng et al., 2023 (https://arxiv.org/abs/2105.03746); optimizer of Chen et al., 2021.
"""

from keras_ssl.recipes._recipe import Optimizer, Recipe

RECIPE = Recipe(
    name="cacr_imagenet",
    method="CACR",
    source="Zheng et al., 2023; optimizer of Chen et al., 2021",
    views="cacr",
    data="imagenet",
    backbone="resnet50",
    backbone_options={"stem": "imagenet"},
    image_shape=(224, 224, 3),
    epochs=1000,
    batch_size=4096,
    optimizer=Optimizer("lars", learning_rate=0.3, warmup_epochs=10, weight_decay=1.5e-6),
    projector=(4096, 256),
    model={"positive_temperature": 1.0, "negative_temperature": 2.0},
)
