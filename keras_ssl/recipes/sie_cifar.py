# SPDX-License-Identifier: Apache-2.0
"""SIE on CIFAR, by the authors' settings for 3DIEBench, with the views' own parameters.

| what | value |
|---|---|
| encoder, head | ResNet-18, 3x3 stem, no max-pooling; 2048-2048-2048, half for each part |
| predictor | linear hyper-network, of the relative parameters of VICReg's views |
| loss | 10, 10, 1; equivariance 0.45 of the invariance |
| batch, epochs | 1024, 2000 |
| optimizer | AdamW (the authors: Adam), 1e-3, not scaled |
| schedule | constant |
| weight decay | 1e-6 |

The authors trained on pairs of renderings with known rotations; for such data add
`model={..., "latent": 4}`. On CIFAR the transformation is that of the augmentations, which is a
setting of this package.

Source: Garrido et al., 2023 (https://arxiv.org/abs/2302.10283); facebookresearch/SIE.
"""

from keras_ssl.recipes._recipe import Optimizer, Recipe

RECIPE = Recipe(
    name="sie_cifar",
    method="SIE",
    source="Garrido et al., 2023; facebookresearch/SIE; views of this package",
    views="vicreg",
    data="cifar",
    backbone="resnet18",
    backbone_options={"stem": "small"},
    image_shape=(32, 32, 3),
    epochs=2000,
    batch_size=1024,
    optimizer=Optimizer(
        "adamw", learning_rate=1e-3, reference=None, end_factor=1.0, weight_decay=1e-6
    ),
    projector=(2048, 2048, 2048),
    model={"split": 0.5, "equivariance_factor": 0.45},
)
