# SPDX-License-Identifier: Apache-2.0
"""SparseJEPA with a small vision transformer on CIFAR.

As `ijepa_cifar`, with 8 groups of latents and a weight of 1e-4 of the sum of their columns'
lengths, which has no decay besides. The authors train on CIFAR-100; their settings are not known,
and these are ours.

Source: SparseJEPA, 2025; facebookresearch/ijepa.
"""

import dataclasses

from keras_ssl.recipes import ijepa_cifar

RECIPE = dataclasses.replace(
    ijepa_cifar.RECIPE,
    name="sparse_jepa_cifar",
    method="SparseJEPA",
    source="SparseJEPA, 2025; facebookresearch/ijepa",
    optimizer=dataclasses.replace(ijepa_cifar.RECIPE.optimizer, options={"exclude": ["head"]}),
    model={"predictor": (96, 4, 3), "groups": 8, "sparsity": 1e-4},
)
