# SPDX-License-Identifier: Apache-2.0
"""Mixed Barlow Twins on ImageNet, the authors' setting (72.2 % linear).

| what | value |
|---|---|
| encoder, head | ResNet-50; 8192-8192-8192 |
| loss | lambda 0.0051, mixed term rising from 0 to 1 over 10 epochs, unbiased variances |
| batch, epochs | 1024, 300 |
| optimizer | LARS (eta 1e-3), 0.2 x batch/256; biases and batch norms 0.0048 x batch/256 |
| schedule | 10 epochs of warm-up, cosine to a thousandth |
| weight decay | 1e-6, one-axis parameters in neither decay nor adaptation |

The authors standardise and permute on each of eight devices, here it is the whole batch. They
average gradients over devices once too often, as the code of Barlow Twins does.

Source: Bandara et al., 2023 (https://arxiv.org/abs/2312.02151); wgcban/mix-bt, main_imagenet.
"""

from keras_ssl.recipes._recipe import Optimizer, Recipe

RECIPE = Recipe(
    name="mixed_barlow_twins_imagenet",
    method="MixedBarlowTwins",
    source="Bandara et al., 2023; wgcban/mix-bt, main_imagenet",
    views="mixed_barlow_twins",
    data="imagenet",
    backbone="resnet50",
    backbone_options={"stem": "imagenet"},
    image_shape=(224, 224, 3),
    epochs=300,
    batch_size=1024,
    optimizer=Optimizer(
        "lars",
        learning_rate=0.2,
        warmup_epochs=10,
        end_factor=1e-3,
        weight_decay=1e-6,
        options={"bias_scale": 0.0048 / 0.2},
    ),
    projector=(8192, 8192, 8192),
    model={"lambd": 0.0051, "mix_scale": 1.0, "form": "imagenet", "normalize": False},
    ramps={"mix_scale": 10},
)
