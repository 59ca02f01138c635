# SPDX-License-Identifier: Apache-2.0
"""One method of a comparison, in a process of its own: may it take part, and how it does."""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np

from keras_ssl import recipes
from keras_ssl.run import memory, report
from keras_ssl.run.checkpoint import MetricsFile, StopAfter
from keras_ssl.run.feed import build_feed
from keras_ssl.run.folder import RunFolder
from keras_ssl.run.settings import Settings, choose_recipe, describe, resolve
from keras_ssl.run.training import build_model, device_name, guided, load_data, set_up


@dataclasses.dataclass
class Entry:
    """What is written of one encoder.

    Args:
        row: numbers by name, ready for JSON.
        right: which test rows are right, by protocol; empty without labels.
    """

    row: dict[str, Any]
    right: dict[str, np.ndarray]


@dataclasses.dataclass
class Start:
    """What is known before anything trains.

    Args:
        refused: why a method cannot take part, by its name; the rest is empty if there are any.
        settings: of each method, with the encoder that all have.
        untrained: that encoder before any training.
        config: what they have in common, with data, device and versions, ready for JSON.
        without_labels: why there are no accuracies, or None.
    """

    refused: dict[str, str]
    settings: dict[str, Settings] = dataclasses.field(default_factory=dict)
    untrained: Entry | None = None
    config: dict[str, Any] = dataclasses.field(default_factory=dict)
    without_labels: str | None = None


def prepare(methods: Sequence[str], settings: Settings) -> Start:
    """Checks every method against the data and against the encoder that all shall have.

    Args:
        methods: names of model classes.
        settings: what they have in common; without a backbone that of the first one's recipe.

    Returns:
        Settings of each, or the reasons why some cannot.
    """
    source = load_data(settings)
    own, refused = {}, {}
    for name in methods:
        own[name] = dataclasses.replace(settings, method=name)
        try:
            recipe = choose_recipe(own[name], source.image_shape)
        except ValueError as error:
            refused[name] = str(error)
            continue
        own[name] = resolve(own[name], recipe)
    fitting = {name: one for name, one in own.items() if name not in refused}
    if not fitting:
        return Start(refused)
    backbone = settings.backbone or next(iter(fitting.values())).backbone
    tried = []
    for options in _options(backbone, fitting.values()):
        shared = {"backbone": backbone, "backbone_options": options}
        fitting = {name: dataclasses.replace(one, **shared) for name, one in fitting.items()}
        tried.append(({**refused, **_unfit(fitting, source)}, dict(fitting)))
        if not tried[-1][0]:
            break
    refused, fitting = min(tried, key=lambda found: len(found[0]))
    if refused:
        return Start(refused)
    first = next(iter(fitting.values()))
    set_up(first)
    encoder = build_model(first, source)[0].standalone_encoder()
    config = {**describe(first, source, device_name()), "normalised_as": first.method}
    # What is only the first one's.
    config.pop("recipe")
    config["settings"] = dataclasses.asdict(
        dataclasses.replace(settings, backbone=backbone, backbone_options=first.backbone_options)
    )
    untrained = measured(encoder, source, {})
    return Start({}, fitting, untrained, config, report.missing_labels(source))


def train(settings: Settings, path: str, verbose: str | int = "auto") -> Entry:
    """Trains one method and measures what came of it.

    Args:
        settings: resolved, with the number of steps.
        path: folder of its run.
        verbose: as in `keras.Model.fit`.

    Returns:
        Its row: accuracies aside what `measured` has, and steps, seconds and memory.
    """
    source, steps = load_data(settings), int(settings.steps or 0)
    set_up(settings)
    before = memory.resident()
    # The schedules of a recipe end with the comparison, not where its own epochs would.
    epochs = math.ceil(steps / build_feed(settings, source).steps_per_epoch)
    settings = dataclasses.replace(settings, epochs=epochs)
    model, feed = build_model(settings, source)
    folder = RunFolder.create(path, "")
    folder.write_json(folder.config, describe(settings, source, device_name()))
    clock, started = Clock(), time.perf_counter()
    if model.guides_batches:
        feed = guided(model, feed, folder)
    model.fit(
        feed.stream(),
        epochs=math.ceil(steps / feed.steps_per_epoch),
        steps_per_epoch=feed.steps_per_epoch,
        callbacks=[MetricsFile(folder.metrics), StopAfter(steps), clock],
        verbose=verbose,
    )
    seconds, after = time.perf_counter() - started, memory.peak()
    row = {
        "recipe": settings.recipe,
        "steps": int(model.optimizer.iterations.numpy()),
        "seconds": seconds,
        "step_seconds": clock.median(),
        "memory_before": before,
        "memory_peak": after,
        "memory": None if before is None or after is None else max(after - before, 0),
    }
    encoder = model.standalone_encoder()
    encoder.save(folder.encoder)
    entry = measured(encoder, source, row)
    without = "this run is part of a comparison, whose compare.json has its numbers"
    folder.write_json(
        folder.results, {"table": None, "without_table": without, "steps": row["steps"]}
    )
    return entry


def measured(encoder: keras.Model, source: Any, row: Mapping[str, Any]) -> Entry:
    """What an encoder is worth on a data set.

    Args:
        encoder: from raw images to vectors.
        source: a `keras_ssl.data.Source`.
        row: what is known besides.

    Returns:
        The row with width and RankMe of the test part (without one, of the training part), and
        which test rows are right, where there are labels.

    Raises:
        ValueError: if representations are not finite.
    """
    from keras_ssl.evaluation import extract_features
    from keras_ssl.evaluation.comparison import right_rows
    from keras_ssl.metrics import rank_me

    test = extract_features(encoder, (source.test or source).images)
    if not np.isfinite(test).all():
        raise ValueError("its representations are not finite: the training diverged")
    found = {**row, "width": int(test.shape[1]), "rank_me": float(rank_me(test))}
    if report.missing_labels(source) is not None:
        return Entry(found, {})
    features = extract_features(encoder, source.images)
    k = min(20, int((source.labels >= 0).sum()))
    return Entry(found, right_rows(features, source.labels, test, source.test.labels, k=k))


class Clock(keras.callbacks.Callback):
    """Takes the time of every step."""

    def __init__(self) -> None:
        super().__init__()
        self._seconds: list[float] = []
        self._started = 0.0

    def on_train_batch_begin(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Starts."""
        self._started = time.perf_counter()

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Stops."""
        self._seconds.append(time.perf_counter() - self._started)

    def median(self) -> float | None:
        """Seconds of a step without the first one, which compiles; None of a single step."""
        return float(np.median(self._seconds[1:])) if len(self._seconds) > 1 else None


def _options(backbone: str | None, fitting: Any) -> list[Any]:
    """Arguments that the encoder may have: those of the recipes, then its builder's own."""
    found = [recipes.get(one.recipe or "") for one in fitting]
    options = [recipe.backbone_options for recipe in found if recipe.backbone == backbone]
    distinct: list[Any] = []
    for given in [*options, {}]:
        if dict(given) not in distinct:
            distinct.append(dict(given))
    return distinct


def _unfit(fitting: Mapping[str, Settings], source: Any) -> dict[str, str]:
    """Why some of the methods cannot be built for this data and encoder."""
    refused = {}
    for name, settings in fitting.items():
        set_up(settings)
        try:
            build_model(settings, source)
        except ValueError as error:
            refused[name] = str(error)
        keras.backend.clear_session()
    return refused
