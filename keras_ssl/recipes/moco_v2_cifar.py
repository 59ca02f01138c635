# SPDX-License-Identifier: Apache-2.0
"""MoCo v2 on CIFAR, by solo-learn's settings of "MoCo v2+" (92.9 % linear on CIFAR-10 there).

| what | value |
|---|---|
| encoder, head | ResNet-18, 3x3 stem, no max-pooling; 2048-256 without batch norm |
| loss | temperature 0.2, queue of 32768, both directions |
| key encoder | momentum 0.99 to 0.999, cosine |
| batch, epochs | 256, 1000 |
| optimizer | SGD (momentum 0.9), 0.3 x batch/256 |
| schedule | 10 epochs of warm-up from 3e-5, cosine to 0 |
| weight decay | 1e-4 on all |

One queue holds the keys of both views; solo-learn keeps one a view.

Source: Chen et al., 2020 (https://arxiv.org/abs/2003.04297); vturrisi/solo-learn, CIFAR.
"""

from keras_ssl.recipes._recipe import Optimizer, Recipe

RECIPE = Recipe(
    name="moco_v2_cifar",
    method="MoCoV2",
    source="Chen et al., 2020; vturrisi/solo-learn, CIFAR",
    views="moco_v2",
    data="cifar",
    backbone="resnet18",
    backbone_options={"stem": "small"},
    image_shape=(32, 32, 3),
    epochs=1000,
    batch_size=256,
    optimizer=Optimizer(
        "sgd", learning_rate=0.3, warmup_epochs=10, warmup_start=3e-5, weight_decay=1e-4
    ),
    projector=(2048, 256),
    teacher_momentum=0.99,
    teacher_momentum_end=0.999,
    model={"queue_size": 32768, "temperature": 0.2, "symmetric": True},
)
