# SPDX-License-Identifier: Apache-2.0
"""What T-JEPA learns on tables, beside a linear model of the columns and the encoder untrained.

    python benchmarks/tables_quality.py --data-dir DIR [--tasks adult california] [--seeds 0 1 2]
        [--registers 1] [--write docs/benchmarks/tables_quality.md]

DIR holds `tabular/adult.npz` and `tabular/california_housing.npz`. The same linear probe is fitted
on the columns themselves, one-hot and standardised, on the untrained encoder and on the trained
one, which stays frozen; gradient boosting on the columns stands beside.
"""

import dataclasses
import os
import pathlib
import textwrap
import time
from collections.abc import Callable
from typing import Any

# On CPUs without AVX-512 TensorFlow leaves it off, and convolutions take longer.
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")

import numpy as np
from predictive_quality import over_seeds, parser_for
from quality import spread

HEADS, DEPTH, PREDICTOR = 4, 2, (32, 1, 4)


@dataclasses.dataclass(frozen=True)
class Task:
    """A table and how a model is trained on it.

    Args:
        load: from the data folder to training and test columns, names of those that hold codes,
            and training and test labels.
        classes: whether labels are classes; else numbers.
        steps: optimizer steps.
        width: of a token.
        batch: rows of a step.
        rate: peak learning rate.
        momentum: of the teacher at the start; it rises to 1 by half a cosine.
    """

    load: Callable[[pathlib.Path], tuple]
    classes: bool
    steps: int
    width: int = 32
    batch: int = 128
    rate: float = 3e-3
    momentum: float = 0.99

    @property
    def measure(self) -> str:
        """What is reported: a share of right answers, or the root of the mean squared error."""
        return "accuracy" if self.classes else "RMSE"


def adult(folder: pathlib.Path) -> tuple:
    """Whether a person earns more than 50,000 dollars: 6 numbers and 8 categories."""
    with np.load(folder / "tabular" / "adult.npz") as z:
        numbers, codes = z["num_names"].tolist(), z["cat_names"].tolist()
        parts = []
        for part in ("train", "test"):
            values, categories = z[f"{part}_num"], z[f"{part}_cat"]
            frame = {name: values[:, index] for index, name in enumerate(numbers)}
            parts.append(frame | {name: categories[:, i] for i, name in enumerate(codes)})
        return *parts, codes, z["train_y"].astype("int64"), z["test_y"].astype("int64")


def california(folder: pathlib.Path) -> tuple:
    """The median price of houses of a block: 8 numbers and how near the ocean is."""
    with np.load(folder / "tabular" / "california_housing.npz") as z:
        test, names = z["is_test"], z["num_names"].tolist()
        values, near, y = z["X"], z["ocean_names"][z["ocean_proximity"]], z["y"]
    frame = {name: values[:, index] for index, name in enumerate(names)} | {"ocean": near}
    parts = [{name: column[rows] for name, column in frame.items()} for rows in (~test, test)]
    return *parts, (), y[~test], y[test]


TASKS = {
    "adult": Task(adult, True, 3000),
    "california": Task(california, False, 3000),
}


def table(task: Task, folder: pathlib.Path) -> tuple:
    """Inputs of both parts by the schema of the first, the schema, and the labels of both."""
    from keras_ssl import data

    frame, test_frame, codes, y, test_y = task.load(folder)
    inputs, schema = data.from_dataframe(frame, categorical=codes)
    return inputs, data.from_dataframe(test_frame, schema)[0], schema, y, test_y


def model_of(schema, task: Task, seed: int = 0, steps: int | None = None, registers: int = 1):
    """T-JEPA with a small encoder."""
    from keras_ssl import backbones, models, schedules, tokens

    options = {"class_token": False, "registers": registers, "pooling": "concat", "seed": seed}
    # Tokens of columns differ by their weights. Positions would be the larger part of them at
    # first, and what is the same for all rows is the easiest thing to agree on.
    options["positions"] = "none"
    tokenizer = tokens.FeatureTokenizer(
        len(schema.numeric), schema.cardinalities, task.width, seed=seed, missing=True
    )
    encoder = backbones.TokenTransformer(tokenizer, schema.shapes, DEPTH, HEADS, **options)
    momentum = schedules.CosineMomentum(task.momentum, total_steps=steps or task.steps)
    return models.TJEPA(encoder, None, PREDICTOR, momentum, watch=0, seed=seed)


