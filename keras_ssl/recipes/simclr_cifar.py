# SPDX-License-Identifier: Apache-2.0
"""SimCLR on CIFAR, as in the paper's appendix B.9 and the README of its code.

| what | value |
|---|---|
| encoder | ResNet-18, 3x3 stem, no max-pooling |
| head | 2 layers of the encoder's width and 128, as in the paper |
| temperature | 0.5 |
| batch, epochs | 512, 1000 |
| optimizer | LARS, 1.0 x batch/256, learning rate inside the momentum |
| schedule | 10 epochs of warm-up from 0, cosine to 0 |
| weight decay | 1e-4, not on batch norm and biases |

Source: Chen et al., 2020 (https://arxiv.org/abs/2002.05709); google-research/simclr, README.
"""

from keras_ssl.recipes._recipe import Optimizer, Recipe

RECIPE = Recipe(
    name="simclr_cifar",
    method="SimCLR",
    source="Chen et al., 2020, appendix B.9; google-research/simclr README",
    views="simclr",
    data="cifar",
    backbone="resnet18",
    backbone_options={"stem": "small"},
    image_shape=(32, 32, 3),
    epochs=1000,
    batch_size=512,
    optimizer=Optimizer(
        "lars",
        learning_rate=1.0,
        warmup_epochs=10,
        weight_decay=1e-4,
        options={"lr_in_momentum": True},
    ),
    projector=(512, 128),
    model={"temperature": 0.5},
)
