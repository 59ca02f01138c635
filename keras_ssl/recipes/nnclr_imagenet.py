# SPDX-License-Identifier: Apache-2.0
"""NNCLR on ImageNet, the paper's 1000-epoch setting (75.6 % linear).

| what | value |
|---|---|
| encoder, heads | ResNet-50; 2048-2048-256, predictor 4096-256 |
| loss | temperature 0.1, support set of 98304 |
| batch, epochs | 4096, 1000 |
| optimizer | LARS (eta 1e-3), 0.3 x batch/256 |
| schedule | 10 epochs of warm-up, cosine to 0 |
| weight decay | 1e-6, not on batch norm and biases |

No code of the authors was found to check the optimizer against.

Source: Dwibedi et al., 2021 (https://arxiv.org/abs/2104.14548).
"""

from keras_ssl.recipes._recipe import Optimizer, Recipe

RECIPE = Recipe(
    name="nnclr_imagenet",
    method="NNCLR",
    source="Dwibedi et al., 2021",
    views="byol",
    data="imagenet",
    backbone="resnet50",
    backbone_options={"stem": "imagenet"},
    image_shape=(224, 224, 3),
    epochs=1000,
    batch_size=4096,
    optimizer=Optimizer("lars", learning_rate=0.3, warmup_epochs=10, weight_decay=1e-6),
    projector=(2048, 2048, 256),
    predictor=(4096, 256),
    model={"temperature": 0.1, "queue_size": 98304},
)
