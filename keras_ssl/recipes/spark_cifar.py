# SPDX-License-Identifier: Apache-2.0
"""SparK with ResNet-18 on CIFAR.

| what | value |
|---|---|
| encoder | ResNet-18, 3x3 stem, no max-pooling |
| masks | 60 % of cells of 8 x 8 pixels |
| decoder | 256 channels at the smallest map, three maps |
| target | normalised pixels, squared error |
| views | crop of 67 to 100 % of the area, flip |
| batch, epochs | 256, 800 |
| optimizer | AdamW (beta 0.9, 0.95), 1.5e-3, gradients clipped to a norm of 5 |
| schedule | 40 epochs of warm-up, cosine to 0.1 % of the rate |
| weight decay | 0.04 to 0.2, cosine; not on biases, norms and mask tokens |

No published command trains this network on CIFAR. Masks, target, schedule and decay are those of
the authors on ImageNet; cells, decoder, AdamW in place of LAMB and its rate are chosen for small
images and the small batch.

Source: Tian et al., 2023 (https://arxiv.org/abs/2301.03580); keyu-tian/SparK.
"""

from keras_ssl.recipes._recipe import Optimizer, Recipe

RECIPE = Recipe(
    name="spark_cifar",
    method="SparK",
    source="Tian et al., 2023; keyu-tian/SparK",
    views="spark",
    data="cifar",
    backbone="resnet18",
    backbone_options={"stem": "small"},
    image_shape=(32, 32, 3),
    epochs=800,
    batch_size=256,
    optimizer=Optimizer(
        "adamw",
        learning_rate=1.5e-3,
        warmup_epochs=40,
        end_factor=1e-3,
        weight_decay=0.04,
        weight_decay_end=0.2,
        options={"beta_2": 0.95, "global_clipnorm": 5.0},
    ),
    model={"decoder": 256},
)
