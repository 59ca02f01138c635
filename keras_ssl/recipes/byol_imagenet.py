# SPDX-License-Identifier: Apache-2.0
"""BYOL on ImageNet, the paper's 1000-epoch setting (74.3 % linear).

| what | value |
|---|---|
| encoder, heads | ResNet-50; projector 4096-256, predictor 4096-256 |
| teacher | momentum 0.996 to 1, cosine |
| batch, epochs | 4096, 1000 |
| optimizer | LARS (eta 1e-3), 0.2 x batch/256 |
| schedule | 10 epochs of warm-up, cosine to 0 |
| weight decay | 1.5e-6, not on batch norm and biases |

Shorter runs: 100 epochs 0.45, 1e-6, momentum 0.99; 300 epochs 0.3, 1e-6, momentum 0.99.

Source: Grill et al., 2020 (https://arxiv.org/abs/2006.07733); google-deepmind, byol/configs.
"""

from keras_ssl.recipes._recipe import Optimizer, Recipe

RECIPE = Recipe(
    name="byol_imagenet",
    method="BYOL",
    source="Grill et al., 2020; google-deepmind/deepmind-research, byol",
    views="byol",
    data="imagenet",
    backbone="resnet50",
    backbone_options={"stem": "imagenet"},
    image_shape=(224, 224, 3),
    epochs=1000,
    batch_size=4096,
    optimizer=Optimizer("lars", learning_rate=0.2, warmup_epochs=10, weight_decay=1.5e-6),
    projector=(4096, 256),
    predictor=(4096, 256),
    teacher_momentum=0.996,
)
