# SPDX-License-Identifier: Apache-2.0
"""The command line: `keras-ssl pretrain | compare | evaluate | embed | methods | show`."""

from __future__ import annotations

import argparse
import logging
import os
import pathlib
import sys
from collections.abc import Sequence
from typing import Any

# Names of `Settings` that options set; an option left out has no entry in the namespace.
SETTINGS = (
    "data",
    "data_dir",
    "image_size",
    "limit",
    "method",
    "recipe",
    "backbone",
    "epochs",
    "steps",
    "batch_size",
    "strategy",
    "precision",
    "seed",
    "deterministic",
    "checkpoint_steps",
)
MISTAKES = (ValueError, FileNotFoundError, FileExistsError, NotADirectoryError, PermissionError)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command.

    Args:
        arguments: the words after the program's name; None takes those of the process.

    Returns:
        Exit status: 0, 1 where a method of a comparison failed, or 2 for a mistake in what was
        asked, told in a line or two.
    """
    # TensorFlow greets with several lines of its own before anything is computed.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    options = build_parser().parse_args(arguments)
    logging.basicConfig(format="%(message)s", level=logging.WARNING)
    logging.getLogger("keras_ssl").setLevel(logging.INFO)
    if options.debug:
        return options.run(options)
    try:
        return options.run(options)
    except MISTAKES as error:
        print(f"keras-ssl: {error}", file=sys.stderr)
        return 2


def build_parser() -> argparse.ArgumentParser:
    """The parser of all commands."""
    parser = argparse.ArgumentParser(
        prog="keras-ssl", description="Pre-trains encoders on images without labels."
    )
    parser.add_argument("--debug", action="store_true", help="show where an error comes from")
    commands = parser.add_subparsers(required=True, metavar="command")
    _add_pretrain(commands)
    _add_compare(commands)
    evaluate = commands.add_parser(
        "evaluate", help="print the table of accuracies of a finished run"
    )
    embed = commands.add_parser("embed", help="write the representations of images to a file")
    for command in (evaluate, embed):
        command.add_argument("run_dir", help="folder of the run")
        command.add_argument("--data", help="another data set than that of the run")
        command.add_argument("--data-dir", help="where tfds: data sets are prepared")
    evaluate.set_defaults(run=_evaluate)
    embed.add_argument("--output", help="the .npz file; default: features.npz in the run's folder")
    embed.set_defaults(run=_embed)
    methods = commands.add_parser("methods", help="list the methods and their recipes")
    methods.add_argument("--family", help="those of one family, such as contrastive")
    methods.set_defaults(run=_methods)
    show = commands.add_parser("show", help="all about one method, and how to begin with it")
    show.add_argument("method", help="its name, such as SimCLR or barlow-twins")
    show.set_defaults(run=_show)
    return parser


def _add_pretrain(commands: Any) -> None:
    command = commands.add_parser(
        "pretrain",
        help="pre-train an encoder; without options SimCLR on handwritten digits",
        argument_default=argparse.SUPPRESS,
    )
    add = command.add_argument
    add("--method", help="SimCLR, BYOL, SimSiam, BarlowTwins, VICReg (see keras-ssl methods)")
    add("--recipe", help="such as simclr_cifar; default: the method's for images of this size")
    _add_common(add)
    add("--epochs", type=int, help="passes over the data")
    add("--strategy", choices=("none", "mirrored"), help="mirrored: all devices of this machine")
    add("--precision", choices=("float32", "bfloat16", "float16"), help="of the computation")
    add("--deterministic", action="store_true", help="the same bits in every run, more slowly")
    add("--checkpoint-steps", type=int, help="save every so many steps, besides every 30 seconds")
    add("--run-dir", default=None, help="folder of the run; default: a fresh one under runs/")
    add("--resume", action="store_true", default=False, help="continue the run in --run-dir")
    add("--config", default=None, help="repeat the run of a config.json; other options change it")
    command.set_defaults(run=_pretrain)


def _add_compare(commands: Any) -> None:
    command = commands.add_parser(
        "compare",
        help="pre-train several methods with the same encoder, data and steps, side by side",
        argument_default=argparse.SUPPRESS,
    )
    command.add_argument("--methods", required=True, help="names with commas, such as SimCLR,BYOL")
    _add_common(command.add_argument)
    command.add_argument("--output", default=None, help="folder; default: one under runs/")
    command.set_defaults(run=_compare)


def _add_common(add: Any) -> None:
    """Options of every command that trains."""
    add("--data", help="digits, tfds:NAME, folder:PATH or npz:PATH?x=NAME&y=NAME")
    add("--data-dir", help="where tfds: data sets are prepared")
    add("--image-size", type=int, help="bring images to this side, in pixels")
    add("--limit", type=int, help="use at most so many training images")
    add("--backbone", help="such as convnet, resnet18, vit_tiny or applications:NAME")
    add("--steps", type=int, help="most optimizer steps; compare takes 500 unless told")
    add("--batch-size", type=int, help="images in a step, over all replicas")
    add("--seed", type=int, help="of weights, views and the order of the data; default 0")


def _given(options: argparse.Namespace) -> dict[str, Any]:
    return {name: getattr(options, name) for name in SETTINGS if hasattr(options, name)}


def _compare(options: argparse.Namespace) -> int:
    from keras_ssl import run
    from keras_ssl.run.comparison_page import table

    names = [name.strip() for name in options.methods.split(",") if name.strip()]
    if not names:
        raise ValueError("--methods names no method; expected names such as SimCLR,BYOL.")
    folder, content = run.compare(names, run.Settings(**_given(options)), output=options.output)
    print("\n" + table(content))
    print(f"\nWritten to {folder}: {', '.join(sorted(os.listdir(folder)))}")
    return int(any("failed" in row for row in content["rows"].values()))


def _pretrain(options: argparse.Namespace) -> int:
    from keras_ssl import run
    from keras_ssl.run.folder import read_json

    given = _given(options)
    expected = None
    if options.resume:
        if given or options.config:
            names = [*given, *(["config"] if options.config else [])]
            raise ValueError(
                "--resume continues with the settings of the run, so it goes without "
                + ", ".join("--" + name.replace("_", "-") for name in names)
                + ". Leave them out, or start another run with --config."
            )
        settings = run.Settings()
    elif options.config:
        config = read_json(options.config)
        stored = run.Settings.from_config(config)
        if {"data", "image_size", "limit"}.isdisjoint(given):
            expected = config.get("data", {}).get("fingerprint")
        settings = _changed(stored, given)
    else:
        settings = run.Settings(**given)
    folder, table = run.pretrain(
        settings, run_dir=options.run_dir, resume=options.resume, expected_data=expected
    )
    if table is not None:
        print("\n" + run.format_table(table))
        print(f"(test part held out; mean ± std over {run.report.DRAWS} draws of the labels)")
    print(f"\nWritten to {folder.path}: {', '.join(sorted(os.listdir(folder.path)))}")
    return 0


def _changed(settings: Any, given: dict[str, Any]) -> Any:
    import dataclasses

    if "method" in given and "recipe" not in given:
        # The stored recipe belongs to the stored method, and the encoder to its recipe.
        given = {"recipe": None, "backbone_options": None, **given}
    if "backbone" in given:
        given = {"backbone_options": None, **given}
    return dataclasses.replace(settings, **given)


def _evaluate(options: argparse.Namespace) -> int:
    from keras_ssl import run

    table = run.evaluate_run(options.run_dir, data=options.data, data_dir=options.data_dir)
    print(run.format_table(table))
    return 0


def _embed(options: argparse.Namespace) -> int:
    import numpy as np

    from keras_ssl.evaluation import extract_features
    from keras_ssl.run.report import open_run

    source, _, encoder = open_run(options.run_dir, data=options.data, data_dir=options.data_dir)
    path = pathlib.Path(options.output or pathlib.Path(options.run_dir) / "features.npz")
    arrays = {}
    for name, part in {"train": source, "test": source.test}.items():
        if part is None:
            continue
        arrays[f"{name}_features"] = extract_features(encoder, part.images)
        if part.labels is not None:
            arrays[f"{name}_labels"] = part.labels
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "wb") as file:
        np.savez_compressed(file, **arrays)
    shapes = ", ".join(f"{name} {array.shape}" for name, array in arrays.items())
    print(f"Written to {path}: {shapes}")
    return 0


def _methods(options: argparse.Namespace) -> int:
    from keras_ssl.run import catalogue

    print(catalogue.listing(options.family))
    return 0


def _show(options: argparse.Namespace) -> int:
    from keras_ssl.run import catalogue

    print(catalogue.show(options.method))
    return 0


if __name__ == "__main__":
    sys.exit(main())
