# SPDX-License-Identifier: Apache-2.0
"""The command line: what it writes, refuses, repeats and resumes."""

import json
import os
import pathlib
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

import keras_ssl
from keras_ssl import cli, run
from keras_ssl.recipes import Recipe
from keras_ssl.run import report, training
from keras_ssl.run.folder import RunFolder

ROOT = pathlib.Path(keras_ssl.__file__).parents[1]
SMALL = ["--limit", "200", "--batch-size", "64", "--steps", "5", "--epochs", "2"]


def command(*arguments: str) -> list[str]:
    """The command line as a process."""
    return [sys.executable, "-m", "keras_ssl.cli", *arguments]


def environment() -> dict[str, str]:
    """One thread less to wait for, and the checkout on the path."""
    return {**os.environ, "PYTHONPATH": str(ROOT), "TF_CPP_MIN_LOG_LEVEL": "2"}


@pytest.fixture(autouse=True)
def few_draws(request, monkeypatch):
    """Two draws of the labels say as much here as ten; the slow tests of accuracy take all."""
    if request.node.get_closest_marker("slow") is None:
        draw_little(monkeypatch)


def draw_little(patch):
    """Few draws of labels, and few points on the map."""
    patch.setattr(report, "DRAWS", 2)
    patch.setattr(report, "MAP_POINTS", 40)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "first"
    with pytest.MonkeyPatch.context() as patch:
        draw_little(patch)
        assert cli.main(["pretrain", *SMALL, "--run-dir", str(folder)]) == 0
    return folder


def test_a_run_leaves_everything_behind(finished):
    names = {path.name for path in finished.iterdir()}
    assert names >= {
        "model.keras",
        "encoder.keras",
        "config.json",
        "metrics.csv",
        "tensorboard",
        "views.png",
        "embedding.png",
        "results.json",
    }
    config = json.loads((finished / "config.json").read_text())
    assert config["settings"]["recipe"] == "simclr_digits"
    assert config["settings"]["seed"] == config["seeds"]["weights"] == 0
    assert len(config["data"]["fingerprint"]) == 64
    results = json.loads((finished / "results.json").read_text())
    assert results["steps"] == 5
    assert list(results["table"]) == ["raw pixels", "random encoder", "pre-trained encoder"]
    assert set(results["table"]["raw pixels"]["labels_per_class"]) == {"1", "2", "5", "10"}
    header = (finished / "metrics.csv").read_text().splitlines()[0].split(",")
    assert {"epoch", "loss", "nt_xent", "knn", "rank_me"} <= set(header)


def test_the_saved_encoder_takes_raw_images(finished):
    encoder = keras_ssl.load_model(finished / "encoder.keras")
    features = encoder.predict(np.zeros((2, 16, 16, 1), "uint8"), verbose=0)
    assert features.shape == (2, 128)


def test_evaluate_prints_the_same_table(finished, capsys):
    assert cli.main(["evaluate", str(finished)]) == 0
    table = json.loads((finished / "results.json").read_text())["table"]
    assert capsys.readouterr().out.strip().endswith(run.format_table(table).strip())


def test_embed_writes_features(finished, tmp_path):
    path = tmp_path / "features.npz"
    assert cli.main(["embed", str(finished), "--output", str(path)]) == 0
    with np.load(path) as arrays:
        assert arrays["train_features"].shape == (200, 128)
        assert len(arrays["test_labels"]) == len(arrays["test_features"])


def test_a_folder_with_a_run_is_refused_untouched(finished, capsys):
    before = (finished / "config.json").read_bytes()
    assert cli.main(["pretrain", *SMALL, "--run-dir", str(finished)]) == 2
    said = capsys.readouterr().err
    assert "--resume" in said and "another folder" in said
    assert (finished / "config.json").read_bytes() == before


def test_a_finished_run_is_not_resumed(finished, capsys):
    assert cli.main(["pretrain", "--resume", "--run-dir", str(finished)]) == 2
    assert "has ended" in capsys.readouterr().err


@pytest.mark.slow
def test_config_repeats_the_run(finished, tmp_path):
    again = tmp_path / "again"
    config = str(finished / "config.json")
    assert cli.main(["pretrain", "--config", config, "--run-dir", str(again)]) == 0
    first, second = (json.loads((p / "config.json").read_text()) for p in (finished, again))
    assert first["settings"] == second["settings"]
    first, second = (keras_ssl.load_model(p / "model.keras") for p in (finished, again))
    for a, b in zip(first.trainable_variables, second.trainable_variables, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)


