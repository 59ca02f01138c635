# SPDX-License-Identifier: Apache-2.0
"""DeepCluster-v2 on CIFAR, by solo-learn's settings (88.9 % linear on CIFAR-10 there).

| what | value |
|---|---|
| encoder, head | ResNet-18, 3x3 stem, no max-pooling; 2048-128 |
| loss | 3 heads of 3000 prototypes, temperature 0.1 |
| clusters | 10 rounds of spherical k-means once per epoch |
| batch, epochs | 256, 1000 |
| optimizer | LARS (eta 0.02, clipped), 0.6 x batch/256 |
| schedule | 11 epochs of warm-up from 0, cosine to 6e-4 |
| weight decay | 1e-6, one-axis parameters in neither decay nor adaptation |

As in solo-learn the first epoch fills the memory and has no loss; `fill_memory` before `fit` does
what the authors do.

Source: Caron et al., 2020 (https://arxiv.org/abs/2006.09882); vturrisi/solo-learn, CIFAR.
"""

from keras_ssl.recipes._recipe import Optimizer, Recipe

RECIPE = Recipe(
    name="deepcluster_v2_cifar",
    method="DeepClusterV2",
    source="Caron et al., 2020; vturrisi/solo-learn, CIFAR",
    views="swav",
    data="cifar",
    backbone="resnet18",
    backbone_options={"stem": "small"},
    image_shape=(32, 32, 3),
    epochs=1000,
    batch_size=256,
    optimizer=Optimizer(
        "lars",
        learning_rate=0.6,
        warmup_epochs=11,
        end_factor=1e-3,
        weight_decay=1e-6,
        options={"trust_coefficient": 0.02, "clip": True, "ratio": "separate"},
    ),
    projector=(2048, 128),
    model={"samples": 50_000, "prototypes": (3000, 3000, 3000)},
)
