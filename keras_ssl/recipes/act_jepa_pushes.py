# SPDX-License-Identifier: Apache-2.0
"""ACT-JEPA on pictures of something that is pushed about a plane, with two numbers an action.

| what | value |
|---|---|
| samples | windows of 17 pictures of 96 x 96 pixels, and the actions between |
| encoder | ResNet-18; the 9 places of its last map are the tokens |
| predictor | 16 queries, width 256, 4 blocks, 8 heads |
| decoder | width 256, 1 block, 8 heads |
| loss | mean absolute errors of standardised latents and of actions, 1 : 1 |
| teacher | momentum 0.996 to 1, half a cosine |
| batch, epochs | 64, 300 |
| optimizer | AdamW, 1e-4, not scaled |
| schedule | 10 epochs of warm-up, cosine to 0 |
| weight decay | 1e-4; not on biases and norms |

No numbers of the paper are published with code: these are settings of this package to start from,
with the decay of ACT. For another task give its shape, `actions` and `chunk`:
`recipes.get("act_jepa_pushes").build((128, 128, 3), steps, actions=7, chunk=32)`.

Source: ACT-JEPA, 2025 (method); Zhao et al., 2023 (decay, https://arxiv.org/abs/2304.13705).
"""

from keras_ssl.recipes._recipe import Optimizer, Recipe

RECIPE = Recipe(
    name="act_jepa_pushes",
    method="ACTJEPA",
    source="settings of this package for ACT-JEPA, 2025",
    data="pushes",
    backbone="resnet18",
    backbone_options={"stem": "imagenet"},
    sample_shape=(96, 96, 3),
    epochs=300,
    batch_size=64,
    optimizer=Optimizer(
        "adamw",
        learning_rate=1e-4,
        reference=None,
        warmup_epochs=10,
        weight_decay=1e-4,
    ),
    teacher_momentum=0.996,
    model={"actions": 2, "chunk": 16, "predictor": (256, 4, 8), "decoder": (256, 1, 8)},
)