@pytest.mark.slow
def test_without_labels_there_is_no_table(tmp_path, capsys):
    images = np.random.default_rng(0).integers(0, 255, (64, 16, 16, 1), "uint8")
    np.savez(tmp_path / "images.npz", x=images)
    folder = tmp_path / "run"
    data = f"npz:{tmp_path / 'images.npz'}?x=x"
    arguments = ["pretrain", "--data", data, "--steps", "2", "--batch-size", "32"]
    assert cli.main([*arguments, "--run-dir", str(folder)]) == 0
    assert "No table of accuracies" in capsys.readouterr().out
    assert cli.main(["evaluate", str(folder)]) == 2
    assert "needs labels" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--method", "SimCLRR"], "Did you mean SimCLR"),
        (["--recipe", "simclr_digit"], "simclr_digits"),
        (["--backbone", "resnet19"], "resnet18"),
        (["--batch-size", "1"], "at least 2"),
        (["--epochs", "0"], "at least 1"),
        (["--data", "nothing"], "digits, tfds:NAME"),
        (["--method", "BYOL", "--recipe", "simclr_digits"], "Leave one of the two out"),
        (["--recipe", "audio_mae_audioset"], "takes samples of shape (1024, 128, 1)"),
        (["--method", "LVMAE"], "no method of images alone"),
        (["--resume"], "--run-dir"),
        (["--resume", "--seed", "3"], "--seed"),
    ],
)
def test_mistakes_are_told_in_one_line(arguments, said, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert cli.main(["pretrain", *arguments]) == 2
    assert said in capsys.readouterr().err
    assert not list(tmp_path.glob("runs/*"))


def test_methods_are_listed(capsys):
    assert cli.main(["methods"]) == 0
    said = capsys.readouterr().out
    for name in ("BYOL", "BarlowTwins", "SimCLR", "SimSiam", "VICReg"):
        assert f"{name} " in said
    assert "vicreg_imagenet" in said


def test_fresh_folders_differ(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    paths = {RunFolder.create(None, "run").path for _ in range(3)}
    assert len(paths) == 3


def test_a_foreign_checkpoint_is_refused(tmp_path):
    from keras_ssl import recipes
    from keras_ssl.run.checkpoint import Position, load_state, save_state

    model = recipes.get("simclr_digits").build((16, 16, 1), 4, seed=0)
    other = recipes.get("vicreg_digits").build((16, 16, 1), 4, seed=0)
    path = tmp_path / "state.npz"
    save_state(path, model, Position(1, 2, 6))
    assert load_state(path, model) == Position(1, 2, 6)
    with pytest.raises(ValueError, match="another model"):
        load_state(path, other)
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(ValueError, match="not a readable checkpoint"):
        load_state(path, model)


def test_a_row_with_nan_is_named_and_ends_the_run(tmp_path, capsys):
    images = np.random.default_rng(0).uniform(size=(64, 16, 16, 1)).astype("float32")
    images[13, 2, 2, 0] = np.nan
    np.savez(tmp_path / "bad.npz", x=images)
    options = ["--data", f"npz:{tmp_path}/bad.npz?x=x", "--batch-size", "32", "--epochs", "1"]
    options += ["--recipe", "simclr_digits", "--run-dir", str(tmp_path / "run")]
    assert cli.main(["pretrain", *options]) == 2
    assert "Row 13" in capsys.readouterr().err


def test_the_number_of_classes_is_that_of_the_data(monkeypatch):
    built = []
    monkeypatch.setattr(Recipe, "build", lambda self, *a, **k: built.append(k["model"]))
    settings = run.Settings(method="Hydra", limit=200)
    training.build_model(settings, training.load_data(settings))
    assert built[0]["classes"] == 10 and built[0]["temperature"] == 0.1


def test_runs_of_one_process_share_a_strategy():
    settings = run.Settings(strategy="mirrored")
    assert training.set_up(settings) is training.set_up(settings) is not None


def test_a_method_that_uses_labels_gets_them(tmp_path, capsys):
    settings = run.Settings(method="SupCon", backbone="convnet", limit=200, batch_size=64)
    source = training.load_data(settings)
    _, feed = training.build_model(settings, source)
    _, labels = next(iter(feed.stream(epochs=1)))
    assert set(np.asarray(labels)) <= set(range(10)) and labels.shape == (64,)
    np.savez(tmp_path / "bare.npz", x=np.zeros((64, 16, 16, 1), "uint8"))
    options = ["--method", "SupCon", "--backbone", "convnet", *SMALL]
    options += ["--data", f"npz:{tmp_path}/bare.npz?x=x", "--run-dir", str(tmp_path / "other")]
    assert cli.main(["pretrain", *options]) == 2
    assert "has no labels" in capsys.readouterr().err


@pytest.mark.slow
def test_a_method_that_uses_numbers_gets_them(tmp_path, caplog):
    """200 images of which 20 are a batch: clustered before steps 0, 10 and 20."""
    images = np.random.default_rng(0).integers(0, 255, (200, 16, 16, 1), "uint8")
    np.savez(tmp_path / "images.npz", x=images)
    options = ["--data", f"npz:{tmp_path}/images.npz?x=x", "--method", "DeepClusterV2"]
    options += ["--backbone", "convnet", "--batch-size", "20", "--steps", "12"]
    assert cli.main(["pretrain", *options, "--run-dir", str(tmp_path / "run")]) == 0
    model = keras_ssl.load_model(tmp_path / "run" / "model.keras")
    assert model.samples == 200 and int(model.clustered) == 10
    # 3000 clusters of the recipe are too many for these images.
    assert model.prototypes == (20, 20, 20) and "200 images are few" in caplog.text
    assert np.asarray(model.assignments).min() >= 0


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_default_job_keeps_its_promise(seed, tmp_path):
    assert cli.main(["pretrain", "--seed", str(seed), "--run-dir", str(tmp_path / "run")]) == 0
    table = json.loads((tmp_path / "run" / "results.json").read_text())["table"]
    raw, encoder = table["raw pixels"], table["pre-trained encoder"]
    one = [row["labels_per_class"]["1"]["mean"] for row in (raw, encoder)]
    assert one[1] - one[0] >= 0.08
    assert encoder["knn"] >= raw["knn"]


@pytest.mark.slow
def test_several_devices_and_half_precision(tmp_path):
    options = [
        "--strategy",
        "mirrored",
        "--precision",
        "bfloat16",
        "--run-dir",
        str(tmp_path / "run"),
    ]
    assert cli.main(["pretrain", *SMALL, *options]) == 0
    results = json.loads((tmp_path / "run" / "results.json").read_text())
    assert results["steps"] == 5 and results["table"] is not None
    encoder = keras_ssl.load_model(tmp_path / "run" / "encoder.keras")
    features = encoder.predict(np.zeros((2, 16, 16, 1), "uint8"), verbose=0)
    assert np.isfinite(features).all()


@pytest.mark.slow
def test_a_killed_run_resumes_bit_for_bit(tmp_path):
    # Without labels: nothing is scored, which would take most of the time.
    images = np.random.default_rng(0).integers(0, 255, (256, 16, 16, 1), "uint8")
    np.savez(tmp_path / "images.npz", x=images)
    settings = ["--data", f"npz:{tmp_path}/images.npz?x=x", "--recipe", "byol_digits"]
    settings += ["--batch-size", "32", "--epochs", "3", "--deterministic"]
    settings += ["--checkpoint-steps", "3"]
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    run_all = command("pretrain", *settings, "--run-dir", str(whole))
    subprocess.run(run_all, check=True, env=environment(), capture_output=True)

    process = subprocess.Popen(
        command("pretrain", *settings, "--run-dir", str(broken)),
        env=environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    state = broken / "checkpoint" / "state.npz"
    deadline = time.monotonic() + 240
    while not state.exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert state.exists() and not (broken / "results.json").exists()
    with np.load(state) as archive:
        position = json.loads(archive["header"].tobytes())["position"]
    assert position["batch"] != 0, "killed between epochs, which shows less"

    resume = command("pretrain", "--resume", "--run-dir", str(broken))
    subprocess.run(resume, check=True, env=environment(), capture_output=True)
    first, second = (np.load(f / "checkpoint" / "state.npz") for f in (whole, broken))
    assert set(first.files) == set(second.files)
    for name in first.files:
        assert (first[name] == second[name]).all(), name
    rows = (broken / "metrics.csv").read_text().splitlines()
    assert [row.split(",")[0] for row in rows[1:]] == ["0", "1", "2"]
