# SPDX-License-Identifier: Apache-2.0
"""DSeq-JEPA with a small vision transformer on CIFAR.

As `ijepa_cifar`, with a class token, five regions of at least 15 % of the patches, and steps with
regions from none to all in a straight line. No published command trains this network on CIFAR.

Source: DSeq-JEPA, 2025; SkyShunsuke/DSeq-JEPA.
"""

import dataclasses

from keras_ssl.recipes import dseq_jepa_imagenet, ijepa_cifar

REGIONS = dseq_jepa_imagenet.RECIPE

RECIPE = dataclasses.replace(
    ijepa_cifar.RECIPE,
    name="dseq_jepa_cifar",
    method="DSeqJEPA",
    source=REGIONS.source,
    backbone_options={
        "patch": 4,
        "pooling": "mean",
        "positions": "sincos",
        "kernel_initializer": "glorot_uniform",
    },
    model={**REGIONS.model, "predictor": (96, 4, 3)},
    ramps=REGIONS.ramps,
)
