# SPDX-License-Identifier: Apache-2.0
"""Fine-tuning: the whole encoder and a new head trained with labels."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np

from keras_ssl import optimizers, schedules
from keras_ssl.core.registry import nearest
from keras_ssl.evaluation._distilled import Distilled, on_batches
from keras_ssl.evaluation._fine_tune_data import (
    Batches,
    check_images,
    labelled_images,
    output_count,
)
from keras_ssl.evaluation._fine_tune_model import (
    classifier,
    from_raw_images,
    input_size,
    resizing,
    unwrapped,
)
from keras_ssl.evaluation._fine_tune_recipe import FINE_TUNE_RECIPES, FineTuneRecipe
from keras_ssl.views import HorizontalFlip, Pipeline, RandomResizedCrop

# Class token, registers and positions, beside what has one axis, as in the published code.
_NOT_DECAYED = [r"(^|/)(prefix|positions|distillation_token)/"]


@dataclasses.dataclass(frozen=True)
class FineTuned:
    """What `fine_tune` gives.

    Args:
        accuracy: share of the test images, from 0 to 1, whose class is found; with several labels
            an image, the share of right labels at a probability of 0.5.
        auc: area under the ROC curve, mean over the labels that have both values in the test
            set; None with one class an image.
        model: the fine-tuned model, from images as they were given to logits `(B, classes)`.
        history: numbers of each epoch by name: `loss` (of smoothed and mixed labels, where the
            recipe says so) and `accuracy` on the training views.
        recipe: the settings as they were run.
    """

    accuracy: float
    auc: float | None
    model: keras.Model
    history: dict[str, list[float]]
    recipe: FineTuneRecipe


def fine_tune(
    encoder: keras.Model,
    train_images: Any,
    train_labels: Any,
    test_images: Any,
    test_labels: Any,
    *,
    recipe: str | FineTuneRecipe = "vit",
    teacher: Any = None,
    image_size: int | Sequence[int] | None = None,
    preprocess: keras.Layer | Callable | None = None,
    view: Pipeline | None = None,
    seed: int = 0,
    jit_compile: bool | str = "auto",
    callbacks: Sequence = (),
    verbose: bool = False,
    **changes: Any,
) -> FineTuned:
    """Trains a copy of an encoder and a new head with labels, and tests it.

    The recipe decides everything else, and each of its fields can be changed by name:
    `fine_tune(..., recipe="vit", epochs=20, crop=None)`. The published batches are made for
    ImageNet: a recipe given by name takes at most a twentieth of the rows in a batch (at least
    32), and the learning rate follows. Small images want less of `crop` and `erase`. Where `epochs`
    is changed alone, the warm-up keeps its share of the run. An epoch leaves out the rows that
    fill no batch.

    The encoder given is not changed. Two runs with one seed give the same numbers. Under a
    `tf.distribute` strategy call it inside of the scope; batches are those of all replicas.

    Args:
        encoder: `backbones.VisionTransformer`, any Keras model from images to a vector or a
            feature map, what `model.standalone_encoder()` gives, or the trained self-supervised
            model itself. All of it is trained.
        train_images: `(N, H, W, C)` uint8 of 0..255, or float of 0..1.
        train_labels: `(N,)` class indices, -1 (unlabelled) is dropped; with several labels an
            image `(N, L)` of 0 and 1.
        test_images: `(M, H, W, C)` as `train_images`.
        test_labels: as `train_labels`.
        recipe: `"vit"`, `"cnn"`, `"thorax"`, `"g2sd"`, or settings of your own.
        teacher: a classifier that a vision transformer learns from besides labels: what this
            function gave for a larger encoder, its `model`, or any Keras model from images, uint8
            or of 0..1, to logits. It sees the same views and stays as it is.
        image_size: side, or (height, width), to train and test at; None takes that of the
            encoder. Positions of a vision transformer are interpolated.
        preprocess: Keras layer from images of 0..1 to what the encoder takes, for an encoder
            without its own: `model.views.preprocessing`, `views.Preprocessing(mean=…, std=…)`.
        view: pipeline that makes the training views of images, in place of the recipe's crop and
            flip. Keras layers go into it too. Normalisation belongs to `preprocess`.
        seed: integer for the order, the views, the head and what drops at random.
        jit_compile: of `keras.Model.compile`.
        callbacks: Keras callbacks.
        verbose: whether Keras shows the progress.
        **changes: fields of `FineTuneRecipe`.

    Returns:
        `FineTuned`, with `accuracy` and `model`.

    Raises:
        TypeError: if the encoder, or the teacher, is no Keras model.
        ValueError: for an unknown recipe or field, images or labels of the wrong form, an image
            size that the encoder cannot take, or a teacher of other classes or missing.

    Source: each recipe names its own; layer-wise decay as in BEiT, 2021; distillation token as in
    DeiT, 2021.

    Example:
        >>> import numpy as np
        >>> from keras_ssl import backbones
        >>> images = np.random.default_rng(0).integers(0, 255, (8, 16, 16, 1), "uint8")
        >>> labels = np.arange(8) % 2
        >>> encoder = backbones.VisionTransformer("tiny", (16, 16, 1), 8, depth=2)
        >>> tuned = fine_tune(encoder, images, labels, images, labels, epochs=1)
        >>> tuned.model.predict(images, verbose=0).shape
        (8, 2)
    """
    settings = _settings(recipe, changes)
    _check_teacher(settings, teacher)
    images, labels = labelled_images(train_images, train_labels, "train", settings.multi_label)
    test = labelled_images(test_images, test_labels, "test", settings.multi_label)
    outputs = output_count(labels, test[1])
    named = isinstance(recipe, str) and "batch_size" not in changes
    settings = _with_batch(settings, len(images), named)
    front, network = unwrapped(encoder)
    if preprocess is not None:
        front = _with_preprocessing(front, preprocess)
    size = _size(image_size) or input_size(front, network, images)
    check_images(images, test[0], network.input_shape[-1], view, settings)

    copied = {name: getattr(settings, name) for name in ("pooling", "drop_path", "positions")}
    options = {"seed": seed, "distilled": teacher is not None, **copied}
    model = classifier(front, network, size, outputs, **options)
    if teacher is not None:
        taught = on_batches(teacher, size, images.shape[-1], outputs)
        model = Distilled(model, taught, settings.distillation or "hard", settings.label_smoothing)
    mixing = {name: getattr(settings, name) for name in ("erase", "mixup", "cutmix")}
    view = view or _view(settings, size)
    resize = resizing(front, size)
    batches = Batches(
        images, labels, outputs, settings.batch_size, resize, view=view, seed=seed, **mixing
    )
    optimizer = _optimizer(settings, model, len(batches))
    loss, metric = _loss_and_metric(settings)
    loss = loss if teacher is None else None
    model.compile(optimizer, loss, metrics=[metric], jit_compile=jit_compile)
    # Built within the step, it would have the step traced twice.
    model.optimizer.build(model.trainable_variables)
    # The batches are in a random order already, one that the seed fixes.
    options = {"shuffle": False, "verbose": int(verbose), "callbacks": list(callbacks)}
    history = model.fit(batches, epochs=settings.epochs, **options).history
    model = from_raw_images(model.answering() if teacher is not None else model, images, resize)
    logits = model.predict(test[0], batch_size=min(settings.batch_size, 256), verbose=0)
    return FineTuned(*_scores(logits, test[1]), model, history, settings)


def _settings(recipe: str | FineTuneRecipe, changes: dict) -> FineTuneRecipe:
    """The recipe with changes; a run of another length keeps the share of its warm-up."""
    if isinstance(recipe, str):
        if recipe not in FINE_TUNE_RECIPES:
            raise ValueError(f"Unknown recipe {recipe!r}. {nearest(recipe, FINE_TUNE_RECIPES)}")
        recipe = FINE_TUNE_RECIPES[recipe]
    known = [field.name for field in dataclasses.fields(recipe)]
    for name in changes:
        if name not in known:
            raise ValueError(f"A recipe has no field {name!r}. {nearest(name, known)}")
    if "epochs" in changes and "warmup_epochs" not in changes:
        share = recipe.warmup_epochs / recipe.epochs
        changes = {**changes, "warmup_epochs": share * changes["epochs"]}
    return dataclasses.replace(recipe, **changes)


def _check_teacher(settings: FineTuneRecipe, teacher: Any) -> None:
    if settings.distillation is not None and teacher is None:
        raise ValueError(
            "This recipe learns from a fine-tuned classifier: give teacher=, such as what "
            "fine_tune gave for a larger encoder, or distillation=None."
        )
    if teacher is not None and settings.multi_label:
        raise ValueError("A teacher says one class an image; multi_label=True has several.")


def _with_batch(settings: FineTuneRecipe, rows: int, named: bool) -> FineTuneRecipe:
    """Settings whose batches the rows can fill, often enough where the size is the recipe's own."""
    most = max(32, rows // 20) if named else rows
    return dataclasses.replace(settings, batch_size=min(settings.batch_size, most, rows))


def _size(image_size: Any) -> tuple[int, int] | None:
    if image_size is None:
        return None
    sides = (image_size, image_size) if isinstance(image_size, int) else tuple(image_size)
    if len(sides) != 2 or min(sides) < 1:
        raise ValueError(
            f"image_size is {image_size!r}, expected the side in pixels or (height, width)."
        )
    return sides


def _with_preprocessing(front: list, preprocess: Any) -> list:
    if front:
        raise ValueError(
            "The encoder prepares its images itself, so preprocess= would do it twice. Leave it "
            "out, or pass the network alone: model.encoder."
        )
    return [preprocess]


def _view(settings: FineTuneRecipe, size: tuple[int, int]) -> Pipeline | None:
    members: list = []
    if settings.crop is not None:
        crop = RandomResizedCrop(size, area=settings.crop, interpolation="bicubic")
        members.append(crop)
    if settings.flip:
        members.append(HorizontalFlip(settings.flip))
    return Pipeline(members) if members else None


def _optimizer(settings: FineTuneRecipe, model: keras.Model, steps: int) -> Any:
    rate = schedules.WarmupCosine(
        schedules.scale_by_batch(settings.base_rate, settings.batch_size),
        settings.epochs * steps,
        warmup_steps=settings.warmup_epochs * steps,
        end=settings.end_rate,
    )
    scales = None
    if settings.layer_decay != 1.0:
        scales = optimizers.layer_decay_scales(model, settings.layer_decay)
    rules = {"exclude": _NOT_DECAYED, "exclude_rank": 1, "multipliers": scales}
    if settings.optimizer == "sgd":
        return optimizers.SGD(rate, 0.9, settings.weight_decay, nesterov=True, **rules)
    return optimizers.AdamW(rate, settings.weight_decay, beta_2=settings.beta_2, **rules)


def _loss_and_metric(settings: FineTuneRecipe) -> tuple[Any, Any]:
    options = {"from_logits": True, "label_smoothing": settings.label_smoothing}
    if settings.multi_label:
        right = keras.metrics.BinaryAccuracy(name="accuracy", threshold=0.0)
        return keras.losses.BinaryCrossentropy(**options), right
    right = keras.metrics.CategoricalAccuracy(name="accuracy")
    return keras.losses.CategoricalCrossentropy(**options), right


def _scores(logits: np.ndarray, labels: np.ndarray) -> tuple[float, float | None]:
    """Accuracy, and with several labels an image the mean area under the ROC curve."""
    if labels.ndim == 1:
        return float(np.mean(logits.argmax(axis=1) == labels)), None
    from sklearn.metrics import roc_auc_score

    varied = [i for i in range(labels.shape[1]) if 0 < labels[:, i].sum() < len(labels)]
    auc = [roc_auc_score(labels[:, i], logits[:, i]) for i in varied]
    accuracy = float(np.mean((logits > 0.0) == (labels > 0.5)))
    return accuracy, float(np.mean(auc)) if auc else None
