# SPDX-License-Identifier: Apache-2.0
"""`keras-ssl compare`: the same encoder, data and steps for all, and nothing lost."""

import json
import os
import pathlib
import types

import numpy as np
import pytest
from PIL import Image

from keras_ssl import cli, recipes, run
from keras_ssl.run import comparison, comparison_page, contender, memory

FAST = ["--limit", "48", "--batch-size", "48"]


@pytest.fixture
def here(monkeypatch):
    """Methods run in this process; BYOL is lost after SimCLR has been written."""
    seen = []

    def apart(function, *arguments):
        if function is contender.train:
            settings, path, _ = arguments
            seen.append(settings)
            if settings.method == "BYOL":
                written = json.loads((pathlib.Path(path).parent / "compare.json").read_text())
                assert list(written["rows"]) == ["untrained", "SimCLR"]
                raise RuntimeError("lost on the way")
            return function(settings, path, 0)
        return function(*arguments)

    monkeypatch.setattr(comparison, "apart", apart)
    return seen


def test_a_failure_loses_nothing(here, without_graphs, tmp_path, capsys):
    output = tmp_path / "out"
    options = ["--methods", "sim-clr,BYOL", "--steps", "2", "--output", str(output)]
    assert cli.main(["compare", *options, *FAST]) == 1
    content = json.loads((output / "compare.json").read_text())
    rows = content["rows"]
    assert list(rows) == ["untrained", "SimCLR", "BYOL"]
    assert rows["BYOL"] == {"failed": "lost on the way"}
    assert "RuntimeError: lost on the way" in (output / "BYOL" / "error.txt").read_text()
    for name in ("untrained", "SimCLR"):
        low, high = rows[name]["knn"]["interval"]
        assert 0 <= low <= rows[name]["knn"]["accuracy"] <= high <= 1
        assert 1 < rows[name]["rank_me"] <= rows[name]["width"] == 128
    assert rows["untrained"]["linear"]["above_untrained"] == [0, 0]
    assert rows["SimCLR"]["steps"] == 2 and rows["SimCLR"]["seconds"] > 0
    assert (
        rows["SimCLR"]["memory"] == rows["SimCLR"]["memory_peak"] - rows["SimCLR"]["memory_before"]
    )
    table = comparison_page.table(content)
    assert table in (output / "compare.md").read_text() and table in capsys.readouterr().out
    assert "failed: lost on the way" in table.splitlines()[-1]
    assert Image.open(output / "compare.png").size[0] > 1000
    # One step an epoch: schedules are as long as the two steps, not as the recipe's own.
    config = json.loads((output / "SimCLR" / "config.json").read_text())
    assert config["settings"]["epochs"] == 2 and config["settings"]["seed"] == 0
    source, _, encoder = run.report.open_run(str(output / "SimCLR"))
    assert encoder(source.images[:2]).shape == (2, 128)
    assert {(own.backbone, own.batch_size, own.steps) for own in here} == {("convnet", 48, 2)}


def test_methods_that_cannot_take_part_are_told_at_once(here, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    images = np.random.default_rng(0).integers(0, 255, (64, 16, 16, 1), "uint8")
    np.savez(tmp_path / "bare.npz", x=images)
    methods = "SimCLR,SimCRL,LVMAE,SupCon,MaskAlign,SimMIM,Noise2Score"
    data = f"npz:{tmp_path}/bare.npz?x=x"
    assert cli.main(["compare", "--methods", methods, "--data", data, "--batch-size", "32"]) == 2
    said = capsys.readouterr().err
    assert said.startswith("keras-ssl: 6 of 7 methods cannot take part, so none was trained.")
    reasons = dict(line.strip().split(": ", 1) for line in said.splitlines()[1:])
    for name, reason in {
        "SimCRL": "Did you mean SimCLR",
        "LVMAE": "no method of images alone",
        "SupCon": "has no labels",
        "MaskAlign": "needs teacher",
        "SimMIM": "encoder must be a backbones.TokenTransformer",
        "Noise2Score": "has no recipe",
    }.items():
        assert reason in reasons.pop(name)
    assert not reasons and not here and not os.path.exists("runs")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--methods", " , "], "names no method"),
        (["--methods", "SimCLR", "--data", "nothing"], "digits, tfds:NAME"),
        (["--methods", "SimCLR", "--backbone", "resnet19"], "resnet18"),
        (["--methods", "SimCLR", "--output", "."], "not empty"),
    ],
)
def test_mistakes_are_told(options, said, here, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "something").touch()
    assert cli.main(["compare", *options]) == 2
    assert said in capsys.readouterr().err and not here


