# SPDX-License-Identifier: Apache-2.0
"""CAE with ViT-B on ImageNet.

| what | value |
|---|---|
| encoder | ViT-B, patch 16, sine-cosine positions, layer scale from 0.1, dropped paths 0.1 |
| masks | blocks over half of the patches |
| regressor, decoder | 4 blocks of 12 heads each, layer scale from 0.1, dropped paths 0.1 |
| loss | cross-entropy of 8192 codes + 2 x squared error of latents |
| views | crop of 8 to 100 % of the area, flip |
| batch, epochs | 2048 (64 on each of 32 devices), 800 |
| optimizer | AdamW, 1.5e-3 x batch/2048, gradients clipped to a norm of 3 |
| schedule | 20 epochs of warm-up from 1e-6, cosine to 1e-5 |
| weight decay | 0.05; not on biases and norms |

The authors take their codes from DALL-E's tokenizer: `build(target=targets.CodeTarget(tokenizer,
8192))`. Without it they are the nearest of as many centroids of patches of the data, which `fit`
finds first.

Source: Chen et al., 2022 (https://arxiv.org/abs/2202.03026); Atten4Vis/CAE.
"""

from keras_ssl.recipes._recipe import Optimizer, Recipe

RECIPE = Recipe(
    name="cae_imagenet",
    method="CAE",
    source="Chen et al., 2022; Atten4Vis/CAE",
    views="cae",
    data="imagenet",
    backbone="vit_base",
    backbone_options={
        "positions": {"order": (0, 1)},
        "kernel_initializer": "glorot_uniform",
        "layer_scale": 0.1,
        "drop_path": 0.1,
    },
    image_shape=(224, 224, 3),
    epochs=800,
    batch_size=2048,
    optimizer=Optimizer(
        "adamw",
        learning_rate=1.5e-3,
        reference=2048,
        warmup_epochs=20,
        warmup_start=1e-6,
        end_factor=1 / 150,
        weight_decay=0.05,
        options={"global_clipnorm": 3.0},
    ),
    model={
        "codes": 8192,
        "regressor": (4, 12),
        "decoder": (4, 12),
        "drop_path": 0.1,
    },
)
