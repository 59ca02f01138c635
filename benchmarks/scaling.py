# SPDX-License-Identifier: Apache-2.0
"""Time and memory of the LeJEPA and Barlow Twins losses against batch size and width.

    python benchmarks/scaling.py [--quick] [--repeats 7]
        [--write docs/benchmarks/scaling.md --figure docs/assets/scaling.png]

Value and gradient of a loss on two given views of projections, compiled by XLA, each point in a
process of its own: time is the median over repeats after a warm-up, memory what XLA's buffer
assignment of the compiled function needs (arguments, results and temporaries). A curve's exponent
is the slope of its logarithm over that of the size.
"""

import argparse
import json
import os
import pathlib
import re
import statistics
import subprocess
import sys
import tempfile
import textwrap
import time

LOSSES = ("LeJEPA", "Barlow Twins")
AXES = ("batch", "width")
SLICES, BATCH, WIDTH = 1024, 256, 512
SIZES = {"batch": (256, 512, 1024, 2048, 4096), "width": (512, 1024, 2048, 4096, 8192)}
QUICK = {"batch": (64, 256), "width": (128, 512)}


def loss_function(name: str, width: int):
    """The value of a loss of two views `(B, width)`.

    Args:
        name: one of `LOSSES`.
        width: features of a projection.
    """
    from keras.ops import add

    from keras_ssl.core import distribution
    from keras_ssl.losses import barlow_twins, normalize
    from keras_ssl.losses.sigreg import lejepa

    if name == "Barlow Twins":
        return barlow_twins, ()
    draw = distribution.normal_batch(distribution.fixed_seed(0), (width, SLICES))
    directions = normalize(draw, axis=0)
    return lambda *given: add(*lejepa(given[:2], given[2]).values()), (directions,)


def measure(name: str, batch: int, width: int, repeats: int) -> float:
    """Median seconds of one value and gradient, in this process."""
    import tensorflow as tf

    from keras_ssl.core import distribution

    loss, further = loss_function(name, width)

    @tf.function(jit_compile=True)
    def step(views, further):
        with tf.GradientTape() as tape:
            tape.watch(views)
            value = loss(*views, *further)
        return value, tape.gradient(value, views)

    seeds = [distribution.fixed_seed(seed) for seed in (1, 2)]
    views = [distribution.normal_batch(seed, (batch, width)) for seed in seeds]
    seconds = []
    for _ in range(repeats + 2):
        start = time.perf_counter()
        value, _ = step(views, further)
        float(value)
        seconds.append(time.perf_counter() - start)
    # The first call compiles, the second warms the caches.
    return statistics.median(seconds[2:])


def needed_bytes(folder: str) -> int:
    """What the largest program that XLA wrote down in a folder needs."""
    reports = pathlib.Path(folder).glob("*_step_*buffer-assignment.txt")
    found = [re.search(r"Total bytes used: (\d+)", report.read_text()) for report in reports]
    if not any(found):
        raise SystemExit("XLA wrote no buffer assignment: this TensorFlow does not know the flags.")
    return max(int(match.group(1)) for match in found if match)


def point(name: str, batch: int, width: int, repeats: int) -> dict[str, float]:
    """Seconds and bytes of one size, from a fresh process."""
    with tempfile.TemporaryDirectory() as folder:
        flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_dump_to={folder} --xla_dump_hlo_as_text"
        sizes = [str(batch), str(width), str(repeats)]
        done = subprocess.run(
            [sys.executable, __file__, "--point", name, *sizes],
            env={**os.environ, "XLA_FLAGS": flags.strip()},
            capture_output=True,
            text=True,
        )
        if done.returncode:
            raise SystemExit(done.stderr)
        seconds = float(done.stdout.strip().splitlines()[-1])
        return {"seconds": seconds, "bytes": needed_bytes(folder)}


def curves(sizes: dict, repeats: int) -> dict:
    """All points: {loss: {axis: {size: {"seconds", "bytes"}}}}."""
    results: dict = {}
    for name in LOSSES:
        for axis in AXES:
            for size in sizes[axis]:
                batch, width = (size, WIDTH) if axis == "batch" else (BATCH, size)
                found = point(name, batch, width, repeats)
                results.setdefault(name, {}).setdefault(axis, {})[str(size)] = found
                print(name, axis, size, json.dumps(found), flush=True)
    return results


