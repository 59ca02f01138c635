# SPDX-License-Identifier: Apache-2.0
"""SparK with ResNet-50 on ImageNet, the released setting (80.6 % fine-tuned).

| what | value |
|---|---|
| encoder | ResNet-50 |
| masks | 60 % of cells of 32 x 32 pixels |
| decoder | 768 channels at the smallest map, four maps |
| target | normalised pixels, squared error |
| views | crop of 67 to 100 % of the area, flip |
| batch, epochs | 4096, 1600 |
| optimizer | LAMB (beta 0.9, 0.95), 2e-4 x batch/256, gradients clipped to a norm of 5 |
| schedule | 40 epochs of warm-up from 0.5 %, cosine to 0.1 % of the rate |
| weight decay | 0.04 to 0.2, cosine; not on biases, norms and mask tokens |

Networks with layer normalization take 0.999 in place of 0.95.

Source: Tian et al., 2023 (https://arxiv.org/abs/2301.03580); keyu-tian/SparK.
"""

from keras_ssl.recipes._recipe import Optimizer, Recipe

RECIPE = Recipe(
    name="spark_imagenet",
    method="SparK",
    source="Tian et al., 2023; keyu-tian/SparK",
    views="spark",
    data="imagenet",
    backbone="resnet50",
    backbone_options={"stem": "imagenet"},
    image_shape=(224, 224, 3),
    epochs=1600,
    batch_size=4096,
    optimizer=Optimizer(
        "lamb",
        learning_rate=2e-4,
        warmup_epochs=40,
        warmup_start=1.6e-5,
        end_factor=1e-3,
        weight_decay=0.04,
        weight_decay_end=0.2,
        options={"beta_2": 0.95, "global_clipnorm": 5.0},
    ),
    model={"decoder": 768},
)
