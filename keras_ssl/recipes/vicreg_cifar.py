# SPDX-License-Identifier: Apache-2.0
"""VICReg on CIFAR, by solo-learn's settings (92.1 % linear on CIFAR-10 there).

| what | value |
|---|---|
| encoder, head | ResNet-18, 3x3 stem, no max-pooling; 2048-2048-2048 |
| loss | 25, 25, 1, the variances of both views added up rather than averaged |
| batch, epochs | 256, 1000 |
| optimizer | LARS (eta 0.02, clipped), 0.3 x batch/256 |
| schedule | 10 epochs of warm-up from 3e-5, cosine to 0 |
| weight decay | 1e-4, one-axis parameters in neither decay nor adaptation |

Source: Bardes et al., 2022 (https://arxiv.org/abs/2105.04906); vturrisi/solo-learn, CIFAR.
"""

from keras_ssl.recipes._recipe import Optimizer, Recipe

RECIPE = Recipe(
    name="vicreg_cifar",
    method="VICReg",
    source="Bardes et al., 2022; vturrisi/solo-learn, CIFAR",
    views="vicreg",
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
    model={"invariance": 25.0, "variance": 25.0, "covariance": 1.0, "variance_scale": 2.0},
)
