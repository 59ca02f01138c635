# SPDX-License-Identifier: Apache-2.0
"""SimCLR on ImageNet, as in the paper.

| what | value |
|---|---|
| encoder, head | ResNet-50; 2048-128 |
| temperature | 0.1 |
| batch, epochs | 4096, 1000 |
| optimizer | LARS (eta 1e-3), 0.3 x batch/256 = 4.8, learning rate inside the momentum |
| schedule | 10 epochs of warm-up from 0, cosine to 0 |
| weight decay | 1e-6 (the README's commands say 1e-4), not on batch norm and biases |

For small batches the paper proposes 0.075 sqrt(batch) instead (appendix B.1).

Source: Chen et al., 2020 (https://arxiv.org/abs/2002.05709); google-research/simclr.
"""

from keras_ssl.recipes._recipe import Optimizer, Recipe

RECIPE = Recipe(
    name="simclr_imagenet",
    method="SimCLR",
    source="Chen et al., 2020; google-research/simclr",
    views="simclr",
    data="imagenet",
    backbone="resnet50",
    backbone_options={"stem": "imagenet"},
    image_shape=(224, 224, 3),
    epochs=1000,
    batch_size=4096,
    optimizer=Optimizer(
        "lars",
        learning_rate=0.3,
        warmup_epochs=10,
        weight_decay=1e-6,
        options={"lr_in_momentum": True},
    ),
    projector=(2048, 128),
    model={"temperature": 0.1},
)
