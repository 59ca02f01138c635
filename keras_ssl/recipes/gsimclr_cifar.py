# SPDX-License-Identifier: Apache-2.0
"""G-SimCLR on CIFAR, the released notebook (40.5 % linear after 15 epochs).

| what | value |
|---|---|
| encoder, head | ResNet-20 (stages of three blocks, width 16); 256-128-50, no batch norm |
| loss | temperature 0.1; 64 clusters of a denoising autoencoder's codes |
| batch, epochs | 64, 15 |
| optimizer | SGD without momentum, 0.1, not scaled |
| schedule | cosine with restarts, the first after 1,000 steps |
| weight decay | none |

The notebook's views turn no image grey, by a mistake; SimCLR's are taken.

Source: Chakraborty et al., 2020 (https://arxiv.org/abs/2009.12007); ariG23498/G-SimCLR.
"""

from keras_ssl.recipes._recipe import Optimizer, Recipe

RECIPE = Recipe(
    name="gsimclr_cifar",
    method="GSimCLR",
    source="Chakraborty et al., 2020; ariG23498/G-SimCLR",
    views="simclr",
    data="cifar",
    backbone="resnet18",
    backbone_options={"stem": "small", "width": 16, "blocks": (3, 3, 3)},
    image_shape=(32, 32, 3),
    epochs=15,
    batch_size=64,
    optimizer=Optimizer(
        "sgd", learning_rate=0.1, reference=None, restart_steps=1000, options={"momentum": 0.0}
    ),
    projector=(256, 128, 50),
    model={"temperature": 0.1},
)
