# SPDX-License-Identifier: Apache-2.0
"""MoCo v3 on ImageNet with ResNet-50, the paper's 1000-epoch setting (74.6 % linear).

| what | value |
|---|---|
| encoder, heads | ResNet-50; projector 4096-256, predictor 4096-256 |
| loss | temperature 1.0 |
| teacher | momentum 0.996 to 1, cosine |
| batch, epochs | 4096, 1000 |
| optimizer | LARS (eta 1e-3), 0.3 x batch/256 |
| schedule | 10 epochs of warm-up, cosine to 0 |
| weight decay | 1.5e-6, one-axis parameters in neither decay nor adaptation |

Shorter runs: 100 epochs 0.6, 1e-6, momentum 0.99 (68.9 %); 300 epochs 0.3, 1e-6 (72.8 %).

Source: Chen et al., 2021 (https://arxiv.org/abs/2104.02057); facebookresearch/moco-v3.
"""

from keras_ssl.recipes._recipe import Optimizer, Recipe

RECIPE = Recipe(
    name="moco_v3_imagenet",
    method="MoCoV3",
    source="Chen et al., 2021; facebookresearch/moco-v3",
    views="byol",
    data="imagenet",
    backbone="resnet50",
    backbone_options={"stem": "imagenet"},
    image_shape=(224, 224, 3),
    epochs=1000,
    batch_size=4096,
    optimizer=Optimizer("lars", learning_rate=0.3, warmup_epochs=10, weight_decay=1.5e-6),
    projector=(4096, 256),
    predictor=(4096, 256),
    teacher_momentum=0.996,
    model={"temperature": 1.0},
)
