# SPDX-License-Identifier: Apache-2.0
"""CAE with a small vision transformer on CIFAR.

| what | value |
|---|---|
| encoder | ViT-Tiny, patch 4, sine-cosine positions, layer scale from 0.1, dropped paths 0.1 |
| masks | blocks over half of the patches |
| regressor, decoder | 4 blocks of 3 heads each, layer scale from 0.1, dropped paths 0.1 |
| loss | cross-entropy of 512 codes + 2 x squared error of latents |
| views | crop of 8 to 100 % of the area, flip |
| batch, epochs | 256, 800 |
| optimizer | AdamW, 1e-3 x batch/256, gradients clipped to a norm of 3 |
| schedule | 20 epochs of warm-up from 1e-6, cosine to 1e-5 |
| weight decay | 0.05; not on biases and norms |

No published command trains this network on CIFAR. Masks, losses and schedule are those of the
authors on ImageNet, who take their codes from a tokenizer trained on other images; here they are
the nearest of 512 centroids of patches of the data, which `fit` finds first.

Source: Chen et al., 2022 (https://arxiv.org/abs/2202.03026); Atten4Vis/CAE.
"""

from keras_ssl.recipes._recipe import Optimizer, Recipe

RECIPE = Recipe(
    name="cae_cifar",
    method="CAE",
    source="Chen et al., 2022; Atten4Vis/CAE",
    views="cae",
    data="cifar",
    backbone="vit_tiny",
    backbone_options={
        "patch": 4,
        "positions": {"order": (0, 1)},
        "kernel_initializer": "glorot_uniform",
        "layer_scale": 0.1,
        "drop_path": 0.1,
    },
    image_shape=(32, 32, 3),
    epochs=800,
    batch_size=256,
    optimizer=Optimizer(
        "adamw",
        learning_rate=1e-3,
        reference=256,
        warmup_epochs=20,
        warmup_start=1e-6,
        end_factor=1e-2,
        weight_decay=0.05,
        options={"global_clipnorm": 3.0},
    ),
    model={
        "codes": 512,
        "regressor": (4, 3),
        "decoder": (4, 3),
        "drop_path": 0.1,
    },
)
