# SPDX-License-Identifier: Apache-2.0
"""LeJEPA on ImageNet with the authors' general settings, for a ResNet-50.

| what | value |
|---|---|
| encoder, head | ResNet-50; 2048-2048-128 |
| loss | lambda 0.05, 1024 slices, 17 knots up to 3, centre of the global views |
| views | two global ones of 224 pixels, six local ones of 98 |
| batch, epochs | 512, 100 |
| optimizer | AdamW, 5e-4, not scaled |
| schedule | linear warm-up, cosine to a thousandth |
| weight decay | 5e-4, theirs for ResNets; 5e-2 for ViT |

The authors train in bfloat16 and do not state the length of the warm-up; here it is 10 epochs.

Source: Balestriero and LeCun, 2025 (https://arxiv.org/abs/2511.08544); rbalestr-lab/lejepa.
"""

from keras_ssl.recipes._recipe import Optimizer, Recipe

RECIPE = Recipe(
    name="lejepa_imagenet",
    method="LeJEPA",
    source="Balestriero and LeCun, 2025; rbalestr-lab/lejepa",
    views="lejepa",
    data="imagenet",
    backbone="resnet50",
    backbone_options={"stem": "imagenet"},
    image_shape=(224, 224, 3),
    epochs=100,
    batch_size=512,
    optimizer=Optimizer(
        "adamw",
        learning_rate=5e-4,
        reference=None,
        warmup_epochs=10,
        end_factor=1e-3,
        weight_decay=5e-4,
    ),
    projector=(2048, 2048, 128),
    model={"trade_off": 0.05, "slices": 1024, "centre": "global", "global_views": 2},
)
