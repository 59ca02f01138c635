# SPDX-License-Identifier: Apache-2.0
"""seq-JEPA on CIFAR, with the parameters of the views.

| what | value |
|---|---|
| encoder | ResNet-18, 3x3 stem, no max-pooling |
| views | 3 as context by BYOL's first pipeline, the next one by its second |
| action projection, aggregator | 128; 3 blocks, 4 heads, dropout 0.1 |
| predictor | 1024-512 |
| teacher | momentum 0.996 to 1, half a cosine |
| batch, epochs | 512, 2000 |
| optimizer | AdamW, 4e-4, not scaled |
| schedule | 20 epochs of warm-up from 1e-5, cosine to 1e-5 |
| weight decay | 1e-3; not on biases and norms |

The numbers are those of the released command for 3DIEBench, which runs 1000 epochs; for data with
known parameters of every view add `model={"actions": 4}`. What changes between the views are the
numbers of `views.SequenceWithParameters`, a setting of this package.

Source: seq-JEPA, 2025; hafezgh/seq-jepa.
"""

from keras_ssl.recipes._recipe import Optimizer, Recipe

RECIPE = Recipe(
    name="seq_jepa_cifar",
    method="SeqJEPA",
    source="seq-JEPA, 2025; hafezgh/seq-jepa; views of this package",
    views="byol",
    data="cifar",
    backbone="resnet18",
    backbone_options={"stem": "small"},
    image_shape=(32, 32, 3),
    epochs=2000,
    batch_size=512,
    optimizer=Optimizer(
        "adamw",
        learning_rate=4e-4,
        reference=None,
        warmup_epochs=20,
        warmup_start=1e-5,
        end_factor=0.025,
        weight_decay=1e-3,
    ),
    teacher_momentum=0.996,
    model={"context": 3, "action_width": 128, "aggregator": (3, 4)},
)
