# SPDX-License-Identifier: Apache-2.0
"""SupCon on ImageNet in the setting of SimCLR, at the paper's temperature.

| what | value |
|---|---|
| encoder, head | ResNet-50; 2048-128 without batch norm |
| loss | temperature 0.1, base temperature 0.07 |
| batch, epochs | 4096, 700 |
| optimizer | LARS (eta 1e-3), 0.3 x batch/256, SimCLR's |
| schedule | 10 epochs of warm-up, cosine to 0 |
| weight decay | 1e-6, not on batch norm and biases |

The released code has no ImageNet command: optimizer, schedule and batch are SimCLR's.

Source: Khosla et al., 2020 (https://arxiv.org/abs/2004.11362); optimizer of Chen et al., 2020.
"""

from keras_ssl.recipes._recipe import Optimizer, Recipe

RECIPE = Recipe(
    name="sup_con_imagenet",
    method="SupCon",
    source="Khosla et al., 2020; optimizer of Chen et al., 2020",
    views="simclr",
    data="imagenet",
    backbone="resnet50",
    backbone_options={"stem": "imagenet"},
    image_shape=(224, 224, 3),
    epochs=700,
    batch_size=4096,
    optimizer=Optimizer(
        "lars",
        learning_rate=0.3,
        warmup_epochs=10,
        weight_decay=1e-6,
        options={"lr_in_momentum": True},
    ),
    projector=(2048, 128),
    model={"temperature": 0.1, "base_temperature": 0.07},
)
