# SPDX-License-Identifier: Apache-2.0
"""EEG-VJEPA with ViT-S on clinical electroencephalograms.

As `vjepa_videomix`, with what differs in videos of channels and time:

| what | value |
|---|---|
| samples | 32 frames of 500 steps, 16 channels of one montage, standardised channel by channel |
| encoder | ViT-S, tokens of 4 frames, 4 channels and 25 steps |
| predictor | width 384, 6 blocks, 6 heads |
| batch, epochs | 128, 400 |
| optimizer | gradients are not clipped |

The authors have 19 channels and pieces of 30 steps, and leave out what these do not tile: 3
channels and 20 steps of a frame. The batch is ours.

Source: Hojjati et al., 2025; amir-hojjati/eeg-vjepa.
"""

import dataclasses

from keras_ssl.recipes import vjepa_videomix
from keras_ssl.recipes._recipe import Transformer
from keras_ssl.tokens import RecordingTokenizer

VIDEO = vjepa_videomix.RECIPE

RECIPE = dataclasses.replace(
    VIDEO,
    name="eeg_vjepa_clinic",
    method="EEGVJEPA",
    source="Hojjati et al., 2025; amir-hojjati/eeg-vjepa",
    data="clinic",
    backbone=Transformer(
        RecordingTokenizer,
        width=384,
        depth=12,
        heads=6,
        tokenizer_options={"frames": 32, "patch": (4, 4, 25)},
        options=vjepa_videomix.OPTIONS,
    ),
    sample_shape=(16000, 16),
    epochs=400,
    batch_size=128,
    optimizer=dataclasses.replace(VIDEO.optimizer, longest_warmup=0.1, options={}),
    model={"predictor": (384, 6, 6)},
)
