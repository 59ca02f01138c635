# SPDX-License-Identifier: Apache-2.0
"""MoCo v2 on ImageNet, the released setting (67.5 % linear).

| what | value |
|---|---|
| encoder, head | ResNet-50; 2048-128 without batch norm |
| loss | temperature 0.2, queue of 65536, one direction |
| key encoder | momentum 0.999 |
| batch, epochs | 256, 200 |
| optimizer | SGD (momentum 0.9), 0.03 x batch/256 |
| schedule | no warm-up, cosine to 0 |
| weight decay | 1e-4 on all |

Source: Chen et al., 2020 (https://arxiv.org/abs/2003.04297); facebookresearch/moco, README.
"""

from keras_ssl.recipes._recipe import Optimizer, Recipe

RECIPE = Recipe(
    name="moco_v2_imagenet",
    method="MoCoV2",
    source="Chen et al., 2020; facebookresearch/moco, README",
    views="moco_v2",
    data="imagenet",
    backbone="resnet50",
    backbone_options={"stem": "imagenet"},
    image_shape=(224, 224, 3),
    epochs=200,
    batch_size=256,
    optimizer=Optimizer("sgd", learning_rate=0.03, weight_decay=1e-4),
    projector=(2048, 128),
    model={"queue_size": 65536, "temperature": 0.2, "momentum": 0.999},
)
