# SPDX-License-Identifier: Apache-2.0
"""SwAV on CIFAR, by solo-learn's settings (89.2 % linear on CIFAR-10 there).

| what | value |
|---|---|
| encoder, head | ResNet-18, 3x3 stem, no max-pooling; 2048-128 |
| loss | 3000 prototypes, temperature 0.1, epsilon 0.05 |
| queue | 3840 for each of two crops, from epoch 50 |
| prototypes | stand still for 2 epochs |
| batch, epochs | 256, 1000 |
| optimizer | LARS (eta 0.02, clipped), 0.6 x batch/256 |
| schedule | 10 epochs of warm-up from 3e-5, cosine to 0 |
| weight decay | 1e-6, one-axis parameters in neither decay nor adaptation |

solo-learn writes a prototype as direction and length and trains the direction; here the length is
set back to 1 at every step, as the authors do it.

Source: Caron et al., 2020 (https://arxiv.org/abs/2006.09882); vturrisi/solo-learn, CIFAR.
"""

from keras_ssl.recipes._recipe import Optimizer, Recipe

RECIPE = Recipe(
    name="swav_cifar",
    method="SwAV",
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
        warmup_epochs=10,
        warmup_start=3e-5,
        weight_decay=1e-6,
        options={"trust_coefficient": 0.02, "clip": True, "ratio": "separate"},
    ),
    projector=(2048, 128),
    model={"prototypes": 3000, "queue_size": 3840},
    delays={"queue_start": 50, "freeze_steps": 2},
)
