# SPDX-License-Identifier: Apache-2.0
"""Weight-decay exclusions for Keras's own optimizers."""

from __future__ import annotations

from collections.abc import Sequence

import keras

from keras_ssl.optimizers._rules import matches, pattern_list


def exclude_norm_and_bias(
    optimizer: keras.optimizers.Optimizer,
    model: keras.Model | Sequence,
    *,
    rank: int = 1,
    names: str | Sequence[str] = (),
) -> list[str]:
    """Spares biases, norm parameters and named variables from a Keras optimizer's decay.

    To be called before the first update. Keras does not save these exclusions: call it again
    after loading a model, or use `keras_ssl.optimizers.AdamW` or `LARS`, which do.

    Args:
        optimizer: a Keras optimizer with `weight_decay`.
        model: a built model, or a list of its variables.
        rank: variables with at most this many axes are spared; -1 for none.
        names: regular expressions of further variable paths, for example `"position"`.

    Returns:
        list of the paths of the spared variables.

    Raises:
        ValueError: if the optimizer has already made an update, or the model has no variables.

    Example:

    >>> optimizer = keras.optimizers.AdamW(1e-3, weight_decay=0.05)
    >>> spared = exclude_norm_and_bias(optimizer, model)
    """
    variables = list(getattr(model, "trainable_variables", model))
    if not variables:
        raise ValueError(
            "The model has no trainable variables yet, so none can be told apart. Build it "
            "(call it once on data) before excluding variables from weight decay."
        )
    if optimizer.built:
        raise ValueError(
            "Exclusions are decided before the optimizer's first update; this optimizer is "
            "already built. Make a new one, exclude, then compile the model with it."
        )
    patterns = pattern_list("names", names)
    spared = [variable for variable in variables if matches(variable, patterns, rank)]
    optimizer.exclude_from_weight_decay(var_list=spared)
    return [variable.path for variable in spared]
