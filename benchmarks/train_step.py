# SPDX-License-Identifier: Apache-2.0
"""What the engine costs: a SimCLR step against the same passes written bare.

Both sides use equal networks (ResNet-18 with the small stem, SimCLR's projector), the same loss
and optimizer, and views that are ready (`make_views` returns two given batches), so that the
difference is what the engine adds: hooks, checks, metrics, history. Sides alternate, the first
steps of each are left out, and the ratio compares medians of one run.

    python benchmarks/train_step.py                       # batch 256, ResNet-18
    python benchmarks/train_step.py --batch-size 32 --repeats 5
    python benchmarks/train_step.py --with-views          # adds a row with SimCLR's views drawn
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from keras_ssl import backbones, losses, models

LIMIT = 1.10


def main() -> int:
    """Measures, prints a table, and returns 1 when the engine costs more than 10 %."""
    arguments = _arguments()
    keras.utils.set_random_seed(0)
    if arguments.precision != "float32":
        keras.config.set_dtype_policy(arguments.precision)
    images = np.random.default_rng(0).integers(
        0, 256, (arguments.batch_size, arguments.side, arguments.side, 3), dtype=np.uint8
    )
    sides = {
        "bare": _bare_step(_model(arguments), images, arguments.jit),
        "keras_ssl": _engine_step(_model(arguments), images, arguments.jit, ready_views=True),
    }
    if arguments.with_views:
        sides["keras_ssl, views drawn"] = _engine_step(
            _model(arguments), images, arguments.jit, ready_views=False
        )
    seconds = measure(sides, arguments.warm_up, arguments.repeats)
    ratio = _print_table(seconds, arguments)
    return 0 if ratio <= LIMIT else 1


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batch-size", type=int, default=256)
    parser.add_argument("--side", type=int, default=32, help="pixels a side")
    parser.add_argument("--width", type=int, default=64, help="channels of the first stage")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--warm-up", type=int, default=2)
    parser.add_argument("--jit", action="store_true", help="compile both sides with XLA")
    parser.add_argument("--precision", default="float32")
    parser.add_argument("--with-views", action="store_true")
    return parser.parse_args()


def _model(arguments: argparse.Namespace) -> Any:
    shape = (arguments.side, arguments.side, 3)
    encoder = backbones.ResNet(18, shape, width=arguments.width, seed=0)
    model = models.SimCLR(encoder, temperature=0.5, views="simclr", seed=0)
    model.compile(optimizer=keras.optimizers.SGD(0.01, momentum=0.9), jit_compile=arguments.jit)
    return model


def _ready(images: np.ndarray) -> list[Any]:
    """Two views that need no drawing: the images and their mirror images, as floats."""
    floats = keras.ops.cast(images, "float32") / 255.0
    return [floats, keras.ops.flip(floats, axis=2)]


def _bare_step(model: Any, images: np.ndarray, jit: bool) -> Callable[[], float]:
    """Forward, backward and update as one would write them for this method alone."""
    import tensorflow as tf

    encoder, projector, optimizer = model.encoder, model.projector, model.optimizer
    variables = encoder.trainable_variables + projector.trainable_variables
    optimizer.build(variables)

    @tf.function(jit_compile=jit)
    def step(first: Any, second: Any) -> Any:
        with tf.GradientTape() as tape:
            one = projector(encoder(first, training=True), training=True)
            two = projector(encoder(second, training=True), training=True)
            loss = losses.nt_xent([one, two], temperature=0.5)
        optimizer.apply(tape.gradient(loss, variables), variables)
        return loss

    views = _ready(images)
    return lambda: float(step(*views))


def _engine_step(
    model: Any, images: np.ndarray, jit: bool, ready_views: bool
) -> Callable[[], float]:
    """The step that `fit` runs, fed by tf.data, with the optimizer and the metrics."""
    import tensorflow as tf

    if ready_views:
        model.make_views = _ready
    model.make_train_function()
    batches = iter(tf.data.Dataset.from_tensors(images).repeat())
    return lambda: float(model.train_function(batches)["loss"])


def measure(
    sides: dict[str, Callable[[], float]], warm_up: int, repeats: int
) -> dict[str, list[float]]:
    """Seconds of every round, in each of which all sides run once; each gives its loss."""
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for repeat in range(warm_up + repeats):
        for name, run in sides.items():
            start = time.perf_counter()
            loss = run()
            elapsed = time.perf_counter() - start
            if not np.isfinite(loss):
                raise RuntimeError(f"the loss of {name} is {loss}; the timing would mean nothing.")
            if repeat >= warm_up:
                seconds[name].append(elapsed)
    return seconds


def _print_table(seconds: dict[str, list[float]], arguments: argparse.Namespace) -> float:
    bare = statistics.median(seconds["bare"])
    print(
        f"SimCLR, ResNet-18 width {arguments.width}, {arguments.side} px, batch "
        f"{arguments.batch_size}, {arguments.precision}, jit {arguments.jit}, median of "
        f"{arguments.repeats} steps after {arguments.warm_up}\n"
    )
    print("| side | ms a step | fastest | slowest | against bare |")
    print("|---|---:|---:|---:|---:|")
    for name, times in seconds.items():
        middle = statistics.median(times)
        print(
            f"| {name} | {1e3 * middle:.0f} | {1e3 * min(times):.0f} | {1e3 * max(times):.0f} | "
            f"{middle / bare:.3f} |"
        )
    ratio = statistics.median(seconds["keras_ssl"]) / bare
    print(f"\nengine against bare: {ratio:.3f} (limit {LIMIT})")
    return ratio


if __name__ == "__main__":
    sys.exit(main())
