# SPDX-License-Identifier: Apache-2.0
"""Mixed Barlow Twins on CIFAR, the authors' setting (92.6 % linear, 90.5 % kNN on CIFAR-10).

| what | value |
|---|---|
| encoder, head | ResNet-18, 3x3 stem, no max-pooling; 512-1024, projections of unit length |
| loss | lambda 1/128, mixed term times 4, unbiased variances |
| views | two equal ones, as in MoCo's CIFAR demo |
| batch, epochs | 256, 2000 |
| optimizer | AdamW, 0.01 x batch/256 |
| schedule | 10 epochs of warm-up, cosine to a thousandth |
| weight decay | 1e-6 (decoupled here, added to the gradient there) |

The authors' script for CIFAR-100 has a head of 2048, their table of 1024; STL-10 takes 2 in place
of 4.

Source: Bandara et al., 2023 (https://arxiv.org/abs/2312.02151); wgcban/mix-bt.
"""

from keras_ssl.recipes._recipe import Optimizer, Recipe

RECIPE = Recipe(
    name="mixed_barlow_twins_cifar",
    method="MixedBarlowTwins",
    source="Bandara et al., 2023; wgcban/mix-bt",
    views="mixed_barlow_twins",
    data="cifar",
    backbone="resnet18",
    backbone_options={"stem": "small"},
    image_shape=(32, 32, 3),
    epochs=2000,
    batch_size=256,
    optimizer=Optimizer(
        "adamw", learning_rate=0.01, warmup_epochs=10, end_factor=1e-3, weight_decay=1e-6
    ),
    projector=(512, 1024),
    model={"lambd": 1 / 128, "mix_scale": 4.0},
)
