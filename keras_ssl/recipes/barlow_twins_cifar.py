# SPDX-License-Identifier: Apache-2.0
"""Barlow Twins on CIFAR, by solo-learn's settings (92.1 % linear on CIFAR-10 there).

| what | value |
|---|---|
| encoder, head | ResNet-18, 3x3 stem, no max-pooling; 2048-2048-2048 |
| loss | lambda 0.005, times 0.1 |
| batch, epochs | 256, 1000 |
| optimizer | LARS (eta 0.02, clipped), 0.3 x batch/256 |
| schedule | 10 epochs of warm-up from 3e-5, cosine to 0 |
| weight decay | 1e-4, one-axis parameters in neither decay nor adaptation |

Source: Zbontar et al., 2021 (https://arxiv.org/abs/2103.03230); vturrisi/solo-learn, CIFAR.
"""

from keras_ssl.recipes._recipe import Optimizer, Recipe

RECIPE = Recipe(
    name="barlow_twins_cifar",
    method="BarlowTwins",
    source="Zbontar et al., 2021; vturrisi/solo-learn, CIFAR",
    views="barlow_twins",
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
        weight_decay=1e-4,
        # LARS as solo-learn has it: eta 0.02, LARC clipping, norms added up in the ratio.
        options={"trust_coefficient": 0.02, "clip": True, "ratio": "separate"},
    ),
    projector=(2048, 2048, 2048),
    model={"lambd": 0.005, "scale": 0.1},
)
