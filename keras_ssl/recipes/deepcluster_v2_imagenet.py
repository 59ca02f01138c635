# SPDX-License-Identifier: Apache-2.0
"""DeepCluster-v2 on ImageNet, the authors' 800-epoch setting (75.2 % linear).

| what | value |
|---|---|
| encoder, head | ResNet-50; 2048-128 |
| views | 2 crops of 224 pixels and 6 of 96 |
| loss | 3 heads of 3000 prototypes, temperature 0.1 |
| clusters | 10 rounds of spherical k-means once per epoch |
| batch, epochs | 4096, 800 |
| optimizer | SGD with LARC (eta 1e-3, not clipped), 4.8 at batch 4096 |
| schedule | 10 epochs of warm-up from 0.3, cosine to a thousandth |
| weight decay | 1e-6 on all; LARC leaves no parameter out |

The authors fill the memory before the first epoch: call `fill_memory` before `fit`.

Source: Caron et al., 2020 (https://arxiv.org/abs/2006.09882); facebookresearch/swav.
"""

from keras_ssl.recipes._recipe import Optimizer, Recipe

RECIPE = Recipe(
    name="deepcluster_v2_imagenet",
    method="DeepClusterV2",
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
    model={"samples": 1_281_167, "prototypes": (3000, 3000, 3000)},
)
