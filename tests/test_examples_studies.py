# SPDX-License-Identifier: Apache-2.0
"""The programs in examples/ that measure something, at small size and in this process."""

import importlib.util
import json
import pathlib

import numpy as np
import pytest
from PIL import Image

import keras_ssl

EXAMPLES = pathlib.Path(keras_ssl.__file__).parents[1] / "examples"

pytestmark = pytest.mark.usefixtures("without_graphs")


def example(name):
    """The module of a program."""
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def rows_of(printed):
    """Cells of the lines of a Markdown table, by the first."""
    lines = [line for line in printed.splitlines() if line.startswith("| ")]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return {row[0]: row[1:] for row in cells}


def coloured_folder(folder, count):
    """Class folders of noisy images whose classes are colours."""
    rng = np.random.default_rng(0)
    for channel, name in enumerate(("red", "green", "blue")):
        (folder / name).mkdir(parents=True)
        for index in range(count):
            image = rng.integers(0, 120, (16, 16, 3))
            image[..., channel] += 120
            Image.fromarray(image.astype("uint8")).save(folder / name / f"{index}.png")
    return folder


@pytest.mark.slow
def test_labels_of_a_folder_become_curves(tmp_path, capsys, monkeypatch):
    program = example("label_efficiency")
    seen, curve = [], program.curve
    monkeypatch.setattr(program, "curve", lambda *given: seen.append(given[0]) or curve(*given))
    folder = coloured_folder(tmp_path / "images", 10)
    common = ["--data", f"folder:{folder}", "--size", "16", "--draws", "2"]
    first, second = tmp_path / "first", tmp_path / "second"
    program.main([*common, "--steps", "2", "--batch-size", "8", "--output", str(first)])
    rows = rows_of(capsys.readouterr().out)
    # Two of ten images are held out: ten of each class are not there.
    assert list(rows) == ["labels", "1 per class", "5 per class", "1%", "10%", "100%"]
    assert [row[0] for row in list(rows.values())[1:]] == ["3", "15", "3", "3", "24"]
    assert rows["100%"][3] == "1.000" and "±" in rows["5 per class"][1]
    assert (first / "label_efficiency.png").stat().st_size > 10_000
    trained, untrained, raw = seen
    assert np.abs(trained - untrained).max() > 1e-3 and raw.shape == (24, 16 * 16 * 3)

    # The saved encoder takes the place of training.
    program.main([*common, "--encoder", str(first / "encoder.keras"), "--output", str(second)])
    np.testing.assert_allclose(seen[3], trained, atol=1e-5)
    np.testing.assert_allclose(seen[4], untrained, atol=1e-5)
    curves = json.loads((second / "label_efficiency.json").read_text())["curves"]
    assert len(curves["pre-trained"]["10%"]["accuracy"]) == 2
    assert not (second / "encoder.keras").exists()


def test_images_without_labels_are_told(tmp_path):
    folder = coloured_folder(tmp_path / "images", 2) / "red"
    options = ["--data", f"folder:{folder}", "--size", "16", "--output", str(tmp_path / "out")]
    with pytest.raises(SystemExit, match="class folders"):
        example("label_efficiency").main(options)
