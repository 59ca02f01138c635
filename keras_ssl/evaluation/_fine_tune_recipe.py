# SPDX-License-Identifier: Apache-2.0
"""Settings of fine-tuning, and those that were published."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

OPTIMIZERS = ("adamw", "sgd")
POOLING = ("mean", "class", None)
DISTILLATION = ("hard", "nkd", None)


@dataclasses.dataclass(frozen=True)
class FineTuneRecipe:
    """What a fine-tuning run is made of; `FINE_TUNE_RECIPES` holds the published ones.

    Args:
        source: where the numbers come from.
        epochs: passes over the training images.
        batch_size: rows of a batch, at most those there are.
        base_rate: learning rate for 256 rows; it is scaled by `batch_size / 256`.
        end_rate: learning rate at the end of the cosine, not scaled.
        warmup_epochs: epochs over which the learning rate rises from 0.
        optimizer: `"adamw"`, or `"sgd"` with Nesterov momentum 0.9 and L2 decay.
        weight_decay: spares biases, norms, class token, registers and positions.
        beta_2: of Adam's second moment.
        layer_decay: factor of the learning rate from one layer to the one before it, see
            `optimizers.layer_decay_scales`; 1 for none. SparK (2023) takes 0.7 for ResNet-50.
        drop_path: rate of the last block of a vision transformer; None keeps the encoder's.
        pooling: of a vision transformer: `"mean"` of its patch tokens, followed by a norm of its
            own in place of the last one, or `"class"`; None keeps the encoder's.
        positions: of a vision transformer, in place of its own, as its constructor takes them:
            `"sincos"` tells places to one that was trained without; None keeps the encoder's.
        crop: range of the share of an image that a random crop takes; None for no crop.
        flip: probability with which an image is mirrored.
        erase: probability with which a box of an image is filled with noise.
        mixup: parameter of the Beta distribution of mixing weights; 0 for none.
        cutmix: as `mixup`, for pasted boxes. With both, a batch gets one of the two.
        label_smoothing: share of the target spread over all classes.
        multi_label: whether an image has several labels of 0 and 1 (binary cross-entropy).
        distillation: how a teacher is learned from, `"hard"` (half of the loss is the cross-entropy
            of a distillation token with its classes) or `"nkd"` (`losses.nkd`, which has the labels
            inside); None needs no teacher, and takes `"hard"` from one that is given.

    Raises:
        ValueError: for a number outside of its range or an unknown name.

    Example:
        >>> dataclasses.replace(FINE_TUNE_RECIPES["vit"], epochs=50, layer_decay=0.75).drop_path
        0.1
    """

    source: str
    epochs: int
    batch_size: int
    base_rate: float
    end_rate: float = 0.0
    warmup_epochs: float = 0.0
    optimizer: str = "adamw"
    weight_decay: float = 0.0
    beta_2: float = 0.999
    layer_decay: float = 1.0
    drop_path: float | None = None
    pooling: str | None = None
    positions: str | Mapping[str, Any] | None = None
    crop: tuple[float, float] | None = (0.08, 1.0)
    flip: float = 0.5
    erase: float = 0.0
    mixup: float = 0.0
    cutmix: float = 0.0
    label_smoothing: float = 0.0
    multi_label: bool = False
    distillation: str | None = None

    def __post_init__(self):
        names = {"optimizer": OPTIMIZERS, "pooling": POOLING, "distillation": DISTILLATION}
        for name, allowed in names.items():
            if getattr(self, name) not in allowed:
                raise ValueError(f"{name} is {getattr(self, name)!r}, expected one of {allowed}.")
        for name in ("epochs", "batch_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}, expected at least 1.")
        for name in ("base_rate", "end_rate", "weight_decay"):
            if not getattr(self, name) >= 0.0:
                raise ValueError(f"{name} is {getattr(self, name)}, expected at least 0.")
        for name in ("layer_decay", "flip", "erase", "mixup", "cutmix"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise ValueError(f"{name} is {getattr(self, name)}, expected 0 to 1.")
        for name in ("label_smoothing", "drop_path"):
            if not 0.0 <= (getattr(self, name) or 0.0) < 1.0:
                raise ValueError(f"{name} is {getattr(self, name)}, expected 0 to below 1.")
        if not 0.0 <= self.warmup_epochs <= self.epochs:
            raise ValueError(
                f"warmup_epochs is {self.warmup_epochs}, expected 0 to the {self.epochs} epochs."
            )


FINE_TUNE_RECIPES = {
    # RandAugment is left out of all: that of Keras 3.15 turns images by up to its factor of a
    # full circle and treats a batch alike, which is not the published one. Mixing weights are
    # drawn for every image by Keras, for every batch in the published code.
    "vit": FineTuneRecipe(
        source="Masked Autoencoders Are Scalable Vision Learners, 2021, table 9 and released "
        "commands, ViT-B. ViT-L: epochs=50, base_rate=1e-3, layer_decay=0.75, drop_path=0.2; "
        "ViT-H: drop_path=0.3.",
        epochs=100,
        batch_size=1024,
        base_rate=5e-4,
        end_rate=1e-6,
        warmup_epochs=5,
        weight_decay=0.05,
        layer_decay=0.65,
        drop_path=0.1,
        pooling="mean",
        erase=0.25,
        mixup=0.8,
        cutmix=1.0,
        label_smoothing=0.1,
    ),
    "cnn": FineTuneRecipe(
        source="A Simple Framework for Contrastive Learning of Visual Representations, 2020, "
        "appendix B.5: 60 epochs for 1 % of the labels, 30 for 10 %.",
        epochs=60,
        batch_size=4096,
        base_rate=0.05,
        optimizer="sgd",
    ),
    "thorax": FineTuneRecipe(
        source="Delving into Masked Autoencoders for Multi-Label Thorax Disease Classification, "
        "2022, released commands, ViT-S.",
        epochs=75,
        batch_size=1024,
        base_rate=2.5e-4,
        end_rate=1e-5,
        warmup_epochs=5,
        weight_decay=0.05,
        layer_decay=0.55,
        drop_path=0.2,
        pooling="mean",
        multi_label=True,
    ),
    "g2sd": FineTuneRecipe(
        source="Generic-to-Specific Distillation of Masked Autoencoders, 2023, released command of "
        "the specific stage, ViT-S.",
        epochs=200,
        batch_size=1024,
        base_rate=1e-3,
        end_rate=1e-6,
        warmup_epochs=5,
        weight_decay=0.05,
        layer_decay=0.75,
        drop_path=0.0,
        pooling="class",
        erase=0.25,
        mixup=0.8,
        cutmix=1.0,
        label_smoothing=0.1,
        distillation="hard",
    ),
}
