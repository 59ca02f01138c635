# SPDX-License-Identifier: Apache-2.0
"""Pre-training from settings to a filled run folder."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import logging
import math
import pathlib
from collections.abc import Mapping
from typing import Any

import keras
import numpy as np

from keras_ssl.run import report
from keras_ssl.run.checkpoint import (
    Checkpoint,
    MetricsFile,
    Position,
    StopAfter,
    load_state,
    save_state,
)
from keras_ssl.run.feed import build_feed, guided
from keras_ssl.run.folder import RunFolder, read_json
from keras_ssl.run.settings import PRECISIONS, Settings, choose_recipe, describe, resolve

logger = logging.getLogger("keras_ssl")
MONITORED = 512
# Of a data set that is clustered whole, so that clusters say more than single images do.
FEWEST_IN_CLUSTER = 10


def pretrain(
    settings: Settings,
    *,
    run_dir: str | None = None,
    resume: bool = False,
    expected_data: str | None = None,
    verbose: str | int = "auto",
) -> tuple[RunFolder, dict[str, Any] | None]:
    """Pre-trains an encoder and fills a run folder.

    Args:
        settings: what to do; ignored in favour of the folder's own when resuming.
        run_dir: folder of the run; None for a fresh one under `runs/`.
        resume: whether to continue the run in `run_dir`.
        expected_data: fingerprint the data should have; another one is warned of.
        verbose: as in `keras.Model.fit`.

    Returns:
        The folder, and the table of accuracies (None without labels).

    Raises:
        ValueError: for settings that contradict each other or data that does not fit.
        FileExistsError: if `run_dir` already holds a run and `resume` is False.
    """
    if resume:
        folder, settings, expected_data = _reopen(run_dir)
    source = load_data(settings)
    if expected_data is not None and source.fingerprint != expected_data:
        message = f"{source.name} is not the data of the configuration: its fingerprint differs."
        if resume:
            raise ValueError(f"{message} A run continues on its own data only.")
        logger.warning("%s The run will not be the same.", message)
    settings = resolve(settings, choose_recipe(settings, source.image_shape))
    strategy = set_up(settings)
    model, feed = build_model(settings, source, strategy)
    if not resume:
        name = f"{settings.recipe}-{source.name}".replace(":", "-").replace("/", "-")
        folder = RunFolder.create(run_dir, name)
        folder.write_json(folder.config, describe(settings, source, device_name()))
    print(f"Run folder: {folder.path}", flush=True)
    if model.guides_batches:
        feed = guided(model, feed, folder)

    reason = report.missing_labels(source)
    before = None if reason else report.features_of(model.standalone_encoder(), source)
    position = Position()
    if resume and folder.checkpoint.exists():
        position = load_state(folder.checkpoint, model)
        print(f"Continues at epoch {position.epoch + 1}, batch {position.batch + 1}", flush=True)
    report.save_views(folder.views, model, source.images)
    position = _fit(model, feed, settings, folder, position, source, verbose)
    save_state(folder.checkpoint, model, position)
    return folder, _finish(model, source, folder, before, reason)


def load_data(settings: Settings) -> Any:
    """The data set of a run.

    Args:
        settings: what was asked for.

    Returns:
        A `keras_ssl.data.Source`.
    """
    from keras_ssl import data

    return data.load(
        settings.data,
        image_size=settings.image_size,
        data_dir=settings.data_dir,
        limit=settings.limit,
    )


def set_up(settings: Settings) -> Any:
    """Fixes seeds and precision, and makes the distribution strategy.

    Args:
        settings: what was asked for.

    Returns:
        A `tf.distribute.MirroredStrategy`, or None.
    """
    import tensorflow as tf

    keras.utils.set_random_seed(settings.seed)
    keras.config.set_dtype_policy(PRECISIONS[settings.precision])
    if settings.deterministic:
        tf.config.experimental.enable_op_determinism()
    if settings.strategy == "none":
        return None
    devices = tf.config.list_logical_devices("GPU") or tf.config.list_logical_devices("CPU")
    return _mirrored(tuple(device.name for device in devices))


@functools.cache
def _mirrored(devices: tuple[str, ...]) -> Any:
    """One strategy for all runs of a process: two would number their collective ops alike."""
    import tensorflow as tf

    return tf.distribute.MirroredStrategy(devices)


def device_name() -> str:
    """What TensorFlow computes on, in words."""
    import tensorflow as tf

    names = [
        tf.config.experimental.get_device_details(device).get("device_name", device.name)
        for device in tf.config.list_physical_devices("GPU")
    ]
    return ", ".join(names) or f"CPU, {len(tf.config.list_logical_devices('CPU'))} logical"


def build_model(settings: Settings, source: Any, strategy: Any = None) -> tuple[Any, Any]:
    """The compiled model of a run and its batches.

    Args:
        settings: what was asked for.
        source: the data set.
        strategy: where the variables live; None for the default device.

    Returns:
        `(model, keras_ssl.data.EpochData)`.

    Raises:
        ValueError: if the data cannot fill a batch of at least two images.
    """
    recipe = choose_recipe(settings, source.image_shape)
    settings = resolve(settings, recipe)
    feed = build_feed(settings, source, strategy is not None)
    scope = strategy.scope() if strategy is not None else contextlib.nullcontext()
    options, encoder = _sized(recipe.model, source), settings.backbone_options
    with scope:
        model = recipe.build(
            tuple(source.image_shape),
            feed.steps_per_epoch,
            settings.seed,
            backbone=settings.backbone,
            epochs=settings.epochs,
            batch_size=feed.batch_size,
            model=options,
            **({} if encoder is None else {"backbone_options": encoder}),
        )
    return model, feed


def _sized(options: Mapping[str, Any], source: Any) -> dict[str, Any]:
    """Arguments of a model class, with those that follow from the data in place of the recipe's."""
    options, rows = dict(options), len(source.images)
    if "classes" in options and source.labels is not None:
        options["classes"] = int(source.labels.max()) + 1
    if "samples" in options:
        options["samples"] = rows
        most = max(rows // FEWEST_IN_CLUSTER, 1)
        fitting = tuple(min(count, most) for count in options["prototypes"])
        if fitting != tuple(options["prototypes"]):
            logger.warning(
                "%d images are few for prototypes=%s; %s are used.",
                rows,
                options["prototypes"],
                fitting,
            )
        options["prototypes"] = fitting
    return options


def read_model(path: pathlib.Path) -> Any:
    """Loads a model that a run has saved.

    Args:
        path: a `.keras` file.

    Returns:
        The model.
    """
    import keras_ssl

    return keras_ssl.load_model(str(path))


def _reopen(run_dir: str | None) -> tuple[RunFolder, Settings, str]:
    if run_dir is None:
        raise ValueError("--resume needs --run-dir: the folder of the run to continue.")
    folder = RunFolder.open(run_dir)
    if folder.results.exists():
        raise ValueError(
            f"The run in {run_dir} has ended; nothing is left to resume. Look at it with "
            f"`keras-ssl evaluate {run_dir}`, or start another with --config {folder.config}."
        )
    config = read_json(folder.config)
    return folder, Settings.from_config(config), config["data"]["fingerprint"]


def _fit(
    model: Any,
    feed: Any,
    settings: Settings,
    folder: RunFolder,
    start: Position,
    source: Any,
    verbose: str | int,
) -> Position:
    epochs = int(settings.epochs or 0)
    if settings.steps is not None:
        epochs = min(epochs, math.ceil(settings.steps / feed.steps_per_epoch))
    if start.epoch >= epochs or (settings.steps is not None and start.step >= settings.steps):
        return start
    checkpoint = Checkpoint(
        folder.checkpoint, feed.steps_per_epoch, start, every_steps=settings.checkpoint_steps
    )
    callbacks = [*_watchers(model, source, settings, folder, epochs)]
    callbacks += [MetricsFile(folder.metrics, start.epoch), checkpoint]
    if settings.steps is not None:
        callbacks.append(StopAfter(settings.steps, start.step))
    epoch, batch = start.epoch, start.batch
    if batch:
        # The broken epoch is finished by a fit of its own, so that epochs end where they should.
        model.fit(
            feed.stream(epoch, batch, epochs=1),
            initial_epoch=epoch,
            epochs=epoch + 1,
            steps_per_epoch=feed.steps_per_epoch - batch,
            callbacks=callbacks,
            verbose=verbose,
        )
        epoch += 1
    if epoch < epochs and not model.stop_training:
        model.fit(
            feed.stream(epoch, epochs=epochs - epoch),
            initial_epoch=epoch,
            epochs=epochs,
            steps_per_epoch=feed.steps_per_epoch,
            callbacks=callbacks,
            verbose=verbose,
        )
    return checkpoint.position


def _watchers(
    model: Any, source: Any, settings: Settings, folder: RunFolder, epochs: int
) -> list[Any]:
    from keras_ssl import callbacks
    from keras_ssl.callbacks.reconstruction_pictures import shows_samples
    from keras_ssl.callbacks.token_pictures import shows_tokens

    log_dir = str(folder.tensorboard)
    every = max(1, epochs // 10)
    found: list[Any] = []
    if report.missing_labels(source) is None:
        bank, test = source.take(5000), source.test.take(1000)
        rows = int((bank.labels >= 0).sum())
        found.append(
            callbacks.OnlineKNN(
                (bank.images, bank.labels),
                (test.images, test.labels),
                k=min(20, rows),
                every=every,
                log_dir=log_dir,
            )
        )
    images = (source.test or source).images[:MONITORED]
    if len(images) > 1:
        found.append(callbacks.RepresentationMonitor(images, log_dir=log_dir))
    found.append(callbacks.ViewPictures(source.images, log_dir, every=every))
    if shows_samples(model):
        found.append(callbacks.ReconstructionPictures(images, log_dir, every=every))
    if shows_tokens(model):
        found.append(callbacks.TokenPictures(images, log_dir, every=every))
    found.append(callbacks.TrainingBoard(log_dir))
    return found


def _finish(
    model: Any,
    source: Any,
    folder: RunFolder,
    before: dict[str, np.ndarray] | None,
    reason: str | None,
) -> dict[str, Any] | None:
    model.save(folder.model)
    encoder = model.standalone_encoder()
    encoder.save(folder.encoder)
    table = None
    if before is None:
        print(f"No table of accuracies: {reason}.", flush=True)
        shown = source if source.test is None else source.test
        features = report.features_of(encoder, dataclasses.replace(source, test=shown))["test"]
        report.save_embedding(folder.embedding, features, None)
    else:
        after = report.features_of(encoder, source)
        report.save_embedding(folder.embedding, after["test"], source.test.labels)
        raw = report.features_of(None, source)
        table = {
            name: report.measure(features, source)
            for name, features in (
                (report.RAW, raw),
                (report.RANDOM, before),
                (report.TRAINED, after),
            )
        }
    # Written last: its presence says that the run has ended.
    folder.write_json(
        folder.results,
        {
            "table": table,
            "draws": report.DRAWS,
            "without_table": reason,
            "steps": int(model.optimizer.iterations.numpy()),
        },
    )
    return table