def train(model, inputs, task: Task, seed: int = 0, steps: int | None = None) -> float:
    """Trains with AdamW and a cosine; the seconds that it took."""
    from keras_ssl import data, optimizers, schedules

    steps = steps or task.steps
    rate = schedules.WarmupCosine(task.rate, total_steps=steps, warmup_steps=steps // 10)
    model.compile(optimizers.AdamW(rate, weight_decay=0.0))
    feed = data.EpochData(
        inputs, task.batch, seed=seed, drop_remainder=True, check_finite="missing"
    )
    began = time.perf_counter()
    # One epoch of all steps: ends of epochs cost time.
    model.fit(feed.stream(), steps_per_epoch=steps, verbose=0)
    return time.perf_counter() - began


def columns(inputs) -> np.ndarray:
    """The columns of a table for a linear model: numbers, NaN as 0, and one column per category."""
    found = []
    if "numeric" in inputs:
        found.append(np.nan_to_num(inputs["numeric"]))
    for codes in inputs.get("categorical", np.empty((0, 0))).T:
        found.append((codes[:, None] == np.arange(codes.max() + 1)).astype("float32"))
    return np.concatenate(found, axis=1)


def both_columns(inputs, test) -> tuple[np.ndarray, np.ndarray]:
    """`columns` of both parts, which have the categories of both."""
    whole = columns({name: np.concatenate([inputs[name], test[name]]) for name in inputs})
    rows = len(next(iter(inputs.values())))
    return whole[:rows], whole[rows:]


def linear(task: Task, x, y, test_x, test_y) -> float:
    """Accuracy of a logistic or RMSE of a ridge regression on standardised features."""
    from sklearn.linear_model import LogisticRegression, Ridge
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    probe = LogisticRegression(C=0.1, max_iter=200, tol=1e-3) if task.classes else Ridge(10.0)
    return scored(task, make_pipeline(StandardScaler(), probe), x, y, test_x, test_y)


def boosting(task: Task, x, y, test_x, test_y) -> float:
    """The same of gradient boosting."""
    from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor

    kind = HistGradientBoostingClassifier if task.classes else HistGradientBoostingRegressor
    return scored(task, kind(random_state=0), x, y, test_x, test_y)


def scored(task: Task, probe: Any, x, y, test_x, test_y) -> float:
    """Accuracy or RMSE on the test part of what is fitted on the other."""
    found = probe.fit(x, y).predict(test_x)
    if task.classes:
        return float(np.mean(found == test_y))
    return float(np.sqrt(np.mean((found - test_y.astype("float64")) ** 2)))


def run(
    name: str,
    folder: pathlib.Path,
    seed: int = 0,
    steps: int | None = None,
    registers: int = 1,
    beside: bool = True,
) -> dict[str, float]:
    """Trains on one table.

    Args:
        name: a key of `TASKS`.
        folder: of the data.
        seed: of weights, masks and order.
        steps: in place of the task's own.
        registers: of the encoder.
        beside: whether gradient boosting is run too.

    Returns:
        `trained`, `untrained`, `columns` and `boosting`, in the task's measure, `rank_me` of the
        trained representation of test rows, `steps` and `seconds`.
    """
    import keras

    from keras_ssl import metrics

    keras.utils.set_random_seed(seed)
    task = TASKS[name]
    inputs, test, schema, y, test_y = table(task, folder)
    model = model_of(schema, task, seed, steps, registers)

    def features() -> list:
        return [model.predict(part, batch_size=1000, verbose=0) for part in (inputs, test)]

    def probe(parts) -> float:
        return linear(task, parts[0], y, parts[1], test_y)

    found: dict[str, float] = {"steps": steps or task.steps, "untrained": probe(features())}
    found["seconds"] = train(model, inputs, task, seed, steps)
    made = features()
    found |= {"trained": probe(made), "rank_me": float(metrics.rank_me(made[1][:2000]))}
    raw = both_columns(inputs, test)
    found["columns"] = probe(raw)
    if beside:
        found["boosting"] = boosting(task, raw[0], y, raw[1], test_y)
    return found


def page(results: dict[str, dict[str, dict[str, float]]]) -> str:
    """The page of the documentation."""
    text = (
        "What T-JEPA learns on tables without labels, by `python benchmarks/tables_quality.py "
        "--data-dir DIR --write docs/benchmarks/tables_quality.md`: a linear probe (logistic or "
        "ridge regression) on the frozen tokens of all columns, beside the same probe on the same "
        "encoder untrained and on the columns themselves, one-hot and standardised, and gradient "
        "boosting on these. Accuracy on Adult, higher is better; RMSE in dollars on California "
        "housing, lower is better; of several seeds mean ± standard deviation. Untrained tokens of "
        "so small a table are good features already, and what training adds is little. "
        f"{DEPTH} blocks, AdamW; seconds on one CPU core that did other work besides."
    )
    head = ["table", "seeds", "steps", "T-JEPA", "untrained", "columns", "boosting", "RankMe", "s"]
    lines = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    for name, seeds in results.items():
        rows, digits = list(seeds.values()), 4 if TASKS[name].classes else 0
        cells = [str(len(rows)), str(rows[0]["steps"])]
        for kind in ("trained", "untrained", "columns", "boosting"):
            cells.append(spread([row[kind] for row in rows], digits))
        cells += [spread([row[kind] for row in rows], 0) for kind in ("rank_me", "seconds")]
        lines.append(f"| {name}, {TASKS[name].measure} | {' | '.join(cells)} |")
    wrapped = "\n".join(textwrap.wrap(text, 100))
    return "\n\n".join(["# Tables", wrapped, "\n".join(lines)])


def main() -> None:
    """Runs what the command line asks for."""
    parser = parser_for(str(__doc__), "--tasks", TASKS, None)
    parser.add_argument("--registers", type=int, default=1)
    asked = parser.parse_args()

    def measure(name: str, seed: int) -> dict[str, float]:
        return run(name, asked.data_dir, seed, asked.steps, asked.registers)

    over_seeds(asked.tasks, asked.seeds, measure, asked.write, page, TASKS)


if __name__ == "__main__":
    main()
