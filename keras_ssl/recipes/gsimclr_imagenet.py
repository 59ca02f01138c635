# SPDX-License-Identifier: Apache-2.0
"""G-SimCLR on ImageNet: the notebook's clusters and head in the setting of SimCLR.

| what | value |
|---|---|
| encoder, head | ResNet-50; 256-128-50 without batch norm |
| loss | temperature 0.1; as many clusters as images in a batch |
| batch, epochs | 256, 100 |
| optimizer | LARS (eta 1e-3), 0.3 x batch/256, SimCLR's |
| schedule | 10 epochs of warm-up, cosine to 0 |
| weight decay | 1e-6, not on batch norm and biases |

The authors trained on five classes of ImageNet only (60.0 % linear): optimizer, schedule and batch
are SimCLR's.

Source: Chakraborty et al., 2020 (https://arxiv.org/abs/2009.12007); optimizer of Chen et al., 2020.
"""

from keras_ssl.recipes._recipe import Optimizer, Recipe

RECIPE = Recipe(
    name="gsimclr_imagenet",
    method="GSimCLR",
    source="Chakraborty et al., 2020; optimizer of Chen et al., 2020",
    views="simclr",
    data="imagenet",
    backbone="resnet50",
    backbone_options={"stem": "imagenet"},
    image_shape=(224, 224, 3),
    epochs=100,
    batch_size=256,
    optimizer=Optimizer(
        "lars",
        learning_rate=0.3,
        warmup_epochs=10,
        weight_decay=1e-6,
        options={"lr_in_momentum": True},
    ),
    projector=(256, 128, 50),
    model={"temperature": 0.1},
)
