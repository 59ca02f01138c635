# SPDX-License-Identifier: Apache-2.0
"""DirectPred on CIFAR, by the authors' published command for STL-10.

| what | value |
|---|---|
| encoder, head | ResNet-18, 3x3 stem, no max-pooling; projector 512-128 |
| predictor | rho 0.3, epsilon 0.01, set after every step |
| teacher | momentum 0.996, constant |
| views | two equal ones, as in MoCo's CIFAR demo |
| batch, epochs | 128, 100 |
| optimizer | SGD (momentum 0.9), 0.03 at batch 128 |
| schedule | constant |
| weight decay | 4e-4 on all |

The command names STL-10, where the authors jitter colours twice as strongly and blur; their code
trains CIFAR with the same numbers and the views above.

Source: Tian et al., 2021 (https://arxiv.org/abs/2102.06810); facebookresearch/luckmatters, ssl.
"""

from keras_ssl.recipes._recipe import Optimizer, Recipe

RECIPE = Recipe(
    name="direct_pred_cifar",
    method="DirectPred",
    source="Tian et al., 2021; facebookresearch/luckmatters, ssl",
    views="direct_pred",
    data="cifar",
    backbone="resnet18",
    backbone_options={"stem": "small"},
    image_shape=(32, 32, 3),
    epochs=100,
    batch_size=128,
    optimizer=Optimizer(
        "sgd", learning_rate=0.03, reference=128, end_factor=1.0, weight_decay=4e-4
    ),
    projector=(512, 128),
    model={"rho": 0.3, "epsilon": 0.01, "momentum": 0.996},
)
