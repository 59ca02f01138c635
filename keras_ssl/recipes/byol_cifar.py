# SPDX-License-Identifier: Apache-2.0
"""BYOL on CIFAR, by solo-learn's settings (92.6 % linear on CIFAR-10 there).

| what | value |
|---|---|
| encoder | ResNet-18, 3x3 stem, no max-pooling |
| heads | projector 4096-256, predictor 4096-256 |
| teacher | momentum 0.99 to 1, cosine |
| batch, epochs | 256, 1000 |
| optimizer | LARS (eta 0.02, clipped), 1.0 x batch/256 |
| schedule | 10 epochs of warm-up from 3e-5, cosine to 0 |
| weight decay | 1e-5, one-axis parameters in neither decay nor adaptation |

Source: Grill et al., 2020 (https://arxiv.org/abs/2006.07733); vturrisi/solo-learn, CIFAR.
"""

from keras_ssl.recipes._recipe import Optimizer, Recipe

RECIPE = Recipe(
    name="byol_cifar",
    method="BYOL",
    source="Grill et al., 2020; vturrisi/solo-learn, CIFAR",
    views="byol",
    data="cifar",
    backbone="resnet18",
    backbone_options={"stem": "small"},
    image_shape=(32, 32, 3),
    epochs=1000,
    batch_size=256,
    optimizer=Optimizer(
        "lars",
        learning_rate=1.0,
        warmup_epochs=10,
        warmup_start=3e-5,
        weight_decay=1e-5,
        # LARS as solo-learn has it: eta 0.02, LARC clipping, norms added up in the ratio.
        options={"trust_coefficient": 0.02, "clip": True, "ratio": "separate"},
    ),
    projector=(4096, 256),
    predictor=(4096, 256),
    teacher_momentum=0.99,
)
