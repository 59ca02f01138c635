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

pytestmark = pytest.mark.usefixtures("eagerly")


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


def fake_runs(program, monkeypatch, stop_after=None):
    """Replaces training by numbers: accuracy grows with RankMe but for the best run."""
    trained = []

    def train(source, temperature, rate, *others):
        if len(trained) == stop_after:
            raise KeyboardInterrupt
        trained.append((temperature, rate))
        return program.RUNS.index((temperature, rate))

    def measure(index, source, rows):
        accuracy = 0.9 if index == 0 else 0.3 + 0.01 * index
        names = program.MEASURES
        return {"accuracy": accuracy, **dict.fromkeys(names, float(index)), names[3]: index / 3}

    monkeypatch.setattr(program, "train", train)
    monkeypatch.setattr(program, "measure", measure)
    return trained


def test_measures_are_judged_and_a_stopped_program_goes_on(tmp_path, capsys, monkeypatch):
    program = example("choose_by_rank_me")
    options = ["--data", "digits", "--images", "40", "--output", str(tmp_path)]
    assert len(program.RUNS) >= 12
    fake_runs(program, monkeypatch, stop_after=5)
    with pytest.raises(KeyboardInterrupt):
        program.main(options)
    trained = fake_runs(program, monkeypatch)
    program.main(options)
    assert trained == list(program.RUNS[5:])
    rows = rows_of(capsys.readouterr().out)
    assert all(f"{temperature}, {rate}" in rows for temperature, rate in program.RUNS)
    # The best of 12 is ranked last: 1 - 6 (11² + 11 · 1²) / (12 (12² - 1)).
    judged = json.loads((tmp_path / "rank_me.json").read_text())["judged"]
    for name in program.MEASURES[:3]:
        assert judged[name]["spearman"] == pytest.approx(1 - 6 * 132 / 1716)
        low, high = judged[name]["interval"]
        assert low < judged[name]["spearman"] < high == pytest.approx(1.0)
        assert judged[name]["regret"] == pytest.approx(0.9 - 0.41)
    # Best where it is 1, the fourth run.
    assert judged["alpha-ReQ"]["regret"] == pytest.approx(0.9 - 0.33)
    assert (tmp_path / "rank_me.png").stat().st_size > 10_000
    with pytest.raises(SystemExit, match="another --output"):
        program.main([*options, "--steps", "7"])


def test_a_run_is_measured_on_halves_of_the_test_part():
    program = example("choose_by_rank_me")
    source = keras_ssl.data.load("digits", limit=64)
    rows = np.arange(len(source.test))
    model = program.train(source, 0.15, 1e-3, 2, 32)
    assert model.temperature == 0.15 and int(model.optimizer.iterations) == 2
    found = program.measure(model, source, rows)
    assert list(found) == ["accuracy", *program.MEASURES]
    assert found["accuracy"] > 0.2 and 1 < found["LiDAR"] < 256 and found["alpha-ReQ"] > 0
    assert 1 < found["RankMe of projections"] < 128 and 1 < found["RankMe"] < 180
    # What is measured without labels does not see the other half, nor any label.
    changed = keras_ssl.data.Source(source.images, source.labels, test=source.test)
    changed.test.images[180:] = 0
    again = program.measure(model, changed, rows)
    assert again["RankMe"] == pytest.approx(found["RankMe"], rel=1e-5)
    assert again["accuracy"] < 0.2


def test_the_schedule_of_the_second_part_goes_on_from_before_annealing():
    schedule = example("continual_pretraining").schedule
    rates = [np.asarray(schedule("infinite", 100, part)(np.arange(181))) for part in (0, 1)]
    np.testing.assert_array_equal(rates[0][:81], rates[1][:81])
    np.testing.assert_allclose(rates[1][30:161], 5e-4, rtol=1e-6)
    # Both parts end annealed, the second after a hundred updates of its own.
    np.testing.assert_allclose([rates[0][100], rates[1][180]], 5e-5, rtol=1e-5)
    again = np.asarray(schedule("repeated cosine", 100, 1)(np.arange(200)))
    assert again[99] < 1e-5 and again[100] == 0 and again[105] == pytest.approx(2e-3)


@pytest.mark.slow
def test_parts_are_learned_one_after_the_other(tmp_path, capsys, monkeypatch):
    program = example("continual_pretraining")
    load, loaded = program.keras_ssl.load_model, []

    def load_model(path):
        loaded.append(load(path))
        assert int(loaded[-1].optimizer.iterations) == 4
        return loaded[-1]

    monkeypatch.setattr(program.keras_ssl, "load_model", load_model)
    first = ["--first", "0", "1", "2", "3", "4"]
    small = ["--data", "digits", "--images", "60", "--steps", "5", "--batch-size", "8"]
    program.main([*first, *small, "--seeds", "0", "--output", str(tmp_path)])
    # Four updates before annealing, then five on the other digits.
    assert [int(model.optimizer.iterations) for model in loaded] == [9]
    results = json.loads((tmp_path / "continual.json").read_text())["results"]
    rows = rows_of(capsys.readouterr().out)
    for kind in ("infinite", "repeated cosine"):
        before, after = results[kind]["0"]
        # Among five classes, unlike among ten, a guess is right in a fifth.
        assert min(before["first"], before["second"]) > 0.3
        forgotten = float(rows[kind][2])
        assert forgotten == pytest.approx(before["first"] - after["first"], abs=6e-4)
        assert float(rows[kind][4]) == pytest.approx(after["all"], abs=6e-4)
    assert results["infinite"] != results["repeated cosine"]
    assert (tmp_path / "continual.png").stat().st_size > 10_000


def test_classes_of_a_part_are_held_out_too():
    source = keras_ssl.data.load("digits", limit=60)
    part = example("continual_pretraining").of_classes(source, [1, 7])
    assert set(part.labels) == set(part.test.labels) == {1, 7}
    assert len(part.images) == len(part.labels) == 12
