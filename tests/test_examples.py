# SPDX-License-Identifier: Apache-2.0
"""The programs in examples/, over a few steps."""

import json
import os
import pathlib
import subprocess
import sys

import keras
import pytest
from test_callbacks import tags

import keras_ssl

ROOT = pathlib.Path(keras_ssl.__file__).parents[1]


def program(name, folder, *options):
    """Runs a program of `examples` in a folder; returns what it printed."""
    command = [sys.executable, str(ROOT / "examples" / name), *map(str, options)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        command, capture_output=True, text=True, cwd=folder, timeout=600, env=environment
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
def test_a_folder_of_images_becomes_an_encoder_and_a_score(tmp_path):
    out = tmp_path / "encoder.keras"
    printed = program("own_images.py", tmp_path, "--epochs", 1, "--size", 16, "--out", out)
    assert "kNN accuracy" in printed
    encoder = keras.models.load_model(out)
    assert encoder.input_shape[1:] == (16, 16, 3)


@pytest.mark.slow
def test_attention_is_drawn_before_and_after_training(tmp_path):
    options = ("--images", 128, "--steps", 3, "--batch-size", 32, "--out", tmp_path / "maps")
    program("attention_maps.py", tmp_path, *options)
    before, after = (tmp_path / "maps" / name for name in ("before.png", "after.png"))
    assert before.read_bytes() != after.read_bytes()
    encoder = keras.models.load_model(tmp_path / "maps" / "encoder.keras")
    assert encoder.input_shape[1:] == (16, 16, 1)


@pytest.mark.slow
def test_little_noise_is_learned_first_from_latents(tmp_path):
    options = ("--depths", 1, 2, "--points", 9, "--out", tmp_path)
    lines = program("jepa_avoids_noisy_features.py", tmp_path, *options).splitlines()[1:5]
    times = [[float(word) for word in line.split(":")[1].split()] for line in lines]
    # Latents of one layer: the noisy feature first; of two: the clean one; inputs: as of one.
    assert [row[0] < row[1] for row in times] == [False, True, False, False]
    assert (tmp_path / "learning.png").stat().st_size > 10_000


@pytest.mark.slow
def test_every_layer_is_probed_and_the_best_is_kept(tmp_path):
    options = ("--images", 300, "--test-images", 100, "--depth", 2, "--steps", 3, "--out", tmp_path)
    printed = program("which_layer.py", tmp_path, *options)
    found = json.loads((tmp_path / "layers.json").read_text())
    assert set(found["trained"]) == {"block 1", "block 2", "last 2 side by side"}
    assert f"Best on held training labels: block {found['best']}" in printed
    assert (tmp_path / "layers.png").stat().st_size > 5_000
    encoder = keras.models.load_model(tmp_path / "encoder.keras")
    assert encoder.output_shape == (None, 64)


@pytest.mark.slow
def test_all_that_can_be_watched_is_written(tmp_path):
    options = ("--images", 64, "--batch-size", 32, "--epochs", 1, "--out", tmp_path / "run")
    program("watch_a_run.py", tmp_path, "--encoder", "transformer", *options)
    scalars, pictures = tags(tmp_path / "run")
    assert pictures == {"views", "neighbours", "map", "tokens"}
    wanted = {"loss/total", "schedule/weight_decay", "quality/probe", "gradient_norm/encoder"}
    assert wanted <= set(scalars)
    assert (tmp_path / "run" / "projector_config.pbtxt").exists()
