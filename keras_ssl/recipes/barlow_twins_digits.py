# SPDX-License-Identifier: Apache-2.0
"""BarlowTwins on scikit-learn's handwritten digits.

A setting of this package for a minute on two CPU cores, not a published one.
Method: Zbontar et al., 2021.
"""

from keras_ssl.recipes._recipe import Optimizer, Recipe

RECIPE = Recipe(
    name="barlow_twins_digits",
    method="BarlowTwins",
    source="this package; method of Zbontar et al., 2021",
    views="digits",
    data="digits",
    backbone="convnet",
    image_shape=(16, 16, 1),
    backbone_options={"stem_stride": 2},
    epochs=60,
    batch_size=256,
    optimizer=Optimizer(
        "adamw", learning_rate=2e-3, reference=None, warmup_epochs=5, weight_decay=1e-4
    ),
    projector=(256, 256, 256),
    model={"lambd": 0.02, "scale": 0.1},
)
