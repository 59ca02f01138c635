# SPDX-License-Identifier: Apache-2.0
"""SimCLR on scikit-learn's handwritten digits: the default of the command line.

A setting of this package for a minute on two CPU cores, not a published one.
Method: Chen et al., 2020.
"""

from keras_ssl.recipes._recipe import Optimizer, Recipe

RECIPE = Recipe(
    name="simclr_digits",
    method="SimCLR",
    source="this package; method of Chen et al., 2020",
    views="digits",
    data="digits",
    backbone="convnet",
    image_shape=(16, 16, 1),
    backbone_options={"stem_stride": 2},
    epochs=45,
    batch_size=128,
    optimizer=Optimizer(
        "adamw", learning_rate=2e-3, reference=None, warmup_epochs=4, weight_decay=1e-4
    ),
    projector=(128, 64),
    model={"temperature": 0.5},
)
