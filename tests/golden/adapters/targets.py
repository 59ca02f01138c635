# SPDX-License-Identifier: Apache-2.0
"""What masked models predict, and the order of tokens."""

from __future__ import annotations

import numpy as np

from keras_ssl import targets, tokens


def mae_patchify(inputs: dict, meta: dict) -> dict:
    """Raw values of patches."""
    images, side = inputs["in_images"], meta["patch_size"]
    target = targets.PixelTarget((side,) * (images.ndim - 2))
    return {"out_patches": np.asarray(target(images))}


def hog_and_gradients(inputs: dict, meta: dict) -> dict:
    """Histograms of single cells, and the derivatives that they are made of."""
    images = inputs["in_images"]
    rows, height, width, channels = images.shape
    cell, bins = meta["pool"], meta["nbins"]
    histograms = targets.HOGTarget(
        (cell, cell),
        bins=bins,
        cell=cell,
        gaussian_window=meta["gaussian_window"],
        epsilon=meta["l2_eps"],
    )
    found = np.asarray(histograms(images))
    found = found.reshape(rows, height // cell, width // cell, channels, bins)
    down, along = targets.sobel(images)
    magnitude = np.asarray(targets.GradientTarget((1, 1))(images))
    return {
        "out_hog": found.transpose(0, 3, 4, 1, 2),
        "out_gx": np.asarray(along),
        "out_gy": np.asarray(down),
        "out_magnitude": magnitude.reshape(images.shape),
    }


def videomae_targets(inputs: dict, meta: dict) -> dict:
    """Cubes, every channel of each standardised by itself; raw ones of the first video."""
    patch = (meta["tubelet"], meta["patch"], meta["patch"])
    normalised = targets.PixelTarget(
        patch,
        normalize="channel",
        epsilon=meta["target_eps"],
        epsilon_inside="outside" not in meta["eps_place"],
        unbiased=meta["target_variance"] == "unbiased",
    )
    video = inputs["in_video"]
    return {
        "out_targets_normalised": np.asarray(normalised(video)),
        "out_targets_raw": np.asarray(targets.PixelTarget(patch)(video[:1])),
    }


def spectrogram_patch_order(inputs: dict, meta: dict) -> dict:
    """Tokens of spectrograms by a tokenizer with given weights."""
    kernel = inputs["in_kernel"]
    tokenizer = tokens.PatchTokenizer(kernel.shape[2:], kernel.shape[0], use_bias=False)
    spectrograms = inputs["in_fbank"][..., None]
    tokenizer.build(spectrograms.shape)
    # A convolution's (width, 1, time, frequency) as the linear map of a flattened patch.
    tokenizer.set_weights([kernel.reshape(len(kernel), -1).T])
    found = np.asarray(tokenizer(spectrograms))
    return {"out_tokens": found.reshape(len(found), -1, found.shape[-1])}


CASES = {
    "mim_mae_patchify": mae_patchify,
    "mim_hog_gradient_targets": hog_and_gradients,
    "mim_hog_gradient_targets_window": hog_and_gradients,
    "audio_spectrogram_patch_order": spectrogram_patch_order,
}