def exponent(curve: dict, what: str, last: int = 0) -> float:
    """Slope of the curve in logarithms, by least squares, over its last sizes (0 for all)."""
    import numpy as np

    sizes = [float(size) for size in curve][-last:]
    values = [row[what] for row in curve.values()][-last:]
    return float(np.polyfit(np.log(sizes), np.log(values), 1)[0])


def table(results: dict) -> str:
    """Exponents and end points as a Markdown table."""
    lines = [
        "| loss | grows | sizes | time exponent | memory exponent | ms | MiB |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, axes in results.items():
        for axis, curve in axes.items():
            ends = list(curve)[0], list(curve)[-1]
            slopes = [
                f"{exponent(curve, what):.2f} ({exponent(curve, what, last=2):.2f})"
                for what in ("seconds", "bytes")
            ]
            ms = " – ".join(f"{curve[size]['seconds'] * 1e3:.1f}" for size in ends)
            mib = " – ".join(f"{curve[size]['bytes'] / 2**20:.1f}" for size in ends)
            cells = [name, axis, " – ".join(ends), *slopes, ms, mib]
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def page(results: dict) -> str:
    """The page of the documentation."""
    text = (
        "Time and memory of one value and gradient of two losses, on two given views of "
        "projections, compiled by XLA, by `python benchmarks/scaling.py --write "
        "docs/benchmarks/scaling.md --figure docs/assets/scaling.png`. Batches grow at width "
        f"{WIDTH}, widths at batch {BATCH}; LeJEPA has {SLICES} directions, drawn outside. Time is "
        "the median of several runs in a process of its own, memory what XLA's buffer assignment "
        "needs for arguments, results and temporaries. An exponent is the slope in logarithms over "
        "all sizes, in brackets over the last two: 1 is linear, 2 quadratic; parts of the cost "
        "that do not grow lower it at small sizes. LeJEPA's sums over "
        "slices and knots do not depend on the width, and Barlow Twins' correlation matrix not on "
        "the batch; it holds the square of the width."
    )
    picture = "![Time and memory against batch and width](../assets/scaling.png)"
    body = "\n".join(textwrap.wrap(text, 100))
    return f"# Scaling of losses\n\n{body}\n\n{picture}\n\n{table(results)}\n"


def draw(results: dict, path: pathlib.Path) -> None:
    """Four panels of logarithmic curves: time and memory against batch and width."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, panels = pyplot.subplots(2, 2, figsize=(9, 7), sharex="col")
    kinds = (("seconds", 1e3, "ms"), ("bytes", 2**-20, "MiB"))
    for row, (what, factor, label) in zip(panels, kinds, strict=True):
        for panel, axis in zip(row, AXES, strict=True):
            for name in results:
                curve = results[name][axis]
                values = [entry[what] * factor for entry in curve.values()]
                title = f"{name}, exponent {exponent(curve, what):.2f}"
                panel.loglog([int(size) for size in curve], values, "o-", label=title)
            sizes = [int(size) for size in curve]
            panel.set_xticks(sizes, [str(size) for size in sizes])
            panel.minorticks_off()
            panel.set_ylabel(label)
            panel.grid(True, which="both", alpha=0.3)
            panel.legend(fontsize=8)
    for panel, axis, other in zip(
        panels[1], AXES, (f"width {WIDTH}", f"batch {BATCH}"), strict=True
    ):
        panel.set_xlabel(f"{axis} ({other})")
    figure.tight_layout()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)


def main() -> None:
    """Runs what the command line asks for."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="two small sizes of each")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--write", type=pathlib.Path, help="Markdown file; the JSON lies beside it")
    parser.add_argument("--figure", type=pathlib.Path, help="PNG file of the curves")
    parser.add_argument("--point", nargs=4, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.point:
        name, *sizes = options.point
        print(measure(name, *(int(size) for size in sizes)))
        return
    results = curves(QUICK if options.quick else SIZES, options.repeats)
    if options.figure:
        draw(results, options.figure)
    if options.write:
        options.write.with_suffix(".json").write_text(json.dumps(results, indent=1) + "\n")
        options.write.write_text(page(results))
    print(table(results))


if __name__ == "__main__":
    main()
