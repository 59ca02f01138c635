# SPDX-License-Identifier: Apache-2.0
"""SimSiam on ImageNet, as in the paper (68.1 % linear after 100 epochs).

| what | value |
|---|---|
| encoder, heads | ResNet-50; projector 2048-2048-2048, predictor 512-2048 |
| batch, epochs | 512, 100 |
| optimizer | SGD (momentum 0.9), 0.05 x batch/256, the predictor's constant |
| schedule | no warm-up, cosine to 0 |
| weight decay | 1e-4 on all |

Source: Chen & He, 2021 (https://arxiv.org/abs/2011.10566); facebookresearch/simsiam.
"""

from keras_ssl.recipes._recipe import Optimizer, Recipe

RECIPE = Recipe(
    name="simsiam_imagenet",
    method="SimSiam",
    source="Chen & He, 2021; facebookresearch/simsiam",
    views="simsiam",
    data="imagenet",
    backbone="resnet50",
    backbone_options={"stem": "imagenet"},
    image_shape=(224, 224, 3),
    epochs=100,
    batch_size=512,
    optimizer=Optimizer("sgd", learning_rate=0.05, weight_decay=1e-4, constant="predictor"),
    projector=(2048, 2048, 2048),
    predictor=(512, 2048),
)
