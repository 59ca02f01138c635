# SPDX-License-Identifier: Apache-2.0
"""The parts of a transformer in float64 NumPy, from the equations, with a model's weights."""

import keras
import numpy as np
from scipy.special import erf, logsumexp


def shake(model, scale=0.2):
    """Gives a model weights that are all different from where they start."""
    rng = np.random.default_rng(0)
    for variable in model.weights:
        if "seed" not in variable.path:
            variable.assign(np.asarray(variable) + scale * rng.normal(size=variable.shape))


def array(x):
    """A tensor in float64."""
    return np.asarray(keras.ops.convert_to_numpy(x), "float64")


def dense(layer, x):
    """A linear map."""
    return x @ array(layer.kernel) + (0.0 if layer.bias is None else array(layer.bias))


def norm(layer, x):
    """A layer norm."""
    x = x - x.mean(-1, keepdims=True)
    return x / np.sqrt((x**2).mean(-1, keepdims=True) + 1e-6) * array(layer.gamma) + array(
        layer.beta
    )


def block(layer, x, usable=None):
    """A block; `usable` says by scores `(B, heads, N, N)` which keys a query attends to."""
    attention, (rows, count, width) = layer.attention, x.shape
    size = width // attention.heads
    qkv = dense(attention.qkv, norm(layer.attention_norm, x))
    q, k, v = qkv.reshape(rows, count, 3, attention.heads, size).transpose(2, 0, 3, 1, 4)
    scores = q @ k.transpose(0, 1, 3, 2) / np.sqrt(size)
    if usable is not None:
        scores = np.where(usable(scores), scores, -np.inf)
    weights = np.exp(scores - logsumexp(scores, axis=-1, keepdims=True))
    x = x + dense(attention.out, (weights @ v).transpose(0, 2, 1, 3).reshape(rows, count, width))
    hidden = dense(layer.feed_forward.rise, norm(layer.feed_forward_norm, x))
    hidden = hidden * 0.5 * (1.0 + erf(hidden / np.sqrt(2.0)))
    return x + dense(layer.feed_forward.fall, hidden)


def patches(x, side):
    """Square patches of images `(B, H, W, C)`, row by row: `(B, L, side · side · C)`."""
    rows, height, width, channels = x.shape
    cut = array(x).reshape(rows, height // side, side, width // side, side, channels)
    return cut.transpose(0, 1, 3, 2, 4, 5).reshape(rows, -1, side * side * channels)
