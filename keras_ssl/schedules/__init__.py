# SPDX-License-Identifier: Apache-2.0
"""Schedules of learning rates, teacher momenta, weight decays and temperatures.

Each is a `keras.optimizers.schedules.LearningRateSchedule`: a function of the number of updates
done so far (`optimizer.iterations`), with a config, that can be called with a number, an array
or a tensor.
"""

from keras_ssl.schedules.cosine import CosineMomentum, CosineRamp, WarmupCosine
from keras_ssl.schedules.linear import LinearWarmup
from keras_ssl.schedules.scaling import scale_by_batch
from keras_ssl.schedules.stable import InfiniteSchedule, RepeatedCosine, WarmupStableDecay

__all__ = [
    "CosineMomentum",
    "CosineRamp",
    "InfiniteSchedule",
    "LinearWarmup",
    "RepeatedCosine",
    "WarmupCosine",
    "WarmupStableDecay",
    "scale_by_batch",
]
