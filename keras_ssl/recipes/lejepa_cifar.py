# SPDX-License-Identifier: Apache-2.0
"""LeJEPA on CIFAR, by the authors' minimal example for small images.

| what | value |
|---|---|
| encoder, head | ResNet-18, 3x3 stem, no max-pooling; 2048-2048-16 (theirs: ViT-S/8 at 128 px) |
| loss | lambda 0.02, 256 slices, 17 knots up to 3, centre of all views |
| views | four equal ones |
| batch, epochs | 256, 800 |
| optimizer | AdamW, 2e-3, not scaled |
| schedule | 1 epoch of warm-up from a hundredth, cosine to a thousandth |
| weight decay | 5e-4, the authors' for ResNets; 5e-2 for ViT |

The minimal example's own cosine ends at 1e-3, half of the peak; their general advice, followed
here, is a thousandth of it.

Source: Balestriero and LeCun, 2025 (https://arxiv.org/abs/2511.08544); rbalestr-lab/lejepa,
MINIMAL.md and README.
"""

from keras_ssl.recipes._recipe import Optimizer, Recipe

RECIPE = Recipe(
    name="lejepa_cifar",
    method="LeJEPA",
    source="Balestriero and LeCun, 2025; rbalestr-lab/lejepa, MINIMAL.md",
    views="lejepa",
    data="cifar",
    backbone="resnet18",
    backbone_options={"stem": "small"},
    image_shape=(32, 32, 3),
    epochs=800,
    batch_size=256,
    optimizer=Optimizer(
        "adamw",
        learning_rate=2e-3,
        reference=None,
        warmup_epochs=1,
        warmup_start=2e-5,
        end_factor=1e-3,
        weight_decay=5e-4,
    ),
    projector=(2048, 2048, 16),
    model={"trade_off": 0.02, "slices": 256, "centre": "all"},
)
