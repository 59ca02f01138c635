# SPDX-License-Identifier: Apache-2.0
"""SimSiam on CIFAR, by solo-learn's settings (90.5 % linear on CIFAR-10 there).

| what | value |
|---|---|
| encoder | ResNet-18, 3x3 stem, no max-pooling |
| heads | projector 2048-2048-2048, predictor 512-2048 |
| batch, epochs | 256, 1000 |
| optimizer | SGD (momentum 0.9), 0.5 x batch/256, the predictor's constant |
| schedule | 10 epochs of warm-up from 3e-5, cosine to 0 |
| weight decay | 1e-5 on all |

The views are the paper's for CIFAR, without blur (appendix D); solo-learn blurs half of them.

Source: Chen & He, 2021 (https://arxiv.org/abs/2011.10566); vturrisi/solo-learn, CIFAR.
"""

from keras_ssl.recipes._recipe import Optimizer, Recipe

RECIPE = Recipe(
    name="simsiam_cifar",
    method="SimSiam",
    source="Chen & He, 2021; vturrisi/solo-learn, CIFAR",
    views="simsiam",
    data="cifar",
    backbone="resnet18",
    backbone_options={"stem": "small"},
    image_shape=(32, 32, 3),
    epochs=1000,
    batch_size=256,
    optimizer=Optimizer(
        "sgd",
        learning_rate=0.5,
        warmup_epochs=10,
        warmup_start=3e-5,
        weight_decay=1e-5,
        constant="predictor",
    ),
    projector=(2048, 2048, 2048),
    predictor=(512, 2048),
)
