# SPDX-License-Identifier: Apache-2.0
"""SwAV on ImageNet, the authors' 800-epoch setting (75.3 % linear).

| what | value |
|---|---|
| encoder, head | ResNet-50; 2048-128 |
| views | 2 crops of 224 pixels and 6 of 96 |
| loss | 3000 prototypes, temperature 0.1, epsilon 0.05, no queue |
| prototypes | stand still for 1 epoch (313 steps) |
| batch, epochs | 4096, 800 |
| optimizer | SGD with LARC (eta 1e-3, not clipped), 4.8 at batch 4096 |
| schedule | 10 epochs of warm-up from 0.3, cosine to a thousandth |
| weight decay | 1e-6 on all; LARC leaves no parameter out |

At batch 256 the authors take 0.6 without warm-up and a queue of 3840 from epoch 15 on.

Source: Caron et al., 2020 (https://arxiv.org/abs/2006.09882); facebookresearch/swav.
"""

from keras_ssl.recipes._recipe import Optimizer, Recipe

RECIPE = Recipe(
    name="swav_imagenet",
    method="SwAV",
    source="Caron et al., 2020; facebookresearch/swav",
    views="swav",
    data="imagenet",
    backbone="resnet50",
    backbone_options={"stem": "imagenet"},
    image_shape=(224, 224, 3),
    epochs=800,
    batch_size=4096,
    optimizer=Optimizer(
        "lars",
        learning_rate=0.3,
        warmup_epochs=10,
        warmup_start=0.3,
        end_factor=1e-3,
        weight_decay=1e-6,
        options={"ratio": "separate", "exclude_rank": -1},
    ),
    projector=(2048, 128),
    model={"prototypes": 3000},
    delays={"freeze_steps": 1},
)
