# SPDX-License-Identifier: Apache-2.0
"""DirectPred on ImageNet: BYOL's setting with the predictor of DirectPred.

| what | value |
|---|---|
| encoder, head | ResNet-50; projector 4096-256 |
| predictor | rho 0.3, epsilon 0.01, set after every step |
| teacher | momentum 0.99 to 1, cosine |
| batch, epochs | 4096, 300 |
| optimizer | LARS (eta 1e-3), 0.3 x batch/256 |
| schedule | 10 epochs of warm-up, cosine to 0 |
| weight decay | 1e-6, not on batch norm and biases |

The authors released no ImageNet command. The paper's runs had 60 and 300 epochs; everything but
rho and epsilon, which are those of their CIFAR command, is BYOL's 300-epoch setting.

Source: Tian et al., 2021 (https://arxiv.org/abs/2102.06810); the rest Grill et al., 2020.
"""

from keras_ssl.recipes._recipe import Optimizer, Recipe

RECIPE = Recipe(
    name="direct_pred_imagenet",
    method="DirectPred",
    source="Tian et al., 2021; the rest Grill et al., 2020",
    views="direct_pred",
    data="imagenet",
    backbone="resnet50",
    backbone_options={"stem": "imagenet"},
    image_shape=(224, 224, 3),
    epochs=300,
    batch_size=4096,
    optimizer=Optimizer("lars", learning_rate=0.3, warmup_epochs=10, weight_decay=1e-6),
    projector=(4096, 256),
    teacher_momentum=0.99,
    model={"rho": 0.3, "epsilon": 0.01},
)