def test_all_have_the_same_encoder_that_one_of_the_recipes_knows(monkeypatch):
    """MAE's own has a class token, which I-JEPA refuses; I-JEPA's suits both."""

    def build(settings, source):
        if settings.method == "IJEPA" and settings.backbone_options.get("class_token", True):
            raise ValueError("no class token")
        return types.SimpleNamespace(standalone_encoder=lambda: None), None

    monkeypatch.setattr(contender, "build_model", build)
    monkeypatch.setattr(contender, "measured", lambda encoder, source, row: None)
    settings = run.Settings(limit=32, image_size=32, batch_size=16)
    start = contender.prepare(["MAE", "IJEPA"], settings)
    assert not start.refused
    own = {name: recipes.get(f"{name.lower()}_cifar").backbone_options for name in start.settings}
    assert own["MAE"] != own["IJEPA"]
    for found in start.settings.values():
        assert (found.backbone, found.backbone_options) == ("vit_tiny", own["IJEPA"])


def test_arguments_reach_an_encoder_that_is_not_the_recipes_own():
    options = {"backbone": "convnet", "backbone_options": {"stem_stride": 2}}
    model = recipes.get("dcl_cifar").build((16, 16, 1), **options, projector=(16, 8))
    strides = [layer.strides for layer in model.encoder.layers if hasattr(layer, "strides")]
    assert strides[0] == (2, 2)


def test_a_diverged_encoder_is_an_error():
    import keras

    inputs = keras.Input((16, 16, 1))
    broken = keras.Model(inputs, keras.layers.Flatten()(inputs) * float("nan"))
    source = run.training.load_data(run.Settings(limit=32))
    with pytest.raises(ValueError, match="diverged"):
        contender.measured(broken, source, {})


def test_without_labels_there_are_no_accuracies():
    content = {
        "settings": {"steps": 2, "batch_size": 8, "backbone": "convnet", "seed": 0},
        "data": {"rows": 64, "name": "bare", "test_rows": None},
        "normalised_as": "SimCLR",
        "without_accuracies": "bare has no held-out test part",
        "rows": {
            "untrained": {"width": 8, "rank_me": 3.0},
            "SimCLR": {"rank_me": 4.0, "seconds": 1.5, "memory": 5e7, "memory_before": 6e8},
            "A|B": {"failed": "x | y"},
        },
    }
    content["settings"]["backbone_options"] = None
    page = comparison_page.page(content)
    assert "No accuracies: bare has no held-out test part." in page and "kNN" not in page
    assert "| SimCLR    | 4.0" in page and "the 600 MB" in page and "x \\| y" in page
    assert comparison_page.picture(content).size[1] > 100


def test_the_peak_of_memory_starts_anew():
    np.ones(60_000_000, "uint8")
    before = memory.resident()
    if not memory.STATUS.exists():
        pytest.skip("this system does not tell a process its memory")
    block = np.ones(40_000_000, "uint8")
    grown = memory.peak() - before
    assert block.nbytes * 0.9 < grown < block.nbytes + 15_000_000


@pytest.mark.slow
def test_a_method_has_a_process_of_its_own(tmp_path):
    options = ["--methods", "VICReg", "--steps", "2", "--output", str(tmp_path / "out")]
    assert cli.main(["compare", *options, *FAST]) == 0
    rows = json.loads((tmp_path / "out" / "compare.json").read_text())["rows"]
    assert rows["VICReg"]["steps"] == 2 and rows["VICReg"]["memory"] > 10e6


@pytest.mark.slow
def test_a_process_that_is_ended_from_outside_is_told():
    with pytest.raises(RuntimeError, match="ended from outside"):
        comparison.apart(os._exit, 3)
    with pytest.raises(ValueError, match="invalid literal"):
        comparison.apart(int, "x")
