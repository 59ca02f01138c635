# SPDX-License-Identifier: Apache-2.0
"""DINO with a ResNet on CIFAR, by solo-learn's settings (89.5 % linear on CIFAR-10 there).

| what | value |
|---|---|
| encoder | ResNet-18, 3x3 stem, no max-pooling |
| head | 2048-2048-256, 4096 prototypes, which stand still for 1 epoch |
| teacher | momentum 0.9995 to 1, cosine; temperature 0.07 |
| batch, epochs | 256, 1000 |
| optimizer | LARS (eta 0.02, clipped), 0.3 x batch/256 |
| schedule | 10 epochs of warm-up from 3e-5, cosine to 0 |
| weight decay | 1e-6, one-axis parameters in neither decay nor adaptation |

Source: Caron et al., 2021 (https://arxiv.org/abs/2104.14294); vturrisi/solo-learn, CIFAR.
"""

from keras_ssl.recipes._recipe import Optimizer, Recipe

RECIPE = Recipe(
    name="dino_resnet_cifar",
    method="DINO",
    source="Caron et al., 2021; vturrisi/solo-learn, CIFAR",
    views="dino",
    data="cifar",
    backbone="resnet18",
    backbone_options={"stem": "small"},
    image_shape=(32, 32, 3),
    epochs=1000,
    batch_size=256,
    optimizer=Optimizer(
        "lars",
        learning_rate=0.3,
        warmup_epochs=10,
        warmup_start=3e-5,
        weight_decay=1e-6,
        options={"trust_coefficient": 0.02, "clip": True, "ratio": "separate"},
    ),
    projector=(2048, 2048, 256),
    teacher_momentum=0.9995,
    model={"prototypes": 4096, "teacher_temperature": 0.07},
    delays={"freeze_steps": 1},
)
