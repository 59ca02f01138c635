# SPDX-License-Identifier: Apache-2.0
"""From raw samples to representations."""

from typing import Any

import numpy as np

from keras_ssl.evaluation.preprocessing import fitted
from keras_ssl.views import Preprocessing


def extract_features(
    model: Any,
    images: Any,
    *,
    batch_size: int = 256,
    verbose: bool | str = "auto",
    preprocessing: Preprocessing | None = None,
) -> np.ndarray:
    """Runs a model over samples in inference mode and returns one vector each.

    Batch normalisation and dropout run in inference mode and no weight changes. What a vector is
    depends on the model: for a self-supervised model of this package, the representation.

    Args:
        model: a Keras model whose output has shape (batch, D).
        images: array (N, ...) as the model takes it, a dictionary or list of such arrays, or a
            `tf.data.Dataset` of batches.
        batch_size: samples a call; ignored for a dataset, which is batched already.
        verbose: True for a progress bar, False for none, "auto" for one when there are more than
            twenty batches.
        preprocessing: from raw images to what the network takes, in place of the one that the model
            carries; None for its own, which also brings images of another size to its own.

    Returns:
        Array (N, D), in the order of `images`; float32 if the model computes in half precision.

    Raises:
        ValueError: if the model returns several outputs, or other than one vector a sample, or as
            `with_preprocessing`.

    Warns:
        UserWarning: as `with_preprocessing`.

    Example:
        >>> import keras, numpy as np
        >>> encoder = keras.Sequential([keras.Input((8, 8, 1)), keras.layers.Flatten()])
        >>> extract_features(encoder, np.zeros((5, 8, 8, 1), "float32"), verbose=False).shape
        (5, 64)
    """
    if verbose == "auto":
        verbose = hasattr(images, "__len__") and len(images) > 20 * (
            batch_size if hasattr(images, "shape") else 1
        )
    model = fitted(model, images, preprocessing)
    # A tf.data batch of (x, y) is understood by predict; giving it a batch size is not.
    in_memory = not hasattr(images, "element_spec")
    outputs = model.predict(
        images, batch_size=batch_size if in_memory else None, verbose=int(bool(verbose))
    )
    if not hasattr(outputs, "ndim"):
        raise ValueError(
            f"The model returns a {type(outputs).__name__} of outputs, expected one tensor. Pass "
            "keras.Model(model.inputs, <the output to evaluate>)."
        )
    if outputs.ndim != 2:
        raise ValueError(
            f"The model returns shape {outputs.shape}, expected (samples, dimensions). Pool it, "
            "for feature maps with keras.layers.GlobalAveragePooling2D."
        )
    return outputs.astype("float64" if outputs.dtype == np.float64 else "float32")
