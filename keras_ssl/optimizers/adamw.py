# SPDX-License-Identifier: Apache-2.0
"""AdamW whose decay spares biases and norms and may follow a schedule."""

from __future__ import annotations

from collections.abc import Sequence

import keras

from keras_ssl.optimizers._rules import DecayRules, Schedule


@keras.saving.register_keras_serializable("keras_ssl")
class AdamW(DecayRules, keras.optimizers.AdamW):
    """`keras.optimizers.AdamW` with decay rules kept in its config.

    DINO's decay that rises from 0.04 to 0.4 is `weight_decay=CosineRamp(0.04, 0.4, steps)`; it
    is read at every update, also inside a compiled step, where a number changed by a callback
    would have no effect. Decoupled Weight Decay Regularization, Loshchilov & Hutter 2019.

    Args:
        learning_rate: float or schedule.
        weight_decay: float or schedule of the number of updates.
        exclude: regular expressions of variable paths without decay.
        exclude_rank: variables with at most this many axes are not decayed (1: biases and
            norms; -1: all are).
        **kwargs: arguments of `keras.optimizers.AdamW`.

    Example:

    >>> optimizer = AdamW(5e-4, weight_decay=0.05, exclude=["position", "class_token"])
    """

    def __init__(
        self,
        learning_rate: float | Schedule = 1e-3,
        weight_decay: float | Schedule = 0.05,
        exclude: str | Sequence[str] = (),
        exclude_rank: int = 1,
        **kwargs,
    ):
        super().__init__(
            learning_rate,
            weight_decay=weight_decay,
            exclude=exclude,
            exclude_rank=exclude_rank,
            **kwargs,
        )
